//! A map that can be copied while it is written.
//!
//! A scan is not a snapshot. Therefore the keys that are written during a copy are recorded, and their entries are
//! copied again. At the end, commits are paused for as long as it takes to copy the last few, so the copy is consistent
//! as of that moment.

use parking_lot::Mutex;
use std::collections::HashSet;

use async_trait::async_trait;
use tokio::sync::{RwLock, RwLockWriteGuard};

use super::{Batch, CommitOutcome, Kv};
use crate::error::{Error, Result};

/// Maximum number of recorded keys before the copy fails; they take some 10 MiB of memory. Commits, which include the
/// renewals of leases, never wait for a copy, because its reader may be slow.
const MAX_KEYS: usize = 100_000;
/// With this many keys, the copy drains them before it continues.
const DRAIN_THRESHOLD: usize = MAX_KEYS / 4;

/// Forwards all operations, and records the written keys during a copy.
pub(crate) struct ChangeTracker {
    kv: Box<dyn Kv>,
    tracked: Mutex<Option<TrackedKeys>>,
    /// Commits hold this lock for reading; the end of a copy holds it for writing.
    commit_lock: RwLock<()>,
}

enum TrackedKeys {
    Keys(HashSet<Vec<u8>>),
    /// More keys were written than can be recorded, so the copy will not be complete.
    TooMany,
}

/// Recording of the keys written during a copy. Dropping it ends the recording.
pub(crate) struct Tracking<'a>(&'a ChangeTracker);

impl ChangeTracker {
    pub(crate) fn new(kv: Box<dyn Kv>) -> Self {
        Self { kv, tracked: Mutex::new(None), commit_lock: RwLock::new(()) }
    }

    /// Starts recording; `None` if another copy is running. All earlier writes have been applied.
    pub(crate) async fn start(&self) -> Result<Option<Tracking<'_>>> {
        let _guard = self.pause_commits().await?;
        let mut changed = self.tracked();
        if changed.is_some() {
            return Ok(None);
        }
        *changed = Some(TrackedKeys::Keys(HashSet::new()));
        Ok(Some(Tracking(self)))
    }

    /// Pauses commits until the guard is dropped. All accepted commits have been applied.
    async fn pause_commits(&self) -> Result<RwLockWriteGuard<'_, ()>> {
        let guard = self.commit_lock.write().await;
        // Wait for every commit whose caller has stopped waiting for it.
        let _: CommitOutcome = self.kv.commit(Batch::default()).await?;
        Ok(guard)
    }

    fn tracked(&self) -> parking_lot::MutexGuard<'_, Option<TrackedKeys>> {
        self.tracked.lock()
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
    /// Returns the keys recorded so far, all of which have been written, and clears them. Commits are paused until the
    /// guard is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Backup`] if more keys were written since the last call than can be recorded.
    pub(crate) async fn drain(&self) -> Result<(HashSet<Vec<u8>>, RwLockWriteGuard<'_, ()>)> {
        let guard = self.0.pause_commits().await?;
        match self.0.tracked().as_mut() {
            Some(TrackedKeys::Keys(keys)) => Ok((std::mem::take(keys), guard)),
            Some(TrackedKeys::TooMany) => Err(too_many()),
            None => Ok((HashSet::new(), guard)),
        }
    }

    /// Returns whether the keys should be drained soon.
    ///
    /// # Errors
    ///
    /// As [`Tracking::drain`].
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
        "more than {MAX_KEYS} entries changed before the backup could copy them again; \
         write it to a faster disk, or at a quieter time"
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
        // Recorded before it is applied; a spurious key is harmless.
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
