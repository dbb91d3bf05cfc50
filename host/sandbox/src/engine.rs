//! The one engine of the process.

use std::num::NonZeroUsize;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::error::Error;

/// A component of Rust is three or four core instances; other languages bring a few more.
pub(crate) const MAX_CORE_INSTANCES_PER_RUN: u32 = 32;
/// Memories that one component may have: one for the program, one for what adapts it to WASI where a tool chain brings that, and as many again.
pub(crate) const MAX_MEMORIES_PER_RUN: u32 = 4;
/// Tables that one component may have; about one for each two core instances.
pub(crate) const MAX_TABLES_PER_RUN: u32 = 16;
/// All that a 32-bit memory can address.
const FULL_MEMORY_RESERVATION: u64 = 4 << 30;
/// How much address space memories may take together: a quarter of what a process has on the processors of today.
const MAX_MEMORY_ADDRESS_SPACE: u64 = 32 << 40;
/// Elements of one table.
const MAX_TABLE_ELEMENTS: usize = 20_000;

/// What the engine is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineSize {
    pub(crate) max_runs: u32,
    pub(crate) memory_ceiling: usize,
}

impl EngineSize {
    /// Address space behind one memory. With 4 GiB a guest's loads and stores need no checks; where so many runs are wanted that this does
    /// not fit, each memory is given what it may grow to, and checks (which for programs that mostly wait is no loss).
    pub(crate) fn memory_reservation(self) -> u64 {
        let memories = u64::from(self.max_runs) * u64::from(MAX_MEMORIES_PER_RUN);
        if memories.saturating_mul(FULL_MEMORY_RESERVATION) <= MAX_MEMORY_ADDRESS_SPACE {
            FULL_MEMORY_RESERVATION
        } else {
            self.memory_ceiling as u64
        }
    }
}

/// Makes the engine. Several engines in one process cost memory and had type confusions between them (advisories hgjw, qw58), so a
/// [`Sandbox`](crate::Sandbox) has one, and a process one sandbox.
///
/// With the pooling allocator an instance costs a `madvise` instead of `mmap` and `munmap`. It has room for as many runs as there may be, each
/// with the most that one component may have: no run takes another one's place, so none waits or fails for it. That costs address space,
/// about 16 GiB per run, which `ulimit -v`, strict overcommit or some containers refuse; then instances are allocated on demand.
pub(crate) fn new_engine(size: EngineSize) -> Result<Engine, Error> {
    let mut config = engine_config(size.memory_reservation());
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool_config(size)));
    Engine::new(&config).or_else(|refusal| {
        tracing::warn!(%refusal, runs = size.max_runs, "no address space for an instance pool, instances are allocated on demand");
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&config).map_err(|error| Error::Engine(format!("{error:#}")))
    })
}

/// Makes an engine that only compiles, for code that [`engine`]'s loads: how instances are allocated does not matter to code, how large
/// their memories' address space is does. It reserves none.
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
        // The default asks an environment variable.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false)
        .generate_address_map(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Off: what WASI 0.2 does not need. Most advisories of 2026 are in these. (The component model's async functions are not even
        // compiled in.)
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
