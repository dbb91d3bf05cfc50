//! The memory limit: one sum over all memories of a component and what the host keeps for it, one over its tables, and one over all runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

use crate::meter::Meter;

/// Bytes of linear memory that all runs hold together.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    used: AtomicU64,
    limit: u64,
}

impl SharedMemory {
    pub(crate) fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The memory of one run: what its component has, and what the host keeps for it.
#[derive(Debug)]
pub(crate) struct RunMemory {
    used: AtomicU64,
    limit: u64,
    shared: Arc<SharedMemory>,
}

impl RunMemory {
    pub(crate) fn new(limit: u64, shared: Arc<SharedMemory>) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit, shared })
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        let granted = self.shared.take(bytes);
        if !granted {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        granted
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.give_back(bytes);
    }

    /// Nothing yet, for something that the host keeps.
    pub(crate) fn charge(self: &Arc<Self>) -> Charge {
        Charge { memory: Arc::clone(self), bytes: 0 }
    }
}

/// Bytes that the host keeps for a run, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    memory: Arc<RunMemory>,
    bytes: u64,
}

impl Charge {
    /// Changes the number of bytes; answers whether there are as many. Nothing changes otherwise.
    pub(crate) fn resize(&mut self, bytes: u64) -> bool {
        match bytes.checked_sub(self.bytes) {
            Some(more) if !self.memory.take(more) => return false,
            Some(_) => {}
            None => self.memory.give_back(self.bytes - bytes),
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

/// Decides over each growth. `wasmtime::StoreLimits` would allow the limit to each memory anew.
#[derive(Debug)]
pub(crate) struct Limiter {
    linear: Charge,
    tables: u64,
    tables_limit: u64,
    meter: Arc<Meter>,
}

impl Limiter {
    pub(crate) fn new(table_elements: u64, memory: &Arc<RunMemory>, meter: Arc<Meter>) -> Self {
        Self { linear: memory.charge(), tables: 0, tables_limit: table_elements, meter }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current) as u64;
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        if possible && self.linear.resize(self.linear.bytes.saturating_add(growth)) {
            self.meter.peak_memory.raise_to(self.linear.bytes);
            return Ok(true);
        }
        self.meter.refuse_memory();
        Ok(false)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // The growth stays charged. wasmtime also comes here without having asked for leave, when a growth exceeds the memory's type:
        // taking off the last charge would let a guest grow for nothing.
        self.meter.refuse_memory();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current) as u64;
        let granted = self.tables.saturating_add(growth) <= self.tables_limit;
        if granted {
            self.tables += growth;
        }
        Ok(granted)
    }

    fn memories(&self) -> usize {
        crate::engine::MEMORIES_PER_RUN as usize
    }

    fn tables(&self) -> usize {
        crate::engine::TABLES_PER_RUN as usize
    }

    fn instances(&self) -> usize {
        crate::engine::CORE_INSTANCES_PER_RUN as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 64 << 10;

    fn limiter(pages: usize, shared: &Arc<SharedMemory>) -> (Limiter, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        let memory = RunMemory::new((pages * PAGE) as u64, Arc::clone(shared));
        (Limiter::new(10, &memory, Arc::clone(&meter)), meter)
    }

    #[test]
    fn two_memories_share_one_limit() {
        let shared = Arc::new(SharedMemory::new(u64::MAX));
        let (mut limiter, meter) = limiter(10, &shared);
        assert!(limiter.memory_growing(0, 6 * PAGE, None).unwrap());
        assert!(!limiter.memory_growing(0, 6 * PAGE, None).unwrap(), "a second memory must not get the limit anew");
        assert!(limiter.memory_growing(0, 4 * PAGE, None).unwrap());
        assert_eq!(meter.peak_memory.get(), 10 * PAGE as u64);
        assert!(meter.memory_was_refused());
    }

    #[test]
    fn a_failed_growth_cannot_be_used_to_take_off_a_charge() {
        let shared = Arc::new(SharedMemory::new(u64::MAX));
        let (mut limiter, _) = limiter(10, &shared);
        assert!(limiter.memory_growing(0, 10 * PAGE, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("exceeds the type")).unwrap();
        assert!(!limiter.memory_growing(10 * PAGE, 11 * PAGE, None).unwrap());
    }

    #[test]
    fn a_growth_beyond_the_memory_s_own_maximum_costs_nothing() {
        let shared = Arc::new(SharedMemory::new(u64::MAX));
        let (mut limiter, _) = limiter(10, &shared);
        assert!(!limiter.memory_growing(0, 8 * PAGE, Some(4 * PAGE)).unwrap());
        assert!(limiter.memory_growing(0, 10 * PAGE, None).unwrap());
    }

    #[test]
    fn runs_share_the_memory_of_the_process_and_give_it_back() {
        let shared = Arc::new(SharedMemory::new(10 * PAGE as u64));
        let (mut first, _) = limiter(10, &shared);
        let (mut second, _) = limiter(10, &shared);
        assert!(first.memory_growing(0, 8 * PAGE, None).unwrap());
        assert!(!second.memory_growing(0, 8 * PAGE, None).unwrap());
        drop(first);
        assert!(second.memory_growing(0, 8 * PAGE, None).unwrap());
    }

    #[test]
    fn what_the_host_keeps_counts_as_well() {
        let shared = Arc::new(SharedMemory::new(12 * PAGE as u64));
        let memory = RunMemory::new(10 * PAGE as u64, Arc::clone(&shared));
        let mut limiter = Limiter::new(10, &memory, Arc::new(Meter::default()));
        let (mut one, mut two) = (memory.charge(), memory.charge());
        assert!(one.resize(6 * PAGE as u64));
        assert!(!limiter.memory_growing(0, 5 * PAGE, None).unwrap());
        assert!(limiter.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(!two.resize(3 * PAGE as u64) && two.resize(2 * PAGE as u64));
        assert!(one.resize(PAGE as u64));
        drop(two);
        assert!(limiter.memory_growing(2 * PAGE, 9 * PAGE, None).unwrap());
        drop((limiter, one));
        assert_eq!((memory.used.load(Ordering::Relaxed), shared.used.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn tables_share_one_limit() {
        let shared = Arc::new(SharedMemory::new(u64::MAX));
        let (mut limiter, _) = limiter(10, &shared);
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
    }
}
