//! The interface `documents` in the host's own types.

use std::ops::Bound;

use async_trait::async_trait;
use serde_json::Value;

use super::{CapabilityError, Locator, Object, SaveOutcome};

/// A document as the guest sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Id of the document.
    pub id: String,
    /// Current revision (`_rev`).
    pub rev: String,
    /// Fields, without `_id` and `_rev`.
    pub body: Object,
}

/// A document to save under its natural key.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Natural key, unique for konnector, account and doctype.
    pub key: String,
    /// Fields to set.
    pub body: Object,
}

/// A change of an existing document.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Document to change.
    pub locator: Locator,
    /// Revision that the document must have.
    pub rev: Option<String>,
    /// Fields to set.
    pub body: Object,
}

/// Result of saving one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedDocument {
    /// Id of the document.
    pub id: String,
    /// Revision after the write.
    pub rev: String,
    /// Effect of the write.
    pub outcome: SaveOutcome,
}

/// Range of values for the field after those that must be equal.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Range {
    /// No restriction.
    #[default]
    Any,
    /// Between two values.
    Between(Bound<Value>, Bound<Value>),
    /// A string with this prefix.
    Prefix(String),
}

/// Direction in which an index is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// From the smallest value to the largest.
    #[default]
    Ascending,
    /// From the largest value to the smallest.
    Descending,
}

/// A query of one index.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Paths of the indexed fields; an empty list selects the index of all documents, sorted by id.
    pub index_fields: Vec<String>,
    /// Values of the first fields.
    pub equals: Vec<Value>,
    /// Range of the next field.
    pub range: Range,
    /// Direction in which the index is read.
    pub order: Order,
    /// Maximum number of documents of the page, 1 to 1,000.
    pub limit: u32,
    /// `next_cursor` of the previous page; `None` for the first page.
    pub cursor: Option<String>,
}

/// One page of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Documents in the order of the index.
    pub documents: Vec<Document>,
    /// Cursor of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

/// The WIT interface `documents`. Every method checks the manifest's rules; every write is atomic, and durable when it
/// returns.
#[async_trait]
pub trait Documents: Send + Sync {
    /// Returns one document.
    async fn get(&self, doctype: &str, locator: &Locator) -> Result<Document, CapabilityError>;
    /// Returns a page of an index. The total size of the bodies of one page is bounded, even if the limit of
    /// the query is larger.
    async fn find(&self, doctype: &str, query: Query) -> Result<Page, CapabilityError>;
    /// Fails if `save` would fail for any input.
    async fn check_save(&self, doctype: &str) -> Result<(), CapabilityError>;
    /// Creates or updates documents by key.
    async fn save(&self, doctype: &str, items: Vec<Item>) -> Result<Vec<SavedDocument>, CapabilityError>;
    /// Sets fields of existing documents.
    async fn update(&self, doctype: &str, changes: Vec<Change>) -> Result<Vec<SavedDocument>, CapabilityError>;
    /// Deletes documents; returns the number of documents that existed.
    async fn delete(&self, doctype: &str, locators: Vec<Locator>) -> Result<u32, CapabilityError>;
}
