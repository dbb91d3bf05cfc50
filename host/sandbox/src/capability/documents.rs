//! The interface `documents` in the host's own types.

use std::ops::Bound;

use async_trait::async_trait;
use serde_json::Value;

use super::{CapabilityError, Locator, Object, SaveOutcome};

/// A document as the guest sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Document id.
    pub id: String,
    /// Revision.
    pub rev: String,
    /// Members, `_id` and `_rev` left out.
    pub body: Object,
}

/// A document to save under its natural key.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Natural key, unique for konnector, account and doctype.
    pub key: String,
    /// Members to set.
    pub body: Object,
}

/// A change of a document that exists.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which document.
    pub locator: Locator,
    /// Revision that it must have.
    pub rev: Option<String>,
    /// Members to set.
    pub body: Object,
}

/// Answer to one saved item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedDocument {
    /// Document id.
    pub id: String,
    /// Revision after the write.
    pub rev: String,
    /// What happened.
    pub outcome: SaveOutcome,
}

/// What the member behind the equal ones may be.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Range {
    /// Anything.
    #[default]
    Any,
    /// Between two values.
    Between(Bound<Value>, Bound<Value>),
    /// A text that begins so.
    Prefix(String),
}

/// In which direction an index is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// From the smallest value up.
    #[default]
    Ascending,
    /// From the largest value down.
    Descending,
}

/// A question to one index.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Paths of the members that the index holds; none is the index of all documents by id.
    pub index_fields: Vec<String>,
    /// Values of the first members.
    pub equals: Vec<Value>,
    /// What the next member may be.
    pub range: Range,
    /// Direction.
    pub order: Order,
    /// Documents of the page, 1 to 1,000.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// One page of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The documents.
    pub documents: Vec<Document>,
    /// Where the next page starts.
    pub next_cursor: Option<String>,
}

/// The WIT interface `documents`. Every method checks the manifest's rules; every write is durable when it returns, and all or nothing.
#[async_trait]
pub trait Documents: Send + Sync {
    /// One document.
    async fn get(&self, doctype: &str, which: &Locator) -> Result<Document, CapabilityError>;
    /// A page of an index. The bodies of one page are bounded, whatever the limit of the query.
    async fn find(&self, doctype: &str, query: Query) -> Result<Page, CapabilityError>;
    /// Fails where `save` would, whatever it is given.
    async fn check_save(&self, doctype: &str) -> Result<(), CapabilityError>;
    /// Creates or updates by key.
    async fn save(&self, doctype: &str, items: Vec<Item>) -> Result<Vec<SavedDocument>, CapabilityError>;
    /// Sets members of documents that exist.
    async fn update(&self, doctype: &str, changes: Vec<Change>) -> Result<Vec<SavedDocument>, CapabilityError>;
    /// Deletes; answers how many there were.
    async fn delete(&self, doctype: &str, which: Vec<Locator>) -> Result<u32, CapabilityError>;
}
