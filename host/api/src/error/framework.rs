//! Errors of authentication and authorization: a text, or `{"error": "…"}` for clients that accept `application/json`.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::ACCEPT;
use serde_json::json;

use super::{About, Failure};

/// The answer with the message alone.
pub fn text(failure: Failure) -> Response {
    let message = failure.told().to_owned();
    failure.respond("text/plain; charset=utf-8", message)
}

/// Layer that writes these errors as JSON for clients that ask for it. JSON:API's own media type does not count as asking.
pub async fn render(request: Request, next: Next) -> Response {
    let wants_json = request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/json"));
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Failure>() {
        Some(failure) if wants_json && failure.about == About::Access => {
            let body = json!({ "error": failure.told() }).to_string();
            failure.respond("application/json", body)
        }
        _ => response,
    }
}
