//! Errors for OAuth clients (RFC 6749 §5.2, RFC 7591 §3.2.2): `{"error": "invalid_grant", "error_description": "…"}`.

use axum::response::Response;
use serde_json::json;

use super::ApiError;

/// Returns the response with OAuth's name of the error.
pub fn body(error: &str, failure: ApiError) -> Response {
    let body = json!({ "error": error, "error_description": failure.client_message() }).to_string();
    failure.respond("application/json", body)
}
