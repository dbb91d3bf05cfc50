//! What running guests and the epoch's ticker see of the queue, without its lock.

use std::sync::atomic::{AtomicU64, Ordering};

use super::fair::Runtime;

/// No task waits. No task reaches this runtime: it is 584 years.
const NOBODY: Runtime = Runtime::MAX;

/// Runtime of the task whose turn is next, if one waits.
#[derive(Debug)]
pub(crate) struct Demand(AtomicU64);

impl Default for Demand {
    fn default() -> Self {
        Self(AtomicU64::new(NOBODY))
    }
}

impl Demand {
    pub(super) fn set(&self, least: Option<Runtime>) {
        self.0.store(least.unwrap_or(NOBODY), Ordering::SeqCst);
    }

    pub(super) fn least_waiting(&self) -> Option<Runtime> {
        Some(self.0.load(Ordering::Relaxed)).filter(|least| *least != NOBODY)
    }

    /// Whether a task waits for a thread.
    pub(crate) fn is_there(&self) -> bool {
        self.0.load(Ordering::SeqCst) != NOBODY
    }
}
