//! Lock-free view of the queue for running guests and the epoch's ticker.

use std::sync::atomic::{AtomicU64, Ordering};

use super::fair::VirtualRuntime;

/// Marks that no task waits. No task reaches this runtime of 584 years.
const NO_TASK: VirtualRuntime = VirtualRuntime::MAX;

/// Runtime of the task with the next turn, if one waits.
#[derive(Debug)]
pub(crate) struct WaitingRuntime(AtomicU64);

impl Default for WaitingRuntime {
    fn default() -> Self {
        Self(AtomicU64::new(NO_TASK))
    }
}

impl WaitingRuntime {
    pub(super) fn set(&self, least: Option<VirtualRuntime>) {
        self.0.store(least.unwrap_or(NO_TASK), Ordering::SeqCst);
    }

    pub(super) fn get(&self) -> Option<VirtualRuntime> {
        Some(self.0.load(Ordering::Relaxed)).filter(|least| *least != NO_TASK)
    }

    /// Returns whether a task waits for a thread.
    pub(crate) fn is_some(&self) -> bool {
        self.0.load(Ordering::SeqCst) != NO_TASK
    }
}
