//! Errors of authentication and authorization: a text, or `{"error": "…"}` for clients that accept `application/json`.

use axum::response::Response;
use http::HeaderMap;
use http::header::ACCEPT;
use serde_json::json;

use super::{ApiError, ErrorSubject};

/// The response with only the message.
pub fn text(failure: ApiError) -> Response {
    let message = failure.client_message().to_owned();
    failure.respond("text/plain; charset=utf-8", message)
}

/// Whether a client asks for JSON. JSON:API's own media type does not count.
pub fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.into_iter().any(|value| value.contains("application/json"))
}

/// The response, with these errors written as JSON for clients that ask for it.
pub fn render(mut response: Response, wants_json: bool) -> Response {
    match response.extensions_mut().remove::<ApiError>() {
        Some(failure) if wants_json && failure.subject == ErrorSubject::Access => {
            let body = json!({ "error": failure.client_message() }).to_string();
            failure.respond("application/json", body)
        }
        _ => response,
    }
}
