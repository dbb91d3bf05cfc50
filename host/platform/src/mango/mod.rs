//! Mango: CouchDB's queries, as `_find` takes them (CouchDB documentation, "/{db}/_find").
//!
//! A [`Selector`] says which documents are wanted, a [`Plan`] which index leads to them. Both are pure: they know documents and lists of
//! indexes, and no store.

mod plan;
mod project;
mod query;
mod selector;
mod test;

pub use konnector_store::FieldPath;
pub use plan::{Plan, Sort, plan};
pub use project::project;
pub use query::Query;
pub use selector::Selector;

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The selector has no meaning. The text names the place.
    #[error("selector: {0}")]
    Selector(String),
    /// The order has no meaning.
    #[error("sort: {0}")]
    Sort(String),
    /// Another member of the query has no meaning.
    #[error("{name}: expected is {wanted}")]
    Member {
        /// The member.
        name: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// No index leads to what is asked for.
    #[error("no matching index found, create an index")]
    NoIndex,
}

impl From<konnector_store::InvalidFieldPath> for QueryError {
    fn from(error: konnector_store::InvalidFieldPath) -> Self {
        Self::Selector(error.to_string())
    }
}
