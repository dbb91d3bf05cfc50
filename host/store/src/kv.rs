//! The ordered map underneath: what a backend must offer, and no more.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::{frame, key};

/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// The largest value, in bytes; the store itself stays below ([`crate::frame::MAX_DOCUMENT_BYTES`]).
const MAX_VALUE_BYTES: usize = 8 * 1024;

/// An ordered map of bytes with atomic, conditional, durable batches.
///
/// Reads are synchronous and short: they come from memory or the page cache and are bounded by their limit. They may show
/// a batch shortly before its commit has answered; whatever a later commit builds on it is durable only after it.
#[async_trait]
pub trait Kv: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// When the backend fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Up to `limit` entries with `from <= key < to`, in the order of their keys or, with `reverse`, from the last one down.
    /// A scan is no snapshot: a commit may fall into it.
    ///
    /// # Errors
    /// When the backend fails.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;

    /// A count that has grown by the time that a commit answers which wrote something: while it stays, nothing has changed. `None` where
    /// others may write too, as by default.
    fn write_count(&self) -> Option<u64> {
        None
    }

    /// Checks the batch and applies it in one step; answers after it is durable.
    ///
    /// Cancel safety: a dropped call may or may not have been applied, never in part.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a key or value over the limits; [`Error::Poisoned`] when durability failed, now or before,
    /// and then the batch may or may not be there after a restart; [`Error::Closed`].
    async fn commit(&self, batch: Batch) -> Result<CommitOutcome>;

    /// Answers, with the reason, once durability failed: from then on every commit is refused with [`Error::Poisoned`]. Never answers
    /// otherwise, and by default never. Cancel-safe.
    async fn wait_for_failure(&self) -> String {
        std::future::pending().await
    }

    /// Refuses new commits and waits for those accepted.
    async fn close(&self);
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CommitOutcome {
    /// It is durable.
    Applied,
    /// A check did not hold; nothing was written.
    Rejected,
}

/// Writes to apply together, on condition that the values read for them still stand.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    checks: Vec<KvWrite>,
    writes: Vec<KvWrite>,
    appends: Vec<Append>,
}

/// A key and its value, `None` where there is none.
pub type KvWrite = (Vec<u8>, Option<Vec<u8>>);

/// An entry whose key ends with the next number, and the entry that says which number it was.
#[derive(Debug, Clone)]
struct Append {
    log_prefix: Vec<u8>,
    value: Vec<u8>,
    number_key: Vec<u8>,
}

/// The numbers that were given, in the order in which batches were applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// The last one.
    pub(crate) last: u64,
    /// Eight random digits: numbers of another map, or of this one before a backup of it was restored, mean something else.
    #[serde(rename = "epoch")]
    pub(crate) incarnation: String,
}

impl Sequence {
    /// No number was given yet.
    pub(crate) fn new() -> Result<Self> {
        let mut epoch = [0; 4];
        getrandom::fill(&mut epoch).map_err(|error| Error::Invalid {
            field: "sequence",
            reason: format!("the system has no random numbers: {error}"),
        })?;
        Ok(Self { last: 0, incarnation: hex::encode(epoch) })
    }
}

impl Batch {
    /// Expects a key to have this value, or with `None` to be absent.
    pub fn check(&mut self, key: Vec<u8>, expected: Option<Vec<u8>>) -> &mut Self {
        self.checks.push((key, expected));
        self
    }

    /// Sets a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> &mut Self {
        self.writes.push((key, Some(value)));
        self
    }

    /// Removes a key, which may be absent.
    pub fn remove(&mut self, key: Vec<u8>) -> &mut Self {
        self.writes.push((key, None));
        self
    }

    /// Adds an entry whose key is `log` and the next number, in eight bytes, and sets the key `place` to that number. Numbers follow each other
    /// in the order in which batches are applied, whoever committed first.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the record exceeds what an entry holds.
    pub(crate) fn append<T: Serialize>(&mut self, log: Vec<u8>, record: &T, place: Vec<u8>) -> Result<&mut Self> {
        let value = frame::encode(|| format!("entry {}", log.escape_ascii()), record)?;
        self.appends.push(Append { log_prefix: log, value, number_key: place });
        Ok(self)
    }

    /// Whether it writes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.appends.is_empty()
    }

    /// How much it writes, in entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len() + self.appends.len()
    }

    /// The keys that are known before it is applied: all but those of the entries of logs, which their places tell.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Vec<u8>> {
        let sequence = (!self.appends.is_empty()).then(key::sequence);
        let written = self.writes.iter().map(|(key, _)| key);
        written.chain(self.appends.iter().map(|append| &append.number_key)).cloned().chain(sequence)
    }

    /// What to write, in order, `None` for a removal; `read` gives the value of a key before. For backends, once its checks hold: nothing may
    /// come between the reading and the writing.
    ///
    /// # Errors
    /// Those of `read`; [`Error::Corrupt`] when it is not known which numbers were given.
    pub fn resolve_writes(&self, read: impl Fn(&[u8]) -> Result<Option<Vec<u8>>>) -> Result<Vec<KvWrite>> {
        let mut writes = self.writes.clone();
        if self.appends.is_empty() {
            return Ok(writes);
        }
        let what = || "the sequence of changes".to_owned();
        let at = key::sequence();
        let mut sequence = match read(&at)? {
            Some(bytes) => frame::decode::<Sequence>(what, &bytes)?,
            None => Sequence::new()?,
        };
        for Append { log_prefix: log, value, number_key: place } in &self.appends {
            sequence.last += 1;
            writes.push((key::of_log_entry(log, sequence.last), Some(value.clone())));
            writes.push((place.clone(), Some(frame::encode(what, &sequence.last)?)));
        }
        writes.push((at, Some(frame::encode(what, &sequence)?)));
        Ok(writes)
    }

    /// Whether every check holds; `matches` tells whether a key has the expected value. For backends.
    ///
    /// # Errors
    /// Those of `matches`.
    pub fn checks_hold(&self, mut matches: impl FnMut(&[u8], Option<&[u8]>) -> Result<bool>) -> Result<bool> {
        for (key, expected) in &self.checks {
            if !matches(key, expected.as_deref())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Refuses what is too large for any backend. For backends, before anything else.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn validate(&self) -> Result<()> {
        let appended = self.appends.iter().map(|append| (&append.number_key, Some(&append.value)));
        for (key, value) in self.writes.iter().map(|(key, value)| (key, value.as_ref())).chain(appended) {
            let fits = |what: &str, size, limit| {
                // Without the key itself, whose bytes are nobody's business: this reaches clients.
                let what = || format!("the {what} of an entry");
                if size > limit { Err(Error::TooLarge { what: what(), size, limit }) } else { Ok(()) }
            };
            fits("key", key.len(), MAX_KEY_BYTES)?;
            fits("value", value.map_or(0, Vec::len), MAX_VALUE_BYTES)?;
        }
        Ok(())
    }
}

mod change_tracker;
mod memory;

pub(crate) use change_tracker::{ChangeTracker, Tracking};
pub(crate) use memory::MemoryKv;
