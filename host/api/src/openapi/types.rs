//! Descriptions that are derived from the types that handlers take and return.

use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, RequestBody, Response, SchemaObject};
use aide::operation::set_body;
use aide::{OperationInput, OperationOutput};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::describe::response;
use super::errors;
use crate::error::ApiError;
use crate::extract::{Attributes, Caller, FormBody, HostInstance, JsonObject, Params};
use crate::jsonapi::{self, Document, PlainJson, Resource, SerializedDocument};

/// Gives a type a named schema in the description.
macro_rules! named {
    ($type:ident, $schema:tt $(,)?) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(super) use named;

impl OperationInput for Caller {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        super::require_token(operation);
    }
}

/// A handler that takes only this extractor requires an instance, but no token.
impl OperationInput for HostInstance {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        errors::add_error(operation, 400, "The request is malformed");
        errors::add_error(operation, 404, "The resource does not exist, or no instance has this host name");
    }
}

/// The parameters are described by [`Describe::query`](super::Describe::query).
impl OperationInput for Params {}

impl OperationInput for JsonObject {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        body(ctx, operation, "application/json", json_schema!({ "type": "object", "properties": {} }));
    }
}

impl OperationInput for Attributes {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = json_schema!({
            "type": "object", "required": ["data"],
            "properties": { "data": {
                "type": "object",
                "properties": { "attributes": { "type": "object", "properties": {} } },
            } },
        });
        body(ctx, operation, jsonapi::MEDIA_TYPE, schema);
        errors::add_error(operation, 422, "An attribute is invalid");
    }
}

impl OperationInput for FormBody {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        body(ctx, operation, "application/x-www-form-urlencoded", json_schema!({ "type": "object", "properties": {} }));
    }
}

fn body(ctx: &mut GenContext, operation: &mut Operation, media_type: &str, json_schema: Schema) {
    let schema = Some(SchemaObject { json_schema, external_docs: None, example: None });
    let content = [(media_type.to_owned(), MediaType { schema, ..MediaType::default() })].into_iter().collect();
    set_body(ctx, operation, RequestBody { content, required: true, ..RequestBody::default() });
}

impl OperationOutput for Document {
    type Inner = Self;

    fn operation_response(ctx: &mut GenContext, _: &mut Operation) -> Option<Response> {
        Some(response(jsonapi::MEDIA_TYPE, Some(ctx.schema.subschema_for::<Self>())))
    }

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Response)> {
        Self::operation_response(ctx, operation).map(|response| (Some(200), response)).into_iter().collect()
    }
}

impl OperationOutput for SerializedDocument {
    type Inner = Document;

    fn operation_response(ctx: &mut GenContext, operation: &mut Operation) -> Option<Response> {
        Document::operation_response(ctx, operation)
    }

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Response)> {
        Document::inferred_responses(ctx, operation)
    }
}

impl OperationOutput for PlainJson {
    type Inner = Self;

    fn operation_response(ctx: &mut GenContext, _: &mut Operation) -> Option<Response> {
        Some(response(jsonapi::MEDIA_TYPE, Some(ctx.schema.subschema_for::<Self>())))
    }

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Response)> {
        Self::operation_response(ctx, operation).map(|response| (Some(200), response)).into_iter().collect()
    }
}

named!(PlainJson, { "type": "object", "required": ["data"] });

impl JsonSchema for Document {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Document".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let resource = generator.subschema_for::<Resource>();
        json_schema!({
            "type": "object", "required": ["data"],
            "properties": {
                "data": { "anyOf": [resource, { "type": "array", "items": resource }] },
                "included": { "type": "array", "items": resource },
                "links": { "type": "object" },
                "meta": { "type": "object" },
            },
        })
    }
}

named!(Resource, {
    "type": "object", "required": ["type", "id", "attributes", "meta", "links"],
    "properties": {
        "type": { "type": "string" },
        "id": { "type": "string" },
        "attributes": { "type": "object" },
        "meta": { "type": "object", "properties": { "rev": { "type": "string" } } },
        "links": { "type": "object" },
        "relationships": { "type": "object" },
    },
});

/// The possible errors are derived from the handler's input types, and from its group of routes.
impl OperationOutput for ApiError {
    type Inner = Self;
}
