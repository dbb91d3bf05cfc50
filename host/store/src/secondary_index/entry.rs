//! The entry of one document in one index.
//!
//! The key contains the bytes of the values and the id, each up to a limit. Longer values are truncated in the key and
//! stored in full in the entry. Entries whose keys start with the same truncated values are a *run*, which is sorted
//! when it is read.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use konnector_manifest::Doctype;
use konnector_query::index_key;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Map;
use crate::error::{Error, Result};
use crate::id::InstanceId;
use crate::key;
use crate::view::View;

/// Maximum number of bytes of the values in a key.
pub(super) const MAX_KEY_VALUE_BYTES: usize = 120;
/// Maximum number of bytes of the values in an entry; longer values that are the same up to here have no defined order.
const MAX_STORED_VALUE_BYTES: usize = 4_500;

/// The stored value of an index entry.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexRecord {
    pub(super) id: String,
    /// In base64, if the key does not contain them in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<String>,
}

/// A document's position in an index. Positions are in the order of their keys, as far as the keys distinguish them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) values: Vec<u8>,
    pub(super) id: String,
}

impl Ord for IndexEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.values.cmp(&other.values).then_with(|| key::entry_id(&self.id).cmp(&key::entry_id(&other.id)))
    }
}

impl PartialOrd for IndexEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl IndexEntry {
    /// Returns the position of a document; `None` if the document lacks a field.
    pub(super) fn from_document(fields: &[String], id: &str, body: &Map) -> Option<Self> {
        let values = index_key(fields, id, body)?;
        Some(Self { values: truncate_values(values), id: id.to_owned() })
    }

    /// Returns whether the key cannot contain the full values.
    pub(super) fn is_truncated(&self) -> bool {
        self.values.len() > MAX_KEY_VALUE_BYTES
    }

    pub(super) fn key(&self, instance: &InstanceId, doctype: &Doctype, number: u32) -> Vec<u8> {
        let values = self.values.get(..MAX_KEY_VALUE_BYTES).unwrap_or(&self.values);
        key::of_index_entry(instance, doctype, number, values, &self.id)
    }

    pub(super) fn record(&self) -> IndexRecord {
        let values = self.is_truncated().then(|| STANDARD_NO_PAD.encode(&self.values));
        IndexRecord { id: self.id.clone(), values }
    }

    pub(super) fn put(&self, view: &mut View<'_>, key: Vec<u8>) -> Result<()> {
        view.put(key, &self.record())
    }

    /// Decodes the position from an entry.
    pub(super) fn decode(prefix: &[u8], key: &[u8], record: IndexRecord) -> Result<Self> {
        let corrupt = || Error::Corrupt {
            what: format!("key {}", key.escape_ascii()),
            reason: "it is not the key of an index entry".into(),
        };
        let values = match record.values {
            Some(values) => STANDARD_NO_PAD.decode(values).map_err(|_| corrupt())?,
            None => {
                let end = key.len().checked_sub(key::entry_id(&record.id).len()).ok_or_else(corrupt)?;
                key.get(prefix.len()..end).ok_or_else(corrupt)?.to_vec()
            }
        };
        Ok(Self { values, id: record.id })
    }
}

/// Truncates values that are too long for an entry.
fn truncate_values(mut values: Vec<u8>) -> Vec<u8> {
    if values.len() > MAX_STORED_VALUE_BYTES {
        let digest = Sha256::digest(&values);
        values.truncate(MAX_STORED_VALUE_BYTES);
        values.extend(digest);
    }
    values
}

/// Returns the part of a bound that can be compared with entries.
pub(super) fn truncate_bound(bound: &[u8]) -> &[u8] {
    bound.get(..MAX_STORED_VALUE_BYTES).unwrap_or(bound)
}
