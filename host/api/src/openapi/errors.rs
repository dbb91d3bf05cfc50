//! How operations fail: the statuses that every operation of a kind may have, and the bodies of them all.

use aide::axum::ApiRouter;
use aide::generate::in_context;
use aide::openapi::{MediaType, Operation, ReferenceOr, Response, SchemaObject, StatusCode};
use schemars::{JsonSchema, Schema, json_schema};

use super::operations;
use super::types::named;
use crate::jsonapi;

/// The shape of the failures of a group of routes; [`error`](crate::error) writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    /// JSON:API; failures of access are texts.
    JsonApi,
    /// CouchDB's.
    Couch,
}

/// Failures of an operation that takes a token.
const ACCESS: [(u16, &str); 4] = [
    (400, "The request cannot be understood, or its token is none of ours or has expired"),
    (401, "There is no token"),
    (403, "The token's rules do not allow it"),
    (404, "There is no such thing, or no instance of this host name"),
];
/// Failures of an operation that takes a body.
const BODY: [(u16, &str); 2] = [(400, "The body cannot be understood"), (413, "The body is too large")];
/// Failures of an operation that writes.
const WRITES: [(u16, &str); 1] = [(507, "The disk is nearly full")];
/// Failures of every operation.
const ALWAYS: [(u16, &str); 2] = [
    (429, "There were too many requests; the header Retry-After says when to come again"),
    (503, "The server took too long, or cannot work at the moment"),
];

/// Adds an error to an operation, unless it is described already.
pub fn add_error(operation: &mut Operation, status: u16, what: &str) {
    let failure = || ReferenceOr::Item(Response { description: what.to_owned(), ..Response::default() });
    let responses = &mut operation.responses.get_or_insert_default().responses;
    responses.entry(StatusCode::Code(status)).or_insert_with(failure);
}

/// Describes the errors of a group of routes; errors that have a body already are unchanged.
pub fn with_errors<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>, shape: ErrorFormat) -> ApiRouter<S> {
    routes.with_path_items(|mut item| {
        for (method, operation) in operations(item.inner_mut()) {
            let access: &[_] = if operation.security.is_empty() { &[] } else { &ACCESS };
            let body: &[_] = if operation.request_body.is_none() { &[] } else { &BODY };
            let writes: &[_] = if matches!(method, "get" | "head") { &[] } else { &WRITES };
            for (status, what) in access.iter().chain(body).chain(writes).chain(&ALWAYS) {
                add_error(operation, *status, what);
            }
            add_common_errors(operation, shape);
        }
        item
    })
}

/// Sets the body of each error.
fn add_common_errors(operation: &mut Operation, shape: ErrorFormat) {
    for (status, response) in operation.responses.iter_mut().flat_map(|responses| &mut responses.responses) {
        if let (StatusCode::Code(status @ 400..), ReferenceOr::Item(response)) = (status, response)
            && response.content.is_empty()
        {
            response.content = bodies(*status, shape)
                .into_iter()
                .map(|(media_type, json_schema)| {
                    let schema = Some(SchemaObject { json_schema, external_docs: None, example: None });
                    (media_type.to_owned(), MediaType { schema, ..MediaType::default() })
                })
                .collect();
        }
    }
}

/// The media types and schemas of an error.
fn bodies(status: u16, shape: ErrorFormat) -> Vec<(&'static str, Schema)> {
    let (text, json) =
        (("text/plain", json_schema!({ "type": "string" })), ("application/json", schema::<AccessError>()));
    let usual = (jsonapi::MEDIA_TYPE, schema::<JsonApiErrors>());
    match (shape, status) {
        (ErrorFormat::Couch, _) => vec![("application/json", schema::<CouchError>())],
        (ErrorFormat::JsonApi, 401 | 403) => vec![text, json],
        (ErrorFormat::JsonApi, 400) => vec![usual, text, json],
        (ErrorFormat::JsonApi, _) => vec![usual],
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
            "source": { "type": "object", "properties": { "parameter": { "type": "string" }, "pointer": { "type": "string" } } },
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
        "ok": { "const": false }, "status": { "type": "string" }, "error": { "type": "string" }, "reason": { "type": "string" },
    },
});
