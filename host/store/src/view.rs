//! The reads and pending writes of a commit.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::key::KeyRange;
use crate::kv::{Batch, Kv};
use crate::{feed, frame};

/// A map that records its reads and buffers its writes.
///
/// Every value read becomes a check of the batch, so decisions based on it still hold when the batch is applied; no
/// rule about documents, queues or schedules needs a check of its own.
pub(crate) struct View<'a> {
    kv: &'a dyn Kv,
    reads: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// By the key of the number; each key has at most one append.
    appends: BTreeMap<Vec<u8>, (Vec<u8>, feed::FeedEntry)>,
}

impl<'a> View<'a> {
    pub(crate) fn new(kv: &'a dyn Kv) -> Self {
        Self { kv, reads: BTreeMap::new(), writes: BTreeMap::new(), appends: BTreeMap::new() }
    }

    pub(crate) fn get<T: DeserializeOwned>(&mut self, key: &[u8]) -> Result<Option<T>> {
        let value = match self.writes.get(key).or_else(|| self.reads.get(key)) {
            Some(known) => known,
            None => self.reads.entry(key.to_vec()).or_insert(self.kv.get(key)?),
        };
        value.as_ref().map(|bytes| decode(key, bytes)).transpose()
    }

    pub(crate) fn put<T: Serialize>(&mut self, key: Vec<u8>, record: &T) -> Result<()> {
        let value = frame::encode(|| describe_key(&key), record)?;
        self.writes.insert(key, Some(value));
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// Appends an entry to a log; the number under `number_key` will point to it. Replaces a pending append for the
    /// same key.
    pub(crate) fn append(&mut self, log: Vec<u8>, record: feed::FeedEntry, number_key: Vec<u8>) {
        self.appends.insert(number_key, (log, record));
    }

    /// Cancels the pending append for a key.
    pub(crate) fn cancel_append(&mut self, number_key: &[u8]) {
        self.appends.remove(number_key);
    }

    pub(crate) fn into_batch(self) -> Result<Batch> {
        let mut batch = Batch::default();
        for (key, value) in self.reads {
            batch.check(key, value);
        }
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.remove(key),
            };
        }
        for (number_key, (log, record)) in self.appends {
            batch.append(log, &record, number_key)?;
        }
        Ok(batch)
    }
}

/// Reads one entry outside of any commit.
pub(crate) fn read<T: DeserializeOwned>(kv: &dyn Kv, key: &[u8]) -> Result<Option<T>> {
    kv.get(key)?.map(|bytes| decode(key, &bytes)).transpose()
}

/// Reads the first `limit` entries of a range outside of any commit.
pub(crate) fn scan<T: DeserializeOwned>(kv: &dyn Kv, range: &KeyRange, limit: usize) -> Result<Vec<(Vec<u8>, T)>> {
    let entries = kv.scan(&range.from, &range.to, limit, false)?;
    entries.into_iter().map(|(key, value)| decode(&key, &value).map(|record| (key, record))).collect()
}

/// Reads the first `limit` readable entries of a range that all instances share, outside of any commit. Skips
/// unreadable entries, because one damaged entry must not block the others.
pub(crate) fn scan_readable<T: DeserializeOwned>(kv: &dyn Kv, mut range: KeyRange, limit: usize) -> Result<Vec<T>> {
    let mut found = Vec::new();
    loop {
        let page = kv.scan(&range.from, &range.to, limit.saturating_sub(found.len()), false)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        range.start_after(last);
        for (key, value) in &page {
            match decode(key, value) {
                Ok(record) => found.push(record),
                Err(error) => tracing::error!(%error, "skipped an entry that cannot be read"),
            }
        }
    }
}

/// Decodes the bytes of an entry.
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T> {
    frame::decode(|| describe_key(key), bytes)
}

/// Formats a key for error messages.
fn describe_key(key: &[u8]) -> String {
    format!("entry {}", key.escape_ascii())
}
