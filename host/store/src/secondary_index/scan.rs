//! Reads a part of an index in pages, in either direction.

use std::collections::BTreeSet;

use konnector_query::{Direction, IndexRange};

use super::catalog::Index;
use super::cursor::{IndexCursor, contains};
use super::entry::{IndexEntry, IndexRecord, MAX_KEY_VALUE_BYTES};
use crate::error::Result;
use crate::key::{self, KeyRange};
use crate::kv::Kv;
use crate::view;

/// Number of entries read at once.
const PAGE_SIZE: usize = 256;

/// A document found in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexHit {
    /// Id of the document.
    pub id: String,
    /// Cursor of the next page, if this document is the last one of the page.
    pub cursor: IndexCursor,
}

/// Returns up to `limit` documents after `after`.
///
/// Memory is bounded by `limit`, even if the keys of many entries start with the same values; such a run is read to its
/// end for each page.
pub(crate) fn scan(
    kv: &dyn Kv,
    index: &Index,
    range: &IndexRange,
    direction: Direction,
    after: Option<&IndexCursor>,
    limit: usize,
) -> Result<Vec<IndexHit>> {
    let scan = IndexScan {
        kv,
        prefix: key::entries_prefix(&index.instance, &index.doctype, index.number),
        range,
        direction,
        after,
    };
    scan.collect(limit)
}

struct IndexScan<'a> {
    kv: &'a dyn Kv,
    prefix: Vec<u8>,
    range: &'a IndexRange,
    direction: Direction,
    after: Option<&'a IndexCursor>,
}

impl IndexScan<'_> {
    fn collect(&self, limit: usize) -> Result<Vec<IndexHit>> {
        let mut keys = self.key_range();
        let mut found = Vec::new();
        while found.len() < limit {
            let page = self.read_entries(&keys, PAGE_SIZE.min(limit - found.len()))?;
            let Some((last, _)) = page.last() else { break };
            self.advance(&mut keys, last);
            for (key, entry) in page {
                if entry.is_truncated() {
                    let run = self.truncation_range(&key);
                    found.extend(self.select_first(&run, limit - found.len())?);
                    // The rest of the page may belong to the run; it is read again, starting after the run.
                    match self.direction {
                        Direction::Forward => keys.from = run.to,
                        Direction::Backward => keys.to = run.from,
                    }
                    break;
                }
                if self.matches(&entry) {
                    found.push(entry);
                }
            }
        }
        found.truncate(limit);
        Ok(found.into_iter().map(|entry| IndexHit { id: entry.id.clone(), cursor: IndexCursor(entry) }).collect())
    }

    /// Returns the range of keys to read. The entries of one run are either all inside or all outside.
    fn key_range(&self) -> KeyRange {
        let key =
            |values: &[u8]| [self.prefix.as_slice(), values.get(..MAX_KEY_VALUE_BYTES).unwrap_or(values)].concat();
        let all = KeyRange::with_prefix(self.prefix.clone());
        let mut keys = KeyRange { from: key(self.range.start()), to: all.to };
        if let Some(to) = self.range.end() {
            keys.to = if to.len() > MAX_KEY_VALUE_BYTES { KeyRange::with_prefix(key(to)).to } else { key(to) };
        }
        if let Some(IndexCursor(entry)) = self.after {
            let entry_key = key(&entry.values);
            let exact = || [entry_key.as_slice(), key::entry_id(&entry.id).as_slice()].concat();
            match self.direction {
                Direction::Forward if entry.is_truncated() => keys.from = keys.from.max(entry_key),
                Direction::Forward => keys.start_after(&exact()),
                Direction::Backward if entry.is_truncated() => {
                    keys.to = keys.to.min(KeyRange::with_prefix(entry_key).to)
                }
                Direction::Backward => keys.to = keys.to.min(exact()),
            }
        }
        keys
    }

    fn read_entries(&self, keys: &KeyRange, limit: usize) -> Result<Vec<(Vec<u8>, IndexEntry)>> {
        let entries = self.kv.scan(&keys.from, &keys.to, limit, self.direction == Direction::Backward)?;
        let decode = |(key, bytes): (Vec<u8>, Vec<u8>)| {
            let record: IndexRecord = view::decode(&key, &bytes)?;
            let entry = IndexEntry::decode(&self.prefix, &key, record)?;
            Ok((key, entry))
        };
        entries.into_iter().map(decode).collect()
    }

    fn advance(&self, keys: &mut KeyRange, last: &[u8]) {
        match self.direction {
            Direction::Forward => keys.start_after(last),
            Direction::Backward => keys.to = last.to_vec(),
        }
    }

    /// Returns the range of keys that start with the same truncated values.
    fn truncation_range(&self, key: &[u8]) -> KeyRange {
        let end = (self.prefix.len() + MAX_KEY_VALUE_BYTES).min(key.len());
        KeyRange::with_prefix(key.get(..end).unwrap_or(key).to_vec())
    }

    /// Returns the first `limit` entries of a run, in the order of their values.
    fn select_first(&self, run: &KeyRange, limit: usize) -> Result<Vec<IndexEntry>> {
        let mut first = BTreeSet::new();
        let mut keys = run.clone();
        loop {
            let page = self.read_entries(&keys, PAGE_SIZE)?;
            let Some((last, _)) = page.last() else { break };
            self.advance(&mut keys, last);
            for (_, entry) in page {
                if self.matches(&entry) {
                    first.insert(entry);
                    if first.len() > limit {
                        match self.direction {
                            Direction::Forward => first.pop_last(),
                            Direction::Backward => first.pop_first(),
                        };
                    }
                }
            }
        }
        let forward = first.into_iter();
        Ok(if self.direction == Direction::Forward { forward.collect() } else { forward.rev().collect() })
    }

    fn matches(&self, entry: &IndexEntry) -> bool {
        let is_after_cursor = self.after.is_none_or(|IndexCursor(after)| match self.direction {
            Direction::Forward => entry > after,
            Direction::Backward => entry < after,
        });
        is_after_cursor && contains(self.range, &entry.values)
    }
}
