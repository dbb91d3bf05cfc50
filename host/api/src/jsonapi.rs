//! Responses as JSON:API documents (<https://jsonapi.org/format/>), with Cozy's conventions.

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use konnector_platform::Platform;
use konnector_store::{DocRef, Map};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::ApiError;

/// The media type of JSON:API.
pub const MEDIA_TYPE: &str = "application/vnd.api+json";

/// Resource object of a JSON:API document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    attributes: Map,
    meta: Map,
    links: Map,
    #[serde(skip_serializing_if = "Map::is_empty")]
    relationships: Map,
}

impl Resource {
    /// Creates a resource with the fields of `value` as attributes, without the fields that begin with `_`, which are
    /// the platform's own.
    ///
    /// # Errors
    ///
    /// If `value` is not a JSON object, which cannot happen for the platform's types.
    pub fn new(kind: impl Into<String>, id: impl Into<String>, value: &impl Serialize) -> Result<Self, ApiError> {
        let (kind, id) = (kind.into(), id.into());
        match serde_json::to_value(value) {
            Ok(Value::Object(mut attributes)) => {
                attributes.retain(|name, _| !name.starts_with('_'));
                Ok(Self { kind, id, attributes, meta: Map::new(), links: Map::new(), relationships: Map::new() })
            }
            Ok(_) => Err(ApiError::server(format!("{kind}/{id} cannot be serialised: it is not a JSON object"))),
            Err(error) => Err(ApiError::server(format!("{kind}/{id} cannot be serialised: {error}"))),
        }
    }

    /// Creates the resource of a stored document, with its revision.
    ///
    /// # Errors
    ///
    /// As [`Resource::new`], and if the store fails.
    pub fn from_document(platform: &Platform, doc_ref: &DocRef, value: &impl Serialize) -> Result<Self, ApiError> {
        let resource = Self::new(doc_ref.doctype.as_str(), doc_ref.id.as_str(), value)?;
        Ok(match platform.documents().get_unchecked(doc_ref)? {
            Some(document) => resource.rev(&document.rev.to_string()),
            None => resource,
        })
    }

    /// Sets the revision; an empty revision is omitted.
    #[must_use]
    pub fn rev(mut self, rev: &str) -> Self {
        if !rev.is_empty() {
            self.meta.insert("rev".to_owned(), json!(rev));
        }
        self
    }

    /// Adds a link.
    #[must_use]
    pub fn link(mut self, name: &str, target: impl Into<String>) -> Self {
        self.links.insert(name.to_owned(), Value::String(target.into()));
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: Value) -> Self {
        self.attributes.insert(name.to_owned(), value);
        self
    }

    /// Removes an attribute.
    #[must_use]
    pub fn without_attribute(mut self, name: &str) -> Self {
        self.attributes.shift_remove(name);
        self
    }

    /// Removes all attributes except these.
    #[must_use]
    pub fn retain_attributes(mut self, names: &[String]) -> Self {
        self.attributes.retain(|name, _| names.contains(name));
        self
    }

    /// Adds a relationship.
    #[must_use]
    pub fn relationship(mut self, name: &str, value: Value) -> Self {
        self.relationships.insert(name.to_owned(), value);
        self
    }

    /// Returns the resource identifier object with which other resources refer to this one.
    #[must_use]
    pub fn identifier(&self) -> Value {
        json!({ "type": self.kind, "id": self.id })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Data {
    One(Box<Resource>),
    Many(Vec<Resource>),
}

/// Response with the status 200; for another status, return `(status, document)`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    data: Data,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    included: Vec<Resource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Map>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    meta: Map,
}

impl Document {
    /// Creates a document with one resource.
    #[must_use]
    pub fn one(resource: Resource) -> Self {
        Self { data: Data::One(Box::new(resource)), included: Vec::new(), links: None, meta: Map::new() }
    }

    /// Creates a document with one resource in an array, as for installations.
    #[must_use]
    pub fn array_of_one(resource: Resource) -> Self {
        Self { data: Data::Many(vec![resource]), included: Vec::new(), links: None, meta: Map::new() }
    }

    /// Creates a page of a list, with its count.
    #[must_use]
    pub fn list(resources: Vec<Resource>) -> Self {
        let mut meta = Map::new();
        meta.insert("count".to_owned(), json!(resources.len()));
        Self { data: Data::Many(resources), included: Vec::new(), links: Some(Map::new()), meta }
    }

    /// Sets a count other than that of the page.
    #[must_use]
    pub fn with_count(mut self, count: usize) -> Self {
        self.meta.insert("count".to_owned(), json!(count));
        self
    }

    /// Adds a field to `meta`.
    #[must_use]
    pub fn meta(mut self, name: &str, value: Value) -> Self {
        self.meta.insert(name.to_owned(), value);
        self
    }

    /// Sets the URL of the next page, if there is one.
    #[must_use]
    pub fn next(mut self, address: Option<String>) -> Self {
        if let Some(address) = address {
            self.links.get_or_insert_default().insert("next".to_owned(), Value::String(address));
        }
        self
    }

    /// Adds a link.
    #[must_use]
    pub fn link(mut self, name: &str, target: impl Into<String>) -> Self {
        self.links.get_or_insert_default().insert(name.to_owned(), Value::String(target.into()));
        self
    }

    /// Sets the resources that the document refers to.
    #[must_use]
    pub fn with_included(mut self, resources: Vec<Resource>) -> Self {
        self.included = resources;
        self
    }
}

/// Response with the media type of JSON:API whose items are not complete resource objects.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainJson(pub Value);

impl IntoResponse for PlainJson {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, MEDIA_TYPE)], self.0.to_string()).into_response()
    }
}

impl Document {
    /// Serialises the response.
    ///
    /// # Errors
    ///
    /// If the response cannot be serialised, which cannot happen for the platform's types.
    pub fn serialize(&self) -> Result<SerializedDocument, ApiError> {
        let failed = |error| ApiError::server(format!("the response cannot be serialised: {error}"));
        Ok(SerializedDocument(serde_json::to_vec(self).map_err(failed)?.into()))
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        self.serialize().into_response()
    }
}

/// Serialised [`Document`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerializedDocument(Bytes);

impl IntoResponse for SerializedDocument {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))], self.0).into_response()
    }
}
