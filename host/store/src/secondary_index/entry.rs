//! One document's place in one index.
//!
//! The key holds the bytes of the values and the id, each up to a limit. Of longer values, the key holds the beginning, and the entry holds
//! them in full: entries whose keys begin the same are a *run*, which is put in order when it is read.

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

/// Bytes of the values in a key.
pub(super) const MAX_KEY_VALUE_BYTES: usize = 120;
/// Bytes of the values in an entry; values that are longer and the same up to here have no order.
const MAX_STORED_VALUE_BYTES: usize = 4_500;

/// What an entry holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexRecord {
    pub(super) id: String,
    /// In base64, where the key does not hold them in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<String>,
}

/// A document's place. Places are in the order of their keys, as far as those go.
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
    /// Where a document stands; `None` when it lacks a member.
    pub(super) fn from_document(members: &[String], id: &str, body: &Map) -> Option<Self> {
        let values = index_key(members, id, body)?;
        Some(Self { values: truncate_values(values), id: id.to_owned() })
    }

    /// Whether the key cannot hold the values.
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

    /// Reads it back from an entry.
    pub(super) fn decode(prefix: &[u8], key: &[u8], record: IndexRecord) -> Result<Self> {
        let corrupt =
            || Error::Corrupt { what: format!("key {}", key.escape_ascii()), reason: "it is no place".into() };
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

/// Cuts what no entry can hold.
fn truncate_values(mut values: Vec<u8>) -> Vec<u8> {
    if values.len() > MAX_STORED_VALUE_BYTES {
        let digest = Sha256::digest(&values);
        values.truncate(MAX_STORED_VALUE_BYTES);
        values.extend(digest);
    }
    values
}

/// The part of a bound that entries can be compared with.
pub(super) fn truncate_bound(bound: &[u8]) -> &[u8] {
    bound.get(..MAX_STORED_VALUE_BYTES).unwrap_or(bound)
}
