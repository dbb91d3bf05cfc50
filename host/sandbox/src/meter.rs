//! Resource usage of a run so far. Shared by the store, the host functions and the run's supervisor, so it outlives a
//! dropped store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A counter that never decreases.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn set_max(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers of writes, by their effect.
#[derive(Debug, Default)]
pub(crate) struct WriteCounters {
    pub(crate) created: Counter,
    pub(crate) updated: Counter,
    pub(crate) unchanged: Counter,
    pub(crate) deleted: Counter,
}

impl WriteCounters {
    pub(crate) fn record(&self, written: crate::capability::SaveOutcome) {
        use crate::capability::SaveOutcome;
        match written {
            SaveOutcome::Created => self.created.add(1),
            SaveOutcome::Updated => self.updated.add(1),
            SaveOutcome::Unchanged => self.unchanged.add(1),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.created.get() + self.updated.get() + self.unchanged.get() + self.deleted.get()
    }
}

/// All counters of a run.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) documents: WriteCounters,
    pub(crate) files: WriteCounters,
    /// Directories created or removed, and files or directories renamed, below `/files`.
    pub(crate) name_changes: Counter,
    /// Files below `/files` whose content could not be saved when they were closed.
    pub(crate) files_not_saved: Counter,
    /// Bytes written to uploads, committed or not.
    pub(crate) file_bytes: Counter,
    cpu_ns: Counter,
    pub(crate) instantiate_us: Counter,
    pub(crate) peak_memory: Counter,
    /// Whether the memory limit denied a growth.
    memory_denied: AtomicBool,
    /// Whether the memory that the host holds for the guest's handles exceeded the memory limit.
    handles_denied: AtomicBool,
    pub(crate) log_bytes: Counter,
    pub(crate) log_lines: Counter,
    pub(crate) log_lines_dropped: Counter,
    pub(crate) secrets_revealed: Counter,
}

impl Meter {
    /// Adds CPU time and returns the sum.
    pub(crate) fn add_cpu(&self, time: Duration) -> Duration {
        self.cpu_ns.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.cpu()
    }

    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.get())
    }

    pub(crate) fn record_memory_denied(&self) {
        self.memory_denied.store(true, Ordering::Relaxed);
    }

    pub(crate) fn record_handles_denied(&self) {
        self.handles_denied.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_handles_denied(&self) -> bool {
        self.handles_denied.load(Ordering::Relaxed)
    }

    pub(crate) fn is_memory_denied(&self) -> bool {
        self.memory_denied.load(Ordering::Relaxed)
    }
}
