//! A map that can be copied while it is written to.
//!
//! A scan is no snapshot. So the keys that are written while a copy goes on are recorded, and their entries are copied again; at the end
//! commits are held up for as long as it takes to copy the last few, and the copy is what was there at that moment.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{RwLock, RwLockWriteGuard};

use super::{Batch, Committed, Kv};
use crate::error::Result;

/// How many keys are recorded before commits wait for the copy: some 10 MiB of memory.
const MOST: usize = 100_000;

/// Passes everything on, and records what is written while a copy goes on.
pub(crate) struct Recorder {
    kv: Box<dyn Kv>,
    changed: Mutex<Option<HashSet<Vec<u8>>>>,
    /// Held to read by each commit, and to write by the end of a copy.
    gate: RwLock<()>,
}

/// Keys that were written, while a copy goes on. Dropping it ends the recording.
pub(crate) struct Changed<'a>(&'a Recorder);

impl Recorder {
    pub(crate) fn new(kv: Box<dyn Kv>) -> Self {
        Self { kv, changed: Mutex::new(None), gate: RwLock::new(()) }
    }

    /// Begins to record; `None` while another copy goes on. What is not recorded was written before.
    pub(crate) async fn record(&self) -> Result<Option<Changed<'_>>> {
        let _held = self.hold().await?;
        let mut changed = self.changed();
        if changed.is_some() {
            return Ok(None);
        }
        *changed = Some(HashSet::new());
        Ok(Some(Changed(self)))
    }

    /// Holds up commits until the guard is dropped. What was accepted before is applied.
    async fn hold(&self) -> Result<RwLockWriteGuard<'_, ()>> {
        let guard = self.gate.write().await;
        // Behind every commit whose caller stopped waiting for it.
        let _: Committed = self.kv.commit(Batch::default()).await?;
        Ok(guard)
    }

    fn changed(&self) -> std::sync::MutexGuard<'_, Option<HashSet<Vec<u8>>>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for more keys.
    fn note(&self, batch: &Batch) -> bool {
        let mut changed = self.changed();
        let Some(changed) = changed.as_mut() else { return true };
        changed.extend(batch.keys());
        changed.len() < MOST
    }
}

impl Changed<'_> {
    /// Takes the keys that were recorded so far, all of which have been written by then. Commits are held up until the guard is dropped.
    pub(crate) async fn take(&self) -> Result<(HashSet<Vec<u8>>, RwLockWriteGuard<'_, ()>)> {
        let guard = self.0.hold().await?;
        let changed = self.0.changed().as_mut().map(std::mem::take).unwrap_or_default();
        Ok((changed, guard))
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        *self.0.changed() = None;
    }
}

#[async_trait]
impl Kv for Recorder {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.kv.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.kv.scan(from, to, limit, reverse)
    }

    fn writes(&self) -> Option<u64> {
        self.kv.writes()
    }

    async fn commit(&self, batch: Batch) -> Result<Committed> {
        let _open = self.gate.read().await;
        // Before it is applied: a key too many does no harm.
        while !self.note(&batch) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        self.kv.commit(batch).await
    }

    async fn failed(&self) -> String {
        self.kv.failed().await
    }

    async fn close(&self) {
        self.kv.close().await;
    }
}
