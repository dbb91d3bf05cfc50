//! The ordered map in memory, for tests.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Batch, CommitOutcome, Kv};
use crate::error::{Error, Result};

/// A map that is as durable as the process; the reference for testing the other backends.
#[derive(Default)]
pub(crate) struct MemoryKv {
    state: Mutex<MemoryState>,
}

#[derive(Default)]
struct MemoryState {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    writes: u64,
    closed: bool,
}

impl MemoryKv {
    fn state(&self) -> MutexGuard<'_, MemoryState> {
        // The critical sections below never panic halfway, so the state is consistent.
        self.state.lock()
    }
}

#[async_trait]
impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.state().entries.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let state = self.state();
        let range = state.entries.range(from.to_vec()..to.to_vec()).map(|(key, value)| (key.clone(), value.clone()));
        Ok(if reverse { range.rev().take(limit).collect() } else { range.take(limit).collect() })
    }

    fn write_count(&self) -> Option<u64> {
        Some(self.state().writes)
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome> {
        batch.validate()?;
        let mut state = self.state();
        if state.closed {
            return Err(Error::Closed);
        }
        if !batch.checks_hold(|key, expected| Ok(state.entries.get(key).map(Vec::as_slice) == expected))? {
            return Ok(CommitOutcome::Rejected);
        }
        state.writes += 1;
        for (key, value) in batch.resolve_writes(|key| Ok(state.entries.get(key).cloned()))? {
            match value {
                Some(value) => state.entries.insert(key, value),
                None => state.entries.remove(&key),
            };
        }
        Ok(CommitOutcome::Applied)
    }

    async fn close(&self) {
        self.state().closed = true;
    }
}
