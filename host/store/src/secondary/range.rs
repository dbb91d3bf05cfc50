//! Which part of an index is asked for, and where a scan stands.

use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::entry::{Place, comparable};
use super::order;
use crate::Map;
use crate::error::{Error, Result};
use crate::key::Range;

/// A part of an index: the documents whose values lie between two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRange {
    /// Values, as bytes: `from <= values < to`, without end where there is no `to`.
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl IndexRange {
    /// Documents whose first members have these values; all documents where there are none.
    #[must_use]
    pub fn equal(values: &[Value]) -> Self {
        Self::starting_with(bytes(values))
    }

    /// The same, and the member behind those lies between two values.
    #[must_use]
    pub fn between(values: &[Value], lower: Bound<&Value>, upper: Bound<&Value>) -> Self {
        let equal = bytes(values);
        let with = |value: &Value| {
            let mut bytes = equal.clone();
            order::append(value, &mut bytes);
            bytes
        };
        let all = Self::starting_with(equal.clone());
        let from = match lower {
            Bound::Unbounded => all.from,
            Bound::Included(value) => with(value),
            // Every value's bytes are below those that come behind all that begins with them.
            Bound::Excluded(value) => Self::starting_with(with(value)).to.unwrap_or_default(),
        };
        let to = match upper {
            Bound::Unbounded => all.to,
            Bound::Included(value) => Self::starting_with(with(value)).to,
            Bound::Excluded(value) => Some(with(value)),
        };
        Self { from, to }
    }

    /// The same, and the member behind those is a text that begins with `prefix`. Wider than that: texts whose letters are the same but for
    /// case and accents are in it, too.
    #[must_use]
    pub fn prefix(values: &[Value], prefix: &str) -> Self {
        let mut bytes = bytes(values);
        order::append_text_prefix(prefix, &mut bytes);
        Self::starting_with(bytes)
    }

    /// Whether a document lies in this part of an index over these members, as the document is now.
    #[must_use]
    pub fn contains(&self, members: &[String], id: &str, body: &Map) -> bool {
        Place::of(members, id, body).is_some_and(|place| self.holds(&place.values))
    }

    fn starting_with(prefix: Vec<u8>) -> Self {
        if prefix.is_empty() {
            return Self { from: prefix, to: None };
        }
        let Range { from, to } = Range::starting_with(prefix);
        Self { from, to: Some(to) }
    }

    /// Whether values lie in it. Of what is longer than an entry holds, only the beginning counts.
    pub(super) fn holds(&self, values: &[u8]) -> bool {
        let from = comparable(&self.from);
        values >= from
            && self.to.as_deref().is_none_or(|to| {
                let end = comparable(to);
                values < end || (end.len() < to.len() && values.starts_with(end))
            })
    }

    pub(super) fn from(&self) -> &[u8] {
        &self.from
    }

    pub(super) fn to(&self) -> Option<&[u8]> {
        self.to.as_deref()
    }
}

fn bytes(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        order::append(value, &mut bytes);
    }
    bytes
}

/// Where a scan stands: behind one document. As text, it is opaque; a forged one is at worst another place of the same index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(pub(super) Place);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { values, id } = &self.0;
        let length = u32::try_from(values.len()).unwrap_or_default().to_be_bytes();
        f.write_str(&URL_SAFE_NO_PAD.encode([length.as_slice(), values, id.as_bytes()].concat()))
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let (values, id) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            let id = str::from_utf8(id).ok()?.to_owned();
            Some(Self(Place { values: values.to_vec(), id }))
        };
        let reason = || "it is not where an earlier page of this query ended".to_owned();
        parse().ok_or_else(|| Error::Invalid { field: "cursor", reason: reason() })
    }
}
