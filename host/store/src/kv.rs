//! The ordered map underneath: what a backend must offer, and no more.

use async_trait::async_trait;

use crate::error::{Error, Result};

/// The longest key, in bytes.
const KEY_LIMIT: usize = 256;
/// The largest value, in bytes; the store itself stays below ([`crate::frame::LIMIT`]).
const VALUE_LIMIT: usize = 8 * 1024;

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

    /// Checks the batch and applies it in one step; answers after it is durable.
    ///
    /// Cancel safety: a dropped call may or may not have been applied, never in part.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a key or value over the limits; [`Error::Poisoned`] when durability failed, now or before,
    /// and then the batch may or may not be there after a restart; [`Error::Closed`].
    async fn commit(&self, batch: Batch) -> Result<Committed>;

    /// Answers, with the reason, once durability failed: from then on every commit is refused with [`Error::Poisoned`]. Never answers
    /// otherwise, and by default never. Cancel-safe.
    async fn failed(&self) -> String {
        std::future::pending().await
    }

    /// Refuses new commits and waits for those accepted.
    async fn close(&self);
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Committed {
    /// It is durable.
    Applied,
    /// A check did not hold; nothing was written.
    Refused,
}

/// Writes to apply together, on condition that the values read for them still stand.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    checks: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
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

    /// The writes in order, `None` for a removal.
    #[must_use]
    pub fn writes(&self) -> &[(Vec<u8>, Option<Vec<u8>>)] {
        &self.writes
    }

    /// Whether every check holds; `matches` tells whether a key has the expected value. For backends.
    ///
    /// # Errors
    /// Those of `matches`.
    pub fn holds(&self, mut matches: impl FnMut(&[u8], Option<&[u8]>) -> Result<bool>) -> Result<bool> {
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
        for (key, value) in &self.writes {
            let fits = |what: &str, size, limit| {
                let what = || format!("the {what} of entry {}", String::from_utf8_lossy(key));
                if size > limit { Err(Error::TooLarge { what: what(), size, limit }) } else { Ok(()) }
            };
            fits("key", key.len(), KEY_LIMIT)?;
            fits("value", value.as_ref().map_or(0, Vec::len), VALUE_LIMIT)?;
        }
        Ok(())
    }
}

mod memory;
mod recorder;

pub(crate) use memory::MemoryKv;
pub(crate) use recorder::Recorder;
