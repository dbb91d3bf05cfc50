//! The sandbox itself: the one engine, what is ready to run, and the room for runs.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cache::CodeKey;
use crate::capability::Capabilities;
use crate::compile::Compiler;
use crate::engine::{EngineSize, new_engine};
use crate::error::Error;
use crate::inspect::{self, ComponentInfo};
use crate::job::RunInput;
use crate::linker::new_linker;
use crate::memory::MemoryPool;
use crate::outcome::{AbortReason, RunOutput};
use crate::program::{ComponentDigest, Program, ProgramCache};
use crate::run::Run;
use crate::scheduler::{GuestTask, Scheduler, WaitingRuntime};
use crate::ticker::Ticker;
use konnector_egress::log_limit;

/// How large a sandbox is.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Runs at the same time; more wait for their turn.
    pub max_runs: u32,
    /// Bytes of linear memory that no run may exceed, whatever its [`Limits`](crate::Limits) say.
    pub memory_ceiling: usize,
    /// Bytes of linear memory that all runs may hold together.
    pub total_memory: u64,
    /// Threads for guests, so that a busy guest never delays other work of the process; see [`Sandbox::spawn`].
    pub worker_threads: usize,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// What compiled code on disk is known by. `None` makes one up: code of other processes is not loaded then.
    pub code_key: Option<CodeKey>,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            max_runs: 64,
            memory_ceiling: 512 << 20,
            total_memory: 2 << 30,
            worker_threads: 2,
            compiler: Compiler::InProcess,
            code_key: None,
        }
    }
}

/// Runs components. A process has one.
pub struct Sandbox {
    programs: ProgramCache,
    run_permits: Arc<Semaphore>,
    memory: Arc<MemoryPool>,
    memory_ceiling: u64,
    ticker: Ticker,
    scheduler: Scheduler,
}

impl Sandbox {
    /// Makes the engine, its instance pool, and the threads for guests.
    ///
    /// # Errors
    /// The machine lacks what the engine needs, or a thread cannot be started.
    pub fn new(options: SandboxOptions) -> Result<Self, Error> {
        let SandboxOptions { max_runs, memory_ceiling, total_memory, worker_threads, compiler, code_key } = options;
        let size = EngineSize { max_runs, memory_ceiling };
        let engine = new_engine(size)?;
        let linker = new_linker(&engine).map_err(|error| Error::Engine(format!("{error:#}")))?;
        let demand = Arc::new(WaitingRuntime::default());
        let ticker = Ticker::start(&engine, Arc::clone(&demand))?;
        let guests = Scheduler::start(worker_threads, demand, ticker.fast_ticks())?;
        Ok(Self {
            programs: ProgramCache::new(engine, size, linker, compiler, code_key.map_or_else(CodeKey::random, Ok)?),
            run_permits: Arc::new(Semaphore::new(max_runs as usize)),
            memory: Arc::new(MemoryPool::new(total_memory)),
            memory_ceiling: memory_ceiling as u64,
            ticker,
            scheduler: guests,
        })
    }

    /// Reads what a component is and wants, without compiling it: fit for bytes of unknown origin.
    ///
    /// # Errors
    /// It is no component that could be run here; the text says why and what to do.
    pub fn inspect(bytes: &[u8]) -> Result<ComponentInfo, Error> {
        inspect::inspect(bytes)
    }

    /// Compiles a component, or finds it compiled in `cache_dir` or in memory; [`Program::origin`] tells which. Compiles one at a time.
    /// Cancel-safe: a compilation in a child process is given up.
    ///
    /// # Errors
    /// Those of [`inspect`](Self::inspect); it cannot be compiled or linked, or not within the limits; the cache cannot be written.
    pub async fn prepare(&self, bytes: &[u8], cache_dir: &Path) -> Result<Program, Error> {
        self.programs.prepare(bytes, cache_dir).await
    }

    /// A program that was prepared lately: saves reading the component's bytes.
    pub fn cached_program(&self, digest: ComponentDigest) -> Option<Program> {
        self.programs.get(digest)
    }

    /// Runs a task on the threads for guests: whatever calls [`run`](Self::run) belongs on them. A guest is polled in the task that called
    /// `run`, so a short run costs no hand-over between threads. Tasks have even shares of the threads, and tokio's context, but no runtime
    /// of tokio's schedules them.
    pub fn spawn<F>(&self, task: F) -> GuestTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.scheduler.spawn(task)
    }

    /// The engine, for measurements that compare this sandbox with wasmtime alone.
    #[doc(hidden)]
    pub fn engine(&self) -> &wasmtime::Engine {
        self.programs.engine()
    }

    /// Runs a konnector to its end, and always comes to one: its own, or a limit's. Waits for its turn first when
    /// [`SandboxOptions::max_runs`] are going on; that time does not count.
    ///
    /// After `cancel` every host function answers `cancelled` at once, and after [`Limits::grace`](crate::Limits::grace) the run is ended.
    /// When this future is dropped, the run is ended without a receipt and without keeping its cookies.
    pub async fn run(
        &self,
        program: &Program,
        job: RunInput,
        mut capabilities: Capabilities,
        cancel: CancellationToken,
    ) -> RunOutput {
        capabilities.limits.memory = capabilities.limits.memory.min(self.memory_ceiling);
        let turn = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            // The semaphore is never closed.
            turn = self.run_permits.acquire() => turn.ok(),
        };
        let run = Run::new(program, capabilities, cancel, Arc::clone(&self.memory));
        let Some(_turn) = turn else { return run.finish_without_start(AbortReason::Cancelled).await };
        let _ticking = self.ticker.keep_ticking();
        let id = job.id.clone();
        log_limit::with_log_limit(&id, run.execute(job)).await
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("room", &self.run_permits.available_permits()).finish_non_exhaustive()
    }
}
