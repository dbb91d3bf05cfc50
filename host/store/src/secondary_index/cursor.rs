//! Bounds of a part of an index, and the position of a scan.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use konnector_query::IndexRange;

use super::entry::{IndexEntry, truncate_bound};
use crate::error::{Error, Result};

/// Returns whether values lie in a range. Values longer than an entry can store are compared only by their beginning.
pub(super) fn contains(range: &IndexRange, values: &[u8]) -> bool {
    values >= truncate_bound(range.start())
        && range.end().is_none_or(|to| {
            let end = truncate_bound(to);
            values < end || (end.len() < to.len() && values.starts_with(end))
        })
}

/// Position of a scan, after one document. As a string it is opaque; a forged one is at worst another position in the
/// same index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexCursor(pub(super) IndexEntry);

impl fmt::Display for IndexCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IndexEntry { values, id } = &self.0;
        let length = u32::try_from(values.len()).unwrap_or_default().to_be_bytes();
        f.write_str(&URL_SAFE_NO_PAD.encode([length.as_slice(), values, id.as_bytes()].concat()))
    }
}

impl FromStr for IndexCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let (values, id) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            let id = str::from_utf8(id).ok()?.to_owned();
            Some(Self(IndexEntry { values: values.to_vec(), id }))
        };
        let reason = || "it is not a cursor of an earlier page of this query".to_owned();
        parse().ok_or_else(|| Error::Invalid { field: "cursor", reason: reason() })
    }
}
