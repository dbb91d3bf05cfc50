//! Errors of operations: the statuses that are common to all operations of a kind, and the bodies.

use aide::axum::ApiRouter;
use aide::generate::in_context;
use aide::openapi::{MediaType, Operation, ReferenceOr, Response, SchemaObject, StatusCode};
use schemars::{JsonSchema, Schema, json_schema};

use super::operations;
use super::types::named;
use crate::jsonapi;

/// Format of the errors of a group of routes; [`error`](crate::error) writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    /// JSON:API; access errors are plain text or JSON.
    JsonApi,
    /// CouchDB's format.
    Couch,
}

/// Errors of operations that require a token.
const ACCESS: [(u16, &str); 4] = [
    (400, "The request is malformed, or its token is invalid or has expired"),
    (401, "The token is missing"),
    (403, "The token's permissions do not allow the request"),
    (404, "The resource does not exist, or no instance has this host name"),
];
/// Errors of operations that take a body.
const BODY: [(u16, &str); 2] = [(400, "The body is malformed"), (413, "The body is too large")];
/// Errors of operations that write.
const WRITES: [(u16, &str); 1] = [(507, "The disk is nearly full")];
/// Errors of all operations.
const ALWAYS: [(u16, &str); 2] = [
    (429, "Too many requests; the header Retry-After says when to try again"),
    (503, "The request took too long, or the server is temporarily unavailable"),
];

/// Adds an error to an operation, unless it is described already.
pub fn add_error(operation: &mut Operation, status: u16, description: &str) {
    let response = || ReferenceOr::Item(Response { description: description.to_owned(), ..Response::default() });
    let responses = &mut operation.responses.get_or_insert_default().responses;
    responses.entry(StatusCode::Code(status)).or_insert_with(response);
}

/// Describes the errors of a group of routes; errors that have a body already are unchanged.
pub fn with_errors<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>, format: ErrorFormat) -> ApiRouter<S> {
    routes.with_path_items(|mut item| {
        for (method, operation) in operations(item.inner_mut()) {
            let access: &[_] = if operation.security.is_empty() { &[] } else { &ACCESS };
            let body: &[_] = if operation.request_body.is_none() { &[] } else { &BODY };
            let writes: &[_] = if matches!(method, "get" | "head") { &[] } else { &WRITES };
            for (status, description) in access.iter().chain(body).chain(writes).chain(&ALWAYS) {
                add_error(operation, *status, description);
            }
            add_common_errors(operation, format);
        }
        item
    })
}

/// Sets the body of each error.
fn add_common_errors(operation: &mut Operation, format: ErrorFormat) {
    for (status, response) in operation.responses.iter_mut().flat_map(|responses| &mut responses.responses) {
        if let (StatusCode::Code(status @ 400..), ReferenceOr::Item(response)) = (status, response)
            && response.content.is_empty()
        {
            response.content = bodies(*status, format)
                .into_iter()
                .map(|(media_type, json_schema)| {
                    let schema = Some(SchemaObject { json_schema, external_docs: None, example: None });
                    (media_type.to_owned(), MediaType { schema, ..MediaType::default() })
                })
                .collect();
        }
    }
}

/// Returns the media types and schemas of an error.
fn bodies(status: u16, format: ErrorFormat) -> Vec<(&'static str, Schema)> {
    let (text, json) =
        (("text/plain", json_schema!({ "type": "string" })), ("application/json", schema::<AccessError>()));
    let json_api = (jsonapi::MEDIA_TYPE, schema::<JsonApiErrors>());
    match (format, status) {
        (ErrorFormat::Couch, _) => vec![("application/json", schema::<CouchError>())],
        (ErrorFormat::JsonApi, 401 | 403) => vec![text, json],
        (ErrorFormat::JsonApi, 400) => vec![json_api, text, json],
        (ErrorFormat::JsonApi, _) => vec![json_api],
    }
}

fn schema<T: JsonSchema>() -> Schema {
    in_context(|ctx| ctx.schema.subschema_for::<T>())
}

struct JsonApiErrors;
named!(JsonApiErrors, {
    "type": "object", "required": ["errors"],
    "properties": { "errors": { "type": "array", "minItems": 1, "items": {
        "type": "object", "required": ["status", "title", "detail", "source"],
        "properties": {
            "status": { "type": "string" }, "title": { "type": "string" }, "detail": { "type": "string" },
            "source": {
                "type": "object",
                "properties": { "parameter": { "type": "string" }, "pointer": { "type": "string" } },
            },
        },
    } } },
});

struct AccessError;
named!(AccessError, {
    "type": "object", "required": ["error"], "properties": { "error": { "type": "string" } },
});

struct CouchError;
named!(CouchError, {
    "type": "object", "required": ["error"],
    "properties": {
        "ok": { "const": false },
        "status": { "type": "string" },
        "error": { "type": "string" },
        "reason": { "type": "string" },
    },
});
