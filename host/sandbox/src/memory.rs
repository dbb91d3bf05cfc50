//! The memory limit: one sum over all memories of a component and the memory that the host holds for it, one over its
//! tables, and one over all runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

use crate::meter::Meter;

/// Memory that all runs together hold, in bytes.
#[derive(Debug)]
pub(crate) struct MemoryPool {
    used: AtomicU64,
    limit: u64,
}

impl MemoryPool {
    pub(crate) fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    fn reserve(&self, bytes: u64) -> bool {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The memory of one run, including the memory that the host holds on its behalf.
#[derive(Debug)]
pub(crate) struct RunMemory {
    used: AtomicU64,
    limit: u64,
    pool: Arc<MemoryPool>,
}

impl RunMemory {
    pub(crate) fn new(limit: u64, shared: Arc<MemoryPool>) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit, pool: shared })
    }

    fn reserve(&self, bytes: u64) -> bool {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return false;
        }
        let granted = self.pool.reserve(bytes);
        if !granted {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        granted
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.pool.release(bytes);
    }

    /// Creates an empty charge for memory that the host will hold.
    pub(crate) fn new_charge(self: &Arc<Self>) -> MemoryCharge {
        MemoryCharge { memory: Arc::clone(self), bytes: 0 }
    }
}

/// Bytes that the host holds for a run; dropping the charge releases them.
#[derive(Debug)]
pub(crate) struct MemoryCharge {
    memory: Arc<RunMemory>,
    bytes: u64,
}

impl MemoryCharge {
    /// Changes the number of bytes; returns whether they are available. Changes nothing if they are not.
    pub(crate) fn resize(&mut self, bytes: u64) -> bool {
        match bytes.checked_sub(self.bytes) {
            Some(more) if !self.memory.reserve(more) => return false,
            Some(_) => {}
            None => self.memory.release(self.bytes - bytes),
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.memory.release(self.bytes);
    }
}

/// Approves or denies each growth. `wasmtime::StoreLimits` would apply the limit to each memory separately.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    linear: MemoryCharge,
    tables: u64,
    max_table_elements: u64,
    meter: Arc<Meter>,
}

impl MemoryLimiter {
    pub(crate) fn new(table_elements: u64, memory: &Arc<RunMemory>, meter: Arc<Meter>) -> Self {
        Self { linear: memory.new_charge(), tables: 0, max_table_elements: table_elements, meter }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current) as u64;
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        if possible && self.linear.resize(self.linear.bytes.saturating_add(growth)) {
            self.meter.peak_memory.set_max(self.linear.bytes);
            return Ok(true);
        }
        self.meter.record_memory_denied();
        Ok(false)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // The growth stays charged. wasmtime also calls this without a preceding request when a growth exceeds the
        // memory's type, so refunding the last charge would let a guest grow for free.
        self.meter.record_memory_denied();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current) as u64;
        let granted = self.tables.saturating_add(growth) <= self.max_table_elements;
        if granted {
            self.tables += growth;
        }
        Ok(granted)
    }

    fn memories(&self) -> usize {
        crate::engine::MAX_MEMORIES_PER_RUN as usize
    }

    fn tables(&self) -> usize {
        crate::engine::MAX_TABLES_PER_RUN as usize
    }

    fn instances(&self) -> usize {
        crate::engine::MAX_CORE_INSTANCES_PER_RUN as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 64 << 10;

    fn limiter(pages: usize, shared: &Arc<MemoryPool>) -> (MemoryLimiter, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        let memory = RunMemory::new((pages * PAGE) as u64, Arc::clone(shared));
        (MemoryLimiter::new(10, &memory, Arc::clone(&meter)), meter)
    }

    #[test]
    fn two_memories_share_one_limit() {
        let shared = Arc::new(MemoryPool::new(u64::MAX));
        let (mut limiter, meter) = limiter(10, &shared);
        assert!(limiter.memory_growing(0, 6 * PAGE, None).unwrap());
        assert!(!limiter.memory_growing(0, 6 * PAGE, None).unwrap(), "a second memory must not get the limit anew");
        assert!(limiter.memory_growing(0, 4 * PAGE, None).unwrap());
        assert_eq!(meter.peak_memory.get(), 10 * PAGE as u64);
        assert!(meter.is_memory_denied());
    }

    #[test]
    fn a_failed_growth_cannot_reduce_the_charge() {
        let shared = Arc::new(MemoryPool::new(u64::MAX));
        let (mut limiter, _) = limiter(10, &shared);
        assert!(limiter.memory_growing(0, 10 * PAGE, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("exceeds the type")).unwrap();
        assert!(!limiter.memory_growing(10 * PAGE, 11 * PAGE, None).unwrap());
    }

    #[test]
    fn a_growth_beyond_the_memory_s_own_maximum_costs_nothing() {
        let shared = Arc::new(MemoryPool::new(u64::MAX));
        let (mut limiter, _) = limiter(10, &shared);
        assert!(!limiter.memory_growing(0, 8 * PAGE, Some(4 * PAGE)).unwrap());
        assert!(limiter.memory_growing(0, 10 * PAGE, None).unwrap());
    }

    #[test]
    fn runs_share_the_memory_of_the_process_and_give_it_back() {
        let shared = Arc::new(MemoryPool::new(10 * PAGE as u64));
        let (mut first, _) = limiter(10, &shared);
        let (mut second, _) = limiter(10, &shared);
        assert!(first.memory_growing(0, 8 * PAGE, None).unwrap());
        assert!(!second.memory_growing(0, 8 * PAGE, None).unwrap());
        drop(first);
        assert!(second.memory_growing(0, 8 * PAGE, None).unwrap());
    }

    #[test]
    fn memory_that_the_host_holds_counts_too() {
        let shared = Arc::new(MemoryPool::new(12 * PAGE as u64));
        let memory = RunMemory::new(10 * PAGE as u64, Arc::clone(&shared));
        let mut limiter = MemoryLimiter::new(10, &memory, Arc::new(Meter::default()));
        let (mut one, mut two) = (memory.new_charge(), memory.new_charge());
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
        let shared = Arc::new(MemoryPool::new(u64::MAX));
        let (mut limiter, _) = limiter(10, &shared);
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
    }
}
