//! Parts of an index, and the direction in which they are read.

use std::ops::Bound;

use serde_json::Value;

use crate::{FieldPath, Map, collation};

/// Direction in which an index is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending by value; documents with the same values are sorted by id.
    Forward,
    /// Descending, the exact reverse.
    Backward,
}

/// A part of an index, with the documents whose values lie between two bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRange {
    /// Encoded values: `start <= values < end`, without an upper bound if there is no `end`.
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl IndexRange {
    /// Returns the range of documents whose first fields have these values, or of all documents if there are none.
    #[must_use]
    pub fn equal(values: &[Value]) -> Self {
        Self::starting_with(encode_values(values))
    }

    /// Like [`Self::equal`], with the next field between two values.
    #[must_use]
    pub fn between(values: &[Value], lower: Bound<&Value>, upper: Bound<&Value>) -> Self {
        let equal = encode_values(values);
        let with = |value: &Value| {
            let mut bytes = equal.clone();
            collation::append_value(value, &mut bytes);
            bytes
        };
        let all = Self::starting_with(equal.clone());
        let from = match lower {
            Bound::Unbounded => all.start,
            Bound::Included(value) => with(value),
            // The encoding of a value sorts before the end of the range for encodings that begin with it.
            Bound::Excluded(value) => Self::starting_with(with(value)).end.unwrap_or_default(),
        };
        let to = match upper {
            Bound::Unbounded => all.end,
            Bound::Included(value) => Self::starting_with(with(value)).end,
            Bound::Excluded(value) => Some(with(value)),
        };
        Self { start: from, end: to }
    }

    /// Like [`Self::equal`], with a string that begins with `prefix` in the next field. The range is wider, because
    /// it includes strings that differ from these only in case and accents.
    #[must_use]
    pub fn with_prefix(values: &[Value], prefix: &str) -> Self {
        let mut bytes = encode_values(values);
        collation::append_text_prefix(prefix, &mut bytes);
        Self::starting_with(bytes)
    }

    /// Returns whether the current version of a document lies in this part of an index over these fields.
    #[must_use]
    pub fn contains(&self, fields: &[String], id: &str, body: &Map) -> bool {
        index_key(fields, id, body)
            .is_some_and(|key| key.as_slice() >= self.start.as_slice() && self.end.as_ref().is_none_or(|to| key < *to))
    }

    fn starting_with(prefix: Vec<u8>) -> Self {
        let mut to = prefix.clone();
        // The successor of a prefix is obtained by incrementing its last byte that is below 255.
        while to.pop_if(|byte| *byte == u8::MAX).is_some() {}
        let to = to.last_mut().map(|last| *last += 1).map(|()| to);
        Self { start: prefix, end: to }
    }

    /// Returns the first values of the range, as written by [`collation::append_value`].
    #[must_use]
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// Returns the first values after the range, or `None` if it ends with the index.
    #[must_use]
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }
}

/// Returns the key of a document in an index over these fields, or `None` if it lacks one of them.
#[must_use]
pub fn index_key(fields: &[String], id: &str, body: &Map) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    for field in fields {
        if field == "_id" {
            collation::append_value(&Value::String(id.to_owned()), &mut key);
        } else {
            collation::append_value(FieldPath::parse(field).ok()?.lookup(body).value()?, &mut key);
        }
    }
    Some(key)
}

fn encode_values(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        collation::append_value(value, &mut bytes);
    }
    bytes
}
