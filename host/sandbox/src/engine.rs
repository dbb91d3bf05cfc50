//! The only engine of the process.

use std::num::NonZeroUsize;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::error::Error;

/// A Rust component has three or four core instances; other languages add a few more.
pub(crate) const MAX_CORE_INSTANCES_PER_RUN: u32 = 32;
/// Maximum number of memories of one component: one for the program, one for the WASI adapter that some tool chains
/// add, and as many again.
pub(crate) const MAX_MEMORIES_PER_RUN: u32 = 4;
/// Maximum number of tables of one component: one for every two core instances.
pub(crate) const MAX_TABLES_PER_RUN: u32 = 16;
/// Address space of a 32-bit memory.
const FULL_MEMORY_RESERVATION: u64 = 4 << 30;
/// Maximum address space of all memories together: a quarter of what a process has on current processors.
const MAX_MEMORY_ADDRESS_SPACE: u64 = 32 << 40;
/// Maximum number of elements of one table.
const MAX_TABLE_ELEMENTS: usize = 20_000;

/// Parameters that determine the size of the engine's instance pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineSize {
    pub(crate) max_runs: u32,
    pub(crate) memory_ceiling: usize,
}

impl EngineSize {
    /// Address space reserved for one memory. With 4 GiB, a guest's loads and stores need no bounds checks. If that
    /// does not fit because of the number of runs, each memory reserves the size that it may grow to, and its accesses
    /// are checked (which costs little in programs that mostly wait).
    pub(crate) fn memory_reservation(self) -> u64 {
        let memories = u64::from(self.max_runs) * u64::from(MAX_MEMORIES_PER_RUN);
        if memories.saturating_mul(FULL_MEMORY_RESERVATION) <= MAX_MEMORY_ADDRESS_SPACE {
            FULL_MEMORY_RESERVATION
        } else {
            self.memory_ceiling as u64
        }
    }
}

/// Creates the engine. Several engines in one process cost memory and allowed type confusion between them (advisories
/// hgjw, qw58), so a [`Sandbox`](crate::Sandbox) has one engine, and a process has one sandbox.
///
/// With the pooling allocator, an instance costs a `madvise` instead of `mmap` and `munmap`. The pool is sized for the
/// maximum number of runs, each with the maximum resources of one component. Runs do not compete for slots, so none
/// waits or fails for lack of one. That costs about 16 GiB of address space per run. Where `ulimit -v`, strict
/// overcommit or a container does not allow that, instances are allocated on demand.
pub(crate) fn new_engine(size: EngineSize) -> Result<Engine, Error> {
    let mut config = engine_config(size.memory_reservation());
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool_config(size)));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(
            %error,
            runs = size.max_runs,
            "there is not enough address space for an instance pool; allocating instances on demand"
        );
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&config).map_err(|error| Error::Engine(format!("{error:#}")))
    })
}

/// Creates an engine that only compiles; the engine of [`new_engine`] loads the code. The code does not depend on the
/// allocation strategy of instances, but on the address space reserved for their memories. This engine reserves none.
pub(crate) fn new_compiler_engine(memory_reservation: u64) -> Result<Engine, Error> {
    Engine::new(engine_config(memory_reservation).allocation_strategy(InstanceAllocationStrategy::OnDemand))
        .map_err(|error| Error::Engine(format!("{error:#}")))
}

fn pool_config(size: EngineSize) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(size.max_runs)
        .total_core_instances(size.max_runs.saturating_mul(MAX_CORE_INSTANCES_PER_RUN))
        .total_memories(size.max_runs.saturating_mul(MAX_MEMORIES_PER_RUN))
        .total_tables(size.max_runs.saturating_mul(MAX_TABLES_PER_RUN))
        .total_stacks(size.max_runs)
        .total_gc_heaps(0)
        .max_core_instances_per_component(MAX_CORE_INSTANCES_PER_RUN)
        .max_memories_per_component(MAX_MEMORIES_PER_RUN)
        .max_tables_per_component(MAX_TABLES_PER_RUN)
        .max_memories_per_module(MAX_MEMORIES_PER_RUN)
        .max_tables_per_module(MAX_TABLES_PER_RUN)
        .max_memory_size(size.memory_ceiling)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .max_unused_warm_slots(size.max_runs.min(64))
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

fn engine_config(memory_reservation: u64) -> Config {
    let mut config = Config::new();
    config
        .memory_reservation(memory_reservation)
        .memory_init_cow(true)
        .epoch_interruption(true)
        .consume_fuel(false)
        .async_stack_size(1 << 20)
        .max_wasm_stack(512 << 10)
        .wasm_backtrace_max_frames(NonZeroUsize::new(16))
        // The default reads an environment variable.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false)
        .generate_address_map(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Disabled: features that WASI 0.2 does not need. Most advisories of 2026 concern these. (The component model's
        // async functions are not even compiled in.)
        .concurrency_support(false)
        .wasm_threads(false)
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .gc_support(false);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_without_address_space_for_a_pool_allocates_on_demand() {
        let engine = new_engine(EngineSize { max_runs: 2_000_000, memory_ceiling: 256 << 20 }).unwrap();
        assert!(engine.pooling_allocator_metrics().is_none());
    }

    #[test]
    fn a_pool_of_ordinary_size_is_used() {
        let engine = new_engine(EngineSize { max_runs: 16, memory_ceiling: 256 << 20 }).unwrap();
        assert!(engine.pooling_allocator_metrics().is_some());
    }
}
