//! Errors of authentication and authorization: plain text, or `{"error": "…"}` for clients that accept
//! `application/json`.

use axum::response::Response;
use http::HeaderMap;
use http::header::ACCEPT;
use serde_json::json;

use super::{ApiError, ErrorSubject};

/// Returns the response with only the message.
pub fn text(failure: ApiError) -> Response {
    let message = failure.client_message().to_owned();
    failure.respond("text/plain; charset=utf-8", message)
}

/// Returns whether a client accepts JSON. JSON:API's own media type does not count.
pub fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.into_iter().any(|value| value.contains("application/json"))
}

/// Returns the response; errors of access become JSON for clients that accept it.
pub fn render(mut response: Response, wants_json: bool) -> Response {
    match response.extensions_mut().remove::<ApiError>() {
        Some(failure) if wants_json && failure.subject == ErrorSubject::Access => {
            let body = json!({ "error": failure.client_message() }).to_string();
            failure.respond("application/json", body)
        }
        _ => response,
    }
}
