//! Errors as JSON:API documents (<https://jsonapi.org/format/#error-objects>): `{"errors": [{"status", "title", "detail", "source"}]}`.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{About, Failure};
use crate::jsonapi::MEDIA_TYPE;

/// The answer with a JSON:API body.
pub fn body(failure: Failure) -> Response {
    let document = json!({ "errors": [error(&failure)] }).to_string();
    failure.respond(MEDIA_TYPE, document)
}

/// The error object. Cozy's clients expect `source` in each, if only empty.
pub fn error(failure: &Failure) -> Value {
    let source = match failure.about {
        About::Parameter(name) => json!({ "parameter": name }),
        About::Attribute(name) => json!({ "pointer": format!("/data/attributes/{name}") }),
        About::Access | About::Request | About::Document(_) | About::OAuth(_) | About::Server => json!({}),
    };
    let mut error = json!({
        "status": failure.status.as_str(),
        "title": title(failure),
        "detail": failure.told(),
        "source": source,
    });
    if let (Some(code), Some(members)) = (failure.code, error.as_object_mut()) {
        members.insert("code".to_owned(), json!(code));
    }
    error
}

fn title(failure: &Failure) -> &'static str {
    match failure.about {
        About::Parameter(_) if failure.status == StatusCode::PRECONDITION_FAILED => "Precondition Failed",
        About::Parameter(_) => "Invalid Parameter",
        About::Attribute(_) => "Invalid Attribute",
        About::Document(name) => name,
        About::Server => "Unqualified error",
        About::Access | About::Request | About::OAuth(_) => failure
            .status
            .canonical_reason()
            .unwrap_or_else(|| StatusCode::BAD_REQUEST.canonical_reason().unwrap_or_default()),
    }
}
