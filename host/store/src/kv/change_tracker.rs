//! A map that can be copied while it is written to.
//!
//! A scan is no snapshot. So the keys that are written while a copy goes on are recorded, and their entries are copied again; at the end
//! commits are held up for as long as it takes to copy the last few, and the copy is what was there at that moment.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{RwLock, RwLockWriteGuard};

use super::{Batch, CommitOutcome, Kv};
use crate::error::{Error, Result};

/// How many keys are recorded before the copy is given up: some 10 MiB of memory. Commits never wait for a copy, whose reader may be slow:
/// among them are the renewals of leases.
const MAX_KEYS: usize = 100_000;
/// From so many keys on, the copy takes them before it goes on.
const DRAIN_THRESHOLD: usize = MAX_KEYS / 4;

/// Passes everything on, and records what is written while a copy goes on.
pub(crate) struct ChangeTracker {
    kv: Box<dyn Kv>,
    tracked: Mutex<Option<TrackedKeys>>,
    /// Held to read by each commit, and to write by the end of a copy.
    commit_lock: RwLock<()>,
}

enum TrackedKeys {
    Keys(HashSet<Vec<u8>>),
    /// More was written than is remembered: the copy will not be whole.
    TooMany,
}

/// Keys that were written, while a copy goes on. Dropping it ends the recording.
pub(crate) struct Tracking<'a>(&'a ChangeTracker);

impl ChangeTracker {
    pub(crate) fn new(kv: Box<dyn Kv>) -> Self {
        Self { kv, tracked: Mutex::new(None), commit_lock: RwLock::new(()) }
    }

    /// Begins to record; `None` while another copy goes on. What is not recorded was written before.
    pub(crate) async fn start(&self) -> Result<Option<Tracking<'_>>> {
        let _held = self.pause_commits().await?;
        let mut changed = self.tracked();
        if changed.is_some() {
            return Ok(None);
        }
        *changed = Some(TrackedKeys::Keys(HashSet::new()));
        Ok(Some(Tracking(self)))
    }

    /// Holds up commits until the guard is dropped. What was accepted before is applied.
    async fn pause_commits(&self) -> Result<RwLockWriteGuard<'_, ()>> {
        let guard = self.commit_lock.write().await;
        // Behind every commit whose caller stopped waiting for it.
        let _: CommitOutcome = self.kv.commit(Batch::default()).await?;
        Ok(guard)
    }

    fn tracked(&self) -> std::sync::MutexGuard<'_, Option<TrackedKeys>> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, batch: &Batch) {
        let mut changed = self.tracked();
        let Some(recorded) = changed.as_mut() else { return };
        if let TrackedKeys::Keys(keys) = recorded {
            keys.extend(batch.keys());
            if keys.len() > MAX_KEYS {
                *recorded = TrackedKeys::TooMany;
            }
        }
    }
}

impl Tracking<'_> {
    /// Takes the keys that were recorded so far, all of which have been written by then. Commits are held up until the guard is dropped.
    ///
    /// # Errors
    /// [`Error::Backup`] when more was written since the last time than is remembered.
    pub(crate) async fn drain(&self) -> Result<(HashSet<Vec<u8>>, RwLockWriteGuard<'_, ()>)> {
        let guard = self.0.pause_commits().await?;
        match self.0.tracked().as_mut() {
            Some(TrackedKeys::Keys(keys)) => Ok((std::mem::take(keys), guard)),
            Some(TrackedKeys::TooMany) => Err(too_many()),
            None => Ok((HashSet::new(), guard)),
        }
    }

    /// Whether the keys are to be taken soon.
    ///
    /// # Errors
    /// Like [`Tracking::take`].
    pub(crate) fn is_nearly_full(&self) -> Result<bool> {
        match &*self.0.tracked() {
            Some(TrackedKeys::Keys(keys)) => Ok(keys.len() >= DRAIN_THRESHOLD),
            Some(TrackedKeys::TooMany) => Err(too_many()),
            None => Ok(false),
        }
    }
}

fn too_many() -> Error {
    Error::backup(format!(
        "more than {MAX_KEYS} entries were written before the backup came to copy them again: write it to a faster place, or when less happens"
    ))
}

impl Drop for Tracking<'_> {
    fn drop(&mut self) {
        *self.0.tracked() = None;
    }
}

#[async_trait]
impl Kv for ChangeTracker {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.kv.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.kv.scan(from, to, limit, reverse)
    }

    fn write_count(&self) -> Option<u64> {
        self.kv.write_count()
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome> {
        let _open = self.commit_lock.read().await;
        // Before it is applied: a key too many does no harm.
        self.record(&batch);
        self.kv.commit(batch).await
    }

    async fn wait_for_failure(&self) -> String {
        self.kv.wait_for_failure().await
    }

    async fn close(&self) {
        self.kv.close().await;
    }
}
