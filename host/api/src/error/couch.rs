//! Errors of `/data` in the format of `CouchDB`: `{"ok": false, "status": "404", "error": "not_found", "reason":
//! "missing"}`. Errors of authentication and authorization are `{"error": "code=403, message=…"}`.

use aide::axum::ApiRouter;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{ApiError, ErrorSubject};
use crate::openapi::{self, ErrorFormat};

/// Formats the errors of these routes like `CouchDB`.
pub fn with_couch_errors<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> ApiRouter<S> {
    openapi::with_errors(routes, ErrorFormat::Couch).layer(middleware::from_fn(render))
}

/// Formats the errors of the wrapped routes, as a middleware.
async fn render(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<ApiError>() {
        Some(failure) => self::response(failure),
        None => response,
    }
}

/// Returns the response for an error, which no outer layer rewrites.
pub fn response(failure: ApiError) -> Response {
    let body = body(&failure).to_string();
    let mut response = failure.respond("application/json", body);
    response.extensions_mut().remove::<ApiError>();
    response
}

/// Returns whether the errors of a path have this format, for layers outside of [`with_couch_errors`].
pub fn is_couch_path(path: &str) -> bool {
    path.starts_with("/data/")
}

fn body(failure: &ApiError) -> Value {
    let status = failure.status.as_str();
    match failure.subject {
        ErrorSubject::Access => json!({ "error": format!("code={status}, message={}", failure.client_message()) }),
        _ => json!({ "ok": false, "status": status, "error": error_name(failure), "reason": failure.client_message() }),
    }
}

/// Returns `CouchDB`'s name of the error.
pub fn error_name(failure: &ApiError) -> &'static str {
    match (failure.subject, failure.status) {
        (ErrorSubject::Document(name), _) => name,
        (_, StatusCode::FORBIDDEN) => "forbidden",
        (_, StatusCode::NOT_FOUND) => "not_found",
        (_, StatusCode::CONFLICT) => "conflict",
        (_, StatusCode::PAYLOAD_TOO_LARGE) => "document_too_large",
        (_, StatusCode::METHOD_NOT_ALLOWED) => "method_not_allowed",
        (_, status) if status.is_client_error() => "bad_request",
        _ => "unknown_error",
    }
}
