//! The body of a `_find`.

use crate::Direction;
use serde_json::{Map, Value};

use super::{FieldPath, QueryError, Selector, Sort, field_path};

/// Default number of documents on a page; also used if the client requests more than [`MAX_LIMIT`] (Cozy API, data
/// system).
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// Maximum number of fields to return or to sort by. Documents have fewer, and an index has only a few.
const MAX_FIELDS: usize = 1_000;
const MAX_SORT_FIELDS: usize = 32;

/// Fields of CouchDB's `_find`.
const FIELDS: [&str; 15] = [
    "allow_fallback",
    "bookmark",
    "conflicts",
    "execution_stats",
    "fields",
    "limit",
    "partition",
    "r",
    "selector",
    "skip",
    "sort",
    "stable",
    "stale",
    "update",
    "use_index",
];

/// A parsed `_find` query.
#[derive(Debug, Clone)]
pub struct Query {
    /// Selects the documents.
    pub selector: Selector,
    /// Requested order; the order of the index if absent.
    pub sort: Option<Sort>,
    /// Maximum number of documents.
    pub limit: usize,
    /// Number of documents to skip first.
    pub skip: usize,
    /// Fields to return; all if empty.
    pub fields: Vec<FieldPath>,
    /// End of the previous page.
    pub bookmark: Option<String>,
    /// Design document of the index to use, without `_design/`, and the name of the index.
    pub use_index: Option<(String, Option<String>)>,
    /// Whether to return execution statistics.
    pub execution_stats: bool,
}

impl Query {
    /// Parses a body. Like CouchDB, rejects unknown fields, because a query without a mistyped `limit` or `sort` returns
    /// other documents. Fields that only tune CouchDB's cluster have no effect.
    ///
    /// # Errors
    ///
    /// If the query is invalid; the error names the field.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, QueryError> {
        if let Some(unknown) = body.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(QueryError::UnknownField(unknown.clone()));
        }
        let Some(Value::Object(selector)) = body.get("selector") else {
            return Err(QueryError::Selector("it is missing or not an object; {} selects all documents".to_owned()));
        };
        let limit = parse_number(body, "limit")?.unwrap_or(DEFAULT_LIMIT);
        Ok(Self {
            selector: Selector::parse(selector)?,
            sort: parse_sort(body.get("sort"))?,
            limit: if limit > MAX_LIMIT { DEFAULT_LIMIT } else { limit },
            skip: parse_number(body, "skip")?.unwrap_or_default(),
            fields: parse_fields(body.get("fields"))?,
            bookmark: body.get("bookmark").and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned),
            use_index: parse_use_index(body.get("use_index"))?,
            execution_stats: body.get("execution_stats") == Some(&Value::Bool(true)),
        })
    }
}

fn parse_number(body: &Map<String, Value>, name: &'static str) -> Result<Option<usize>, QueryError> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            number(value).map(Some).ok_or(QueryError::Field { name, expected: "a whole number of at least 0" })
        }
    }
}

fn parse_fields(value: Option<&Value>) -> Result<Vec<FieldPath>, QueryError> {
    let wrong = || QueryError::Field { name: "fields", expected: "a list of fields" };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(fields)) if fields.len() > MAX_FIELDS => {
            Err(QueryError::Field { name: "fields", expected: "a list of at most 1000 fields" })
        }
        Some(Value::Array(fields)) => {
            fields.iter().map(|field| field_path(field.as_str().ok_or_else(wrong)?)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// Parses `["a", "b"]` or `[{"a": "desc"}, {"b": "desc"}]`; an empty list means no order.
fn parse_sort(value: Option<&Value>) -> Result<Option<Sort>, QueryError> {
    let items = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) if items.len() > MAX_SORT_FIELDS => {
            return Err(QueryError::Sort(format!("it has more than {MAX_SORT_FIELDS} fields")));
        }
        Some(Value::Array(items)) => items,
        Some(_) => return Err(QueryError::Sort("it is not a list".to_owned())),
    };
    let (mut members, mut directions) = (Vec::new(), Vec::new());
    for item in items {
        let (member, direction) = parse_sort_item(item)?;
        members.push(member);
        directions.push(direction);
    }
    match directions.split_first() {
        None => Ok(None),
        Some((first, rest)) if rest.iter().all(|direction| direction == first) => {
            Ok(Some(Sort { fields: members, direction: *first }))
        }
        Some(_) => Err(QueryError::Sort("all fields must have the same direction, asc or desc".to_owned())),
    }
}

fn parse_sort_item(item: &Value) -> Result<(FieldPath, Direction), QueryError> {
    let wrong = || QueryError::Sort(format!("{item} is neither a field nor an object such as {{\"date\": \"desc\"}}"));
    let (name, direction) = match item {
        Value::String(name) => (name, Direction::Forward),
        Value::Object(object) if object.len() == 1 => {
            let (name, direction) = object.iter().next().ok_or_else(wrong)?;
            match direction.as_str() {
                Some("asc") => (name, Direction::Forward),
                Some("desc") => (name, Direction::Backward),
                _ => return Err(wrong()),
            }
        }
        _ => return Err(wrong()),
    };
    Ok((field_path(name)?, direction))
}

/// Parses `"ddoc"`, `["ddoc"]` or `["ddoc", "name"]`.
fn parse_use_index(value: Option<&Value>) -> Result<Option<(String, Option<String>)>, QueryError> {
    let design = |text: &str| text.strip_prefix("_design/").unwrap_or(text).to_owned();
    let wrong = QueryError::Field {
        name: "use_index",
        expected: "a design document, or a list of a design document and an index name",
    };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some((design(name), None))),
        Some(Value::Array(names)) => match names.iter().map(Value::as_str).collect::<Option<Vec<_>>>().as_deref() {
            Some([]) => Ok(None),
            Some([name]) => Ok(Some((design(name), None))),
            Some([name, index]) => Ok(Some((design(name), Some((*index).to_owned())))),
            _ => Err(wrong),
        },
        Some(_) => Err(wrong),
    }
}
