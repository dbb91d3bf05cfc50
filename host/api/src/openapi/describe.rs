//! What is said of an operation next to its route, because no type says it.

use aide::OperationOutput;
use aide::generate::{GenContext, in_context};
use aide::openapi::{MediaType, Operation, RequestBody, Response, SchemaObject};
use aide::operation::{ParamLocation, add_parameters, parameters_from_schema, set_body};
use aide::transform::TransformOperation;
use schemars::{Schema, json_schema};
use serde_json::Value;

use crate::sse;

/// What a parameter or a member of a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number from 0 on.
    Number,
    /// True or false.
    Flag,
    /// A list of texts.
    Texts,
    /// A list of objects.
    Objects,
    /// An object.
    Object,
    /// Any JSON.
    Any,
}

impl Kind {
    fn schema(self) -> Schema {
        match self {
            Self::Text => json_schema!({ "type": "string" }),
            Self::Number => json_schema!({ "type": "integer", "minimum": 0 }),
            Self::Flag => json_schema!({ "type": "boolean" }),
            Self::Texts => json_schema!({ "type": "array", "items": { "type": "string" } }),
            Self::Objects => json_schema!({ "type": "array", "items": { "type": "object" } }),
            Self::Object => json_schema!({ "type": "object" }),
            Self::Any => json_schema!({}),
        }
    }

    fn described(self, what: &str) -> Value {
        let mut schema = self.schema();
        schema.insert("description".to_owned(), what.into());
        schema.to_value()
    }
}

/// Adds to the description of an operation.
pub trait Describe: Sized {
    /// A parameter of the query string.
    fn query(self, name: &str, kind: Kind, what: &str) -> Self;
    /// A header of the request.
    fn header(self, name: &str, what: &str) -> Self;
    /// A member of the body; an attribute, where the body is a JSON:API document. The handler's extractor says which.
    fn member(self, name: &str, kind: Kind, what: &str) -> Self;
    /// The body is a content of any media type, which the handler reads as it comes.
    fn takes_content(self, what: &str) -> Self;
    /// An answer that is no failure. Replaces what follows from the handler's type.
    fn answers<const STATUS: u16, T: OperationOutput>(self, what: &str) -> Self;
    /// A failure besides those that every operation of its kind may have.
    fn fails(self, status: u16, what: &str) -> Self;
}

impl Describe for TransformOperation<'_> {
    fn query(mut self, name: &str, kind: Kind, what: &str) -> Self {
        parameter(self.inner_mut(), ParamLocation::Query, name, kind.described(what));
        self
    }

    fn header(mut self, name: &str, what: &str) -> Self {
        parameter(self.inner_mut(), ParamLocation::Header, name, Kind::Text.described(what));
        self
    }

    fn member(mut self, name: &str, kind: Kind, what: &str) -> Self {
        if let Some(Value::Object(members)) = members(self.inner_mut()) {
            members.insert(name.to_owned(), kind.described(what));
        }
        self
    }

    fn takes_content(mut self, what: &str) -> Self {
        let content = [("application/octet-stream".to_owned(), MediaType::default())].into_iter().collect();
        let body = RequestBody { description: Some(what.to_owned()), content, ..RequestBody::default() };
        in_context(|ctx| set_body(ctx, self.inner_mut(), body));
        self
    }

    fn answers<const STATUS: u16, T: OperationOutput>(self, what: &str) -> Self {
        self.response_with::<STATUS, T, _>(|response| response.description(what))
    }

    fn fails(mut self, status: u16, what: &str) -> Self {
        super::failures::add(self.inner_mut(), status, what);
        self
    }
}

/// What a query is made of (<https://docs.couchdb.org/en/stable/api/database/find.html>).
pub fn queried(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.member("selector", Kind::Object, "Which documents")
        .member("limit", Kind::Number, "Documents on a page")
        .member("skip", Kind::Number, "Documents to leave out")
        .member("sort", Kind::Any, "The fields to sort by, which need an index")
        .member("fields", Kind::Texts, "The members of the documents that are wanted")
        .member("use_index", Kind::Any, "The index to use")
        .member("bookmark", Kind::Text, "Where the page before ended")
        .member("execution_stats", Kind::Flag, "Whether to tell how the query went")
}

fn parameter(operation: &mut Operation, place: ParamLocation, name: &str, schema: Value) {
    let schema = json_schema!({ "properties": { name: schema } });
    in_context(|ctx| {
        let parameter = parameters_from_schema(ctx, schema, place);
        add_parameters(ctx, operation, parameter);
    });
}

/// The members of the operation's body.
fn members(operation: &mut Operation) -> Option<&mut Value> {
    let body = operation.request_body.as_mut()?.as_item_mut()?;
    let media = body.content.values_mut().next()?;
    let properties = media.schema.as_mut()?.json_schema.ensure_object().get_mut("properties")?;
    const ATTRIBUTES: &str = "/data/properties/attributes/properties";
    match properties.pointer(ATTRIBUTES).is_some() {
        true => properties.pointer_mut(ATTRIBUTES),
        false => Some(properties),
    }
}

/// An answer that is a content of some media type.
#[derive(Debug, Clone, Copy)]
pub struct Content;

impl OperationOutput for Content {
    type Inner = Self;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<Response> {
        Some(response("*/*", None))
    }
}

/// An answer that is a stream of events.
#[derive(Debug, Clone, Copy)]
pub struct Events;

impl OperationOutput for Events {
    type Inner = Self;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<Response> {
        Some(response(sse::MEDIA_TYPE, Some(Kind::Text.schema())))
    }
}

/// An answer with a body.
pub fn response(media_type: &str, schema: Option<Schema>) -> Response {
    let schema = schema.map(|json_schema| SchemaObject { json_schema, external_docs: None, example: None });
    let media = MediaType { schema, ..MediaType::default() };
    Response { content: [(media_type.to_owned(), media)].into_iter().collect(), ..Response::default() }
}
