//! Descriptions of operations that cannot be derived from types; routes add them.

use aide::OperationOutput;
use aide::generate::{GenContext, in_context};
use aide::openapi::{MediaType, Operation, RequestBody, Response, SchemaObject};
use aide::operation::{ParamLocation, add_parameters, parameters_from_schema, set_body};
use aide::transform::TransformOperation;
use schemars::{Schema, json_schema};
use serde_json::Value;

use crate::sse;

/// Schema of a parameter or of a field of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaKind {
    String,
    /// A whole number that is not negative.
    Number,
    Boolean,
    /// A list of strings.
    Strings,
    /// A list of objects.
    Objects,
    Object,
    /// Any JSON value.
    Any,
}

impl SchemaKind {
    fn schema(self) -> Schema {
        match self {
            Self::String => json_schema!({ "type": "string" }),
            Self::Number => json_schema!({ "type": "integer", "minimum": 0 }),
            Self::Boolean => json_schema!({ "type": "boolean" }),
            Self::Strings => json_schema!({ "type": "array", "items": { "type": "string" } }),
            Self::Objects => json_schema!({ "type": "array", "items": { "type": "object" } }),
            Self::Object => json_schema!({ "type": "object" }),
            Self::Any => json_schema!({}),
        }
    }

    fn schema_with_description(self, description: &str) -> Value {
        let mut schema = self.schema();
        schema.insert("description".to_owned(), description.into());
        schema.to_value()
    }
}

/// Extends the description of an operation.
pub trait Describe: Sized {
    /// Adds a parameter of the query string.
    fn query(self, name: &str, kind: SchemaKind, description: &str) -> Self;
    /// Adds a header of the request.
    fn header(self, name: &str, description: &str) -> Self;
    /// Adds a field of the body; an attribute, if the body is a JSON:API document. The handler's extractor decides
    /// which.
    fn field(self, name: &str, kind: SchemaKind, description: &str) -> Self;
    /// Sets a body of any media type, which the handler reads as it arrives.
    fn binary_body(self, description: &str) -> Self;
    /// Adds a successful response. Replaces the response derived from the handler's type.
    fn success<const STATUS: u16, T: OperationOutput>(self, description: &str) -> Self;
    /// Adds an error in addition to those of every operation of its kind.
    fn error(self, status: u16, description: &str) -> Self;
}

impl Describe for TransformOperation<'_> {
    fn query(mut self, name: &str, kind: SchemaKind, description: &str) -> Self {
        parameter(self.inner_mut(), ParamLocation::Query, name, kind.schema_with_description(description));
        self
    }

    fn header(mut self, name: &str, description: &str) -> Self {
        parameter(
            self.inner_mut(),
            ParamLocation::Header,
            name,
            SchemaKind::String.schema_with_description(description),
        );
        self
    }

    fn field(mut self, name: &str, kind: SchemaKind, description: &str) -> Self {
        if let Some(Value::Object(fields)) = body_fields(self.inner_mut()) {
            fields.insert(name.to_owned(), kind.schema_with_description(description));
        }
        self
    }

    fn binary_body(mut self, description: &str) -> Self {
        let content = [("application/octet-stream".to_owned(), MediaType::default())].into_iter().collect();
        let body = RequestBody { description: Some(description.to_owned()), content, ..RequestBody::default() };
        in_context(|ctx| set_body(ctx, self.inner_mut(), body));
        self
    }

    fn success<const STATUS: u16, T: OperationOutput>(self, description: &str) -> Self {
        self.response_with::<STATUS, T, _>(|response| response.description(description))
    }

    fn error(mut self, status: u16, description: &str) -> Self {
        super::errors::add_error(self.inner_mut(), status, description);
        self
    }
}

/// Adds the fields of a query (<https://docs.couchdb.org/en/stable/api/database/find.html>).
pub fn query_fields(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.field("selector", SchemaKind::Object, "Selector of the documents")
        .field("limit", SchemaKind::Number, "Maximum number of documents on a page")
        .field("skip", SchemaKind::Number, "Number of documents to skip")
        .field("sort", SchemaKind::Any, "Fields to sort by, which need an index")
        .field("fields", SchemaKind::Strings, "Fields of the documents to return")
        .field("use_index", SchemaKind::Any, "Index to use")
        .field("bookmark", SchemaKind::String, "Bookmark of the previous page")
        .field("execution_stats", SchemaKind::Boolean, "Whether to return statistics of the execution")
}

fn parameter(operation: &mut Operation, location: ParamLocation, name: &str, schema: Value) {
    let schema = json_schema!({ "properties": { name: schema } });
    in_context(|ctx| {
        let parameter = parameters_from_schema(ctx, schema, location);
        add_parameters(ctx, operation, parameter);
    });
}

/// Returns the schemas of the fields of the operation's body; if it is a JSON:API document, of its attributes.
fn body_fields(operation: &mut Operation) -> Option<&mut Value> {
    let body = operation.request_body.as_mut()?.as_item_mut()?;
    let media = body.content.values_mut().next()?;
    let properties = media.schema.as_mut()?.json_schema.ensure_object().get_mut("properties")?;
    const ATTRIBUTES: &str = "/data/properties/attributes/properties";
    match properties.pointer(ATTRIBUTES).is_some() {
        true => properties.pointer_mut(ATTRIBUTES),
        false => Some(properties),
    }
}

/// Response with binary content of any media type.
#[derive(Debug, Clone, Copy)]
pub struct BinaryContent;

impl OperationOutput for BinaryContent {
    type Inner = Self;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<Response> {
        Some(response("*/*", None))
    }
}

/// Response with a stream of server-sent events.
#[derive(Debug, Clone, Copy)]
pub struct ServerSentEvents;

impl OperationOutput for ServerSentEvents {
    type Inner = Self;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<Response> {
        Some(response(sse::MEDIA_TYPE, Some(SchemaKind::String.schema())))
    }
}

/// Creates a response with a body.
pub fn response(media_type: &str, schema: Option<Schema>) -> Response {
    let schema = schema.map(|json_schema| SchemaObject { json_schema, external_docs: None, example: None });
    let media = MediaType { schema, ..MediaType::default() };
    Response { content: [(media_type.to_owned(), media)].into_iter().collect(), ..Response::default() }
}
