//! The ordered map below the store, with the minimum that a backend must provide.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::{frame, key};

/// Maximum length of a key, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// Maximum size of a value, in bytes; the store itself stays below it ([`crate::frame::MAX_ENTRY_BYTES`]).
const MAX_VALUE_BYTES: usize = 8 * 1024;

/// An ordered map of bytes with atomic, conditional, durable batches.
///
/// Reads are synchronous and short, because they come from memory or the page cache and are bounded by their limit.
/// They may show a batch shortly before its commit has returned; a later commit that builds on it becomes durable only
/// after it.
#[async_trait]
pub trait Kv: Send + Sync {
    /// Returns the value of a key.
    ///
    /// # Errors
    ///
    /// If the store fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Returns up to `limit` entries with `from <= key < to`, in the order of their keys or, with `reverse`, from the
    /// last one down. A scan is not a snapshot: commits may be applied while it runs.
    ///
    /// # Errors
    ///
    /// If the store fails.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;

    /// Returns a counter that has increased by the time a commit that wrote something returns. While the counter stays
    /// the same, nothing has changed. `None` if other processes may write too, which is the default.
    fn write_count(&self) -> Option<u64> {
        None
    }

    /// Checks the batch and applies it in one step; returns after it is durable.
    ///
    /// Cancel safety: after the call is dropped, the batch may or may not have been applied, but never in part.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] for a key or value over the limits; [`Error::Poisoned`] if durability failed, now or before,
    /// in which case the batch may or may not exist after a restart; [`Error::Closed`].
    async fn commit(&self, batch: Batch) -> Result<CommitOutcome>;

    /// Waits until durability fails and returns the reason; from then on, every commit is rejected with
    /// [`Error::Poisoned`]. Otherwise it never returns; the default implementation never does. Cancel-safe.
    async fn wait_for_failure(&self) -> String {
        std::future::pending().await
    }

    /// Rejects new commits and waits for the accepted ones.
    async fn close(&self);
}

/// Result of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CommitOutcome {
    /// The batch is durable.
    Applied,
    /// A check did not hold; nothing was written.
    Rejected,
}

/// Writes to apply together, provided that the values read for them have not changed.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    checks: Vec<KvWrite>,
    writes: Vec<KvWrite>,
    appends: Vec<Append>,
}

/// A key and its value, `None` for a missing entry.
pub type KvWrite = (Vec<u8>, Option<Vec<u8>>);

/// An entry whose key ends with the next sequence number, and the entry that stores that number.
#[derive(Debug, Clone)]
struct Append {
    log_prefix: Vec<u8>,
    value: Vec<u8>,
    number_key: Vec<u8>,
}

/// The assigned sequence numbers, in the order in which batches were applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// The last assigned number.
    pub(crate) last: u64,
    /// Eight random digits. Numbers of another map, or of this one before a backup was restored,
    /// have a different meaning.
    #[serde(rename = "epoch")]
    pub(crate) incarnation: String,
}

impl Sequence {
    /// Creates a sequence without assigned numbers.
    pub(crate) fn new() -> Result<Self> {
        let mut epoch = [0; 4];
        getrandom::fill(&mut epoch).map_err(|error| Error::Invalid {
            field: "sequence",
            reason: format!("the system provides no random numbers: {error}"),
        })?;
        Ok(Self { last: 0, incarnation: hex::encode(epoch) })
    }
}

impl Batch {
    /// Requires a key to have this value or, with `None`, to be absent.
    pub fn check(&mut self, key: Vec<u8>, expected: Option<Vec<u8>>) -> &mut Self {
        self.checks.push((key, expected));
        self
    }

    /// Sets a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> &mut Self {
        self.writes.push((key, Some(value)));
        self
    }

    /// Removes a key; it may be absent.
    pub fn remove(&mut self, key: Vec<u8>) -> &mut Self {
        self.writes.push((key, None));
        self
    }

    /// Adds an entry whose key is `log` and the next number, in eight bytes, and sets `number_key` to that number.
    /// Numbers are consecutive in the order in which batches are applied, regardless of the order of the commits.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] if the record exceeds the maximum size of an entry.
    pub(crate) fn append<T: Serialize>(&mut self, log: Vec<u8>, record: &T, number_key: Vec<u8>) -> Result<&mut Self> {
        let value = frame::encode(|| format!("entry {}", log.escape_ascii()), record)?;
        self.appends.push(Append { log_prefix: log, value, number_key });
        Ok(self)
    }

    /// Returns whether the batch contains no writes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.appends.is_empty()
    }

    /// Returns the number of entries that the batch writes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len() + self.appends.len()
    }

    /// Returns the keys that are known before the batch is applied: all except those of log entries, which are found
    /// through their number keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Vec<u8>> {
        let sequence = (!self.appends.is_empty()).then(key::sequence);
        let written = self.writes.iter().map(|(key, _)| key);
        written.chain(self.appends.iter().map(|append| &append.number_key)).cloned().chain(sequence)
    }

    /// Returns the writes in order, `None` for a removal; `read` returns the previous value of a key. For backends,
    /// once the checks hold. No write may happen between the reads and these writes.
    ///
    /// # Errors
    ///
    /// If `read` fails; [`Error::Corrupt`] if the last assigned number is unknown.
    pub fn resolve_writes(&self, read: impl Fn(&[u8]) -> Result<Option<Vec<u8>>>) -> Result<Vec<KvWrite>> {
        let mut writes = self.writes.clone();
        if self.appends.is_empty() {
            return Ok(writes);
        }
        let describe = || "the sequence of changes".to_owned();
        let sequence_key = key::sequence();
        let mut sequence = match read(&sequence_key)? {
            Some(bytes) => frame::decode::<Sequence>(describe, &bytes)?,
            None => Sequence::new()?,
        };
        for Append { log_prefix: log, value, number_key } in &self.appends {
            sequence.last += 1;
            writes.push((key::of_log_entry(log, sequence.last), Some(value.clone())));
            writes.push((number_key.clone(), Some(frame::encode(describe, &sequence.last)?)));
        }
        writes.push((sequence_key, Some(frame::encode(describe, &sequence)?)));
        Ok(writes)
    }

    /// Returns whether every check holds; `matches` returns whether a key has the expected value. For backends.
    ///
    /// # Errors
    ///
    /// If `matches` fails.
    pub fn checks_hold(&self, mut matches: impl FnMut(&[u8], Option<&[u8]>) -> Result<bool>) -> Result<bool> {
        for (key, expected) in &self.checks {
            if !matches(key, expected.as_deref())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rejects a batch that is too large for any backend. Backends call this before anything else.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] for a key or value over the limits.
    pub fn validate(&self) -> Result<()> {
        let appended = self.appends.iter().map(|append| (&append.number_key, Some(&append.value)));
        for (key, value) in self.writes.iter().map(|(key, value)| (key, value.as_ref())).chain(appended) {
            let check_size = |part: &str, size, limit| {
                // The message reaches clients, so it omits the bytes of the key, which are private.
                let what = || format!("the {part} of an entry");
                if size > limit { Err(Error::TooLarge { what: what(), size, limit }) } else { Ok(()) }
            };
            check_size("key", key.len(), MAX_KEY_BYTES)?;
            check_size("value", value.map_or(0, Vec::len), MAX_VALUE_BYTES)?;
        }
        Ok(())
    }
}

mod change_tracker;
mod memory;

pub(crate) use change_tracker::{ChangeTracker, Tracking};
pub(crate) use memory::MemoryKv;
