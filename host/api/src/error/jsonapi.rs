//! Errors as JSON:API documents (<https://jsonapi.org/format/#error-objects>): `{"errors": [{"status", "title",
//! "detail", "source"}]}`.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{ApiError, ErrorSubject};
use crate::jsonapi::MEDIA_TYPE;

/// Returns the response with a JSON:API body.
pub fn body(failure: ApiError) -> Response {
    let document = json!({ "errors": [error(&failure)] }).to_string();
    failure.respond(MEDIA_TYPE, document)
}

/// Returns the error object. Cozy's clients expect `source` in each, even if empty.
pub fn error(failure: &ApiError) -> Value {
    let source = match failure.subject {
        ErrorSubject::Parameter(name) => json!({ "parameter": name }),
        ErrorSubject::Attribute(name) => json!({ "pointer": format!("/data/attributes/{name}") }),
        ErrorSubject::Access
        | ErrorSubject::Request
        | ErrorSubject::Document(_)
        | ErrorSubject::OAuth(_)
        | ErrorSubject::Server => json!({}),
    };
    let mut error = json!({
        "status": failure.status.as_str(),
        "title": title(failure),
        "detail": failure.client_message(),
        "source": source,
    });
    if let (Some(code), Some(members)) = (failure.code, error.as_object_mut()) {
        members.insert("code".to_owned(), json!(code));
    }
    error
}

fn title(failure: &ApiError) -> &'static str {
    match failure.subject {
        ErrorSubject::Parameter(_) if failure.status == StatusCode::PRECONDITION_FAILED => "Precondition Failed",
        ErrorSubject::Parameter(_) => "Invalid Parameter",
        ErrorSubject::Attribute(_) => "Invalid Attribute",
        ErrorSubject::Document(name) => name,
        ErrorSubject::Server => "Unqualified error",
        ErrorSubject::Access | ErrorSubject::Request | ErrorSubject::OAuth(_) => failure
            .status
            .canonical_reason()
            .unwrap_or_else(|| StatusCode::BAD_REQUEST.canonical_reason().unwrap_or_default()),
    }
}
