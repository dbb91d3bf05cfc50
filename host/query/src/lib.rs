//! Mango: CouchDB's queries, as `_find` takes them (CouchDB documentation, "/{db}/_find"), and the order of JSON values
//! in its indexes.
//!
//! A [`Query`] is a parsed body of `_find`. Its [`Selector`] matches the requested documents; a [`Projection`] keeps
//! only the requested fields. [`plan()`] chooses the index that leads to the documents, and returns a [`Plan`] with the
//! [`IndexRange`] to read. A range may contain more documents than requested, so the selector still decides about each.
//! Selectors and documents come from clients; a [`QueryBudget`] limits the work of one query.
//!
//! This crate is pure; it knows documents and lists of indexes, but no store. The store encodes the keys of its indexes
//! with [`collation`] and reads the values of fields with [`FieldPath`], so an index and a query can never disagree.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use konnector_query::{Map, Plan, QueryBudget, QueryError, Selector, plan};
//! use serde_json::json;
//!
//! let selector: Map = serde_json::from_str(r#"{ "vendor": "bank101", "amount": { "$gt": 10 } }"#)?;
//! let selector = Selector::parse(&selector)?;
//! let mut budget = QueryBudget::default();
//! assert!(selector.matches(&json!({ "vendor": "bank101", "amount": 12 }), &mut budget)?);
//! assert!(!selector.matches(&json!({ "vendor": "bank101", "amount": 8 }), &mut budget)?);
//!
//! let index = ["vendor".to_owned(), "amount".to_owned()];
//! assert!(matches!(plan(&selector, None, &[&index])?, Plan::Index { index: 0, .. }));
//! let fields = vec!["amount".to_owned(), "vendor".to_owned()];
//! assert_eq!(plan(&selector, None, &[]), Err(QueryError::NoIndex { fields }));
//! # Ok(())
//! # }
//! ```

pub mod collation;
mod path;
mod plan;
mod predicate;
mod projection;
mod query;
mod query_budget;
mod range;
mod selector;

pub use collation::collate;
pub use path::{FieldPath, InvalidFieldPath, Lookup};
pub use plan::{Plan, Sort, plan};
pub use projection::Projection;
pub use query::Query;
pub use query_budget::QueryBudget;
pub use range::{Direction, IndexRange, index_key};
pub use selector::Selector;

/// The fields of a JSON object.
pub type Map = serde_json::Map<String, serde_json::Value>;

/// Why a query is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The selector is invalid. The message names the place.
    #[error("selector: {0}")]
    Selector(String),
    /// The sort order is invalid.
    #[error("sort: {0}")]
    Sort(String),
    /// Another field of the query is invalid.
    #[error("{name}: expected {expected}")]
    Field {
        /// Name of the field.
        name: &'static str,
        /// Expected value.
        expected: &'static str,
    },
    /// The query has a field that does not exist.
    #[error(
        "{0}: the field is unknown; use selector, fields, sort, limit, skip, bookmark, use_index or execution_stats"
    )]
    UnknownField(String),
    /// The query exceeds the budget of one query.
    #[error("the query is too expensive; narrow its selector, or create an index for the fields that it uses")]
    TooExpensive,
    /// No index serves the query.
    #[error("no matching index found, create an index{}", describe_fields(.fields))]
    NoIndex {
        /// Fields that the query constrains or sorts by, of which an index must cover some.
        fields: Vec<String>,
    },
}

/// Continues CouchDB's message, which clients know, with the fields for the index.
fn describe_fields(fields: &[String]) -> String {
    if fields.is_empty() { String::new() } else { format!(" on {}", fields.join(", ")) }
}

/// Maximum number of names in a path. More deeply nested JSON cannot be parsed (serde_json's limit).
const MAX_PATH_NAMES: usize = 128;

/// Parses a path of a query.
///
/// # Errors
///
/// [`QueryError::Selector`] if a path has an empty name, or too many names.
pub fn field_path(text: &str) -> Result<FieldPath, QueryError> {
    let path = FieldPath::parse(text)?;
    if path.names().len() > MAX_PATH_NAMES {
        return Err(QueryError::Selector(format!("a field path has more than {MAX_PATH_NAMES} names")));
    }
    Ok(path)
}

impl From<InvalidFieldPath> for QueryError {
    fn from(error: InvalidFieldPath) -> Self {
        Self::Selector(error.to_string())
    }
}
