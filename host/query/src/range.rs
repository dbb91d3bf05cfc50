//! Which part of an index is read, and in which order.

use std::ops::Bound;

use serde_json::Value;

use crate::{FieldPath, Map, collation};

/// In which order an index is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest values up; documents with the same values by id.
    Forward,
    /// The other way around.
    Backward,
}

/// A part of an index: the documents whose values lie between two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRange {
    /// Values, as bytes: `from <= values < to`, without end where there is no `to`.
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl IndexRange {
    /// Documents whose first members have these values; all documents where there are none.
    #[must_use]
    pub fn equal(values: &[Value]) -> Self {
        Self::starting_with(encode_values(values))
    }

    /// The same, and the member behind those lies between two values.
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
            // Every value's bytes are below those that come behind all that begins with them.
            Bound::Excluded(value) => Self::starting_with(with(value)).end.unwrap_or_default(),
        };
        let to = match upper {
            Bound::Unbounded => all.end,
            Bound::Included(value) => Self::starting_with(with(value)).end,
            Bound::Excluded(value) => Some(with(value)),
        };
        Self { start: from, end: to }
    }

    /// The same, and the member behind those is a text that begins with `prefix`. Wider than that: texts whose letters are the same but for
    /// case and accents are in it, too.
    #[must_use]
    pub fn with_prefix(values: &[Value], prefix: &str) -> Self {
        let mut bytes = encode_values(values);
        collation::append_text_prefix(prefix, &mut bytes);
        Self::starting_with(bytes)
    }

    /// Whether a document lies in this part of an index over these fields, as the document is now.
    #[must_use]
    pub fn contains(&self, fields: &[String], id: &str, body: &Map) -> bool {
        index_key(fields, id, body)
            .is_some_and(|key| key.as_slice() >= self.start.as_slice() && self.end.as_ref().is_none_or(|to| key < *to))
    }

    fn starting_with(prefix: Vec<u8>) -> Self {
        let mut to = prefix.clone();
        // The successor of a prefix is the prefix with its last byte that can grow, grown.
        while to.pop_if(|byte| *byte == u8::MAX).is_some() {}
        let to = to.last_mut().map(|last| *last += 1).map(|()| to);
        Self { start: prefix, end: to }
    }

    /// The first values of the range, as [`collation::append`] writes them.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first values behind the range; `None` where it ends with the index.
    #[must_use]
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }
}

/// Where a document stands in an index over these fields; `None` when it lacks one of them.
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
