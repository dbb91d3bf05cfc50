//! The sandbox itself, with the process's only engine, the programs that are ready to run, and the permits for runs.

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

/// Size and compiler settings of a sandbox.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Maximum number of concurrent runs; further runs wait for a permit.
    pub max_runs: u32,
    /// Upper bound on the linear memory of each run in bytes, regardless of its [`Limits`](crate::Limits).
    pub memory_ceiling: usize,
    /// Maximum number of bytes of linear memory that all runs together may hold.
    pub total_memory: u64,
    /// Number of dedicated threads for guests, so that a busy guest never delays other work of the process; see
    /// [`Sandbox::spawn`].
    pub worker_threads: usize,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// Key that authenticates compiled code on disk. `None` generates a random key; code from other processes is then
    /// not loaded.
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

/// Runs components. There is one per process.
pub struct Sandbox {
    programs: ProgramCache,
    run_permits: Arc<Semaphore>,
    memory: Arc<MemoryPool>,
    memory_ceiling: u64,
    ticker: Ticker,
    scheduler: Scheduler,
}

impl Sandbox {
    /// Creates the engine, its instance pool, and the threads for guests.
    ///
    /// # Errors
    ///
    /// If the machine lacks something that the engine needs, or a thread cannot be started.
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

    /// Reads the kind, imports and size of a component without compiling it; safe for untrusted bytes.
    ///
    /// # Errors
    ///
    /// If the bytes are not a component that this host can run; the message states the reason and the remedy.
    pub fn inspect(bytes: &[u8]) -> Result<ComponentInfo, Error> {
        inspect::inspect(bytes)
    }

    /// Compiles a component, or loads its compiled code from `cache_dir` or from memory; [`Program::preparation`]
    /// reports which. Compiles one component at a time. Cancel-safe: a compilation in a child process is aborted.
    ///
    /// # Errors
    ///
    /// As [`inspect`](Self::inspect), or if the component cannot be compiled or linked, compilation exceeds its limits,
    /// or the cache cannot be written.
    pub async fn prepare(&self, bytes: &[u8], cache_dir: &Path) -> Result<Program, Error> {
        self.programs.prepare(bytes, cache_dir).await
    }

    /// Returns a recently prepared program, which saves reading the component's bytes.
    pub fn cached_program(&self, digest: ComponentDigest) -> Option<Program> {
        self.programs.get(digest)
    }

    /// Runs a task on the threads for guests. Call [`run`](Self::run) only from such a task. A guest is polled in the
    /// task that called `run`, so a short run costs no hand-over between threads. Tasks have equal shares of the
    /// threads and run in tokio's context, but are not scheduled by a tokio runtime.
    pub fn spawn<F>(&self, task: F) -> GuestTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.scheduler.spawn(task)
    }

    /// Returns the engine, for benchmarks that compare this sandbox with plain wasmtime.
    #[doc(hidden)]
    pub fn engine(&self) -> &wasmtime::Engine {
        self.programs.engine()
    }

    /// Runs a konnector until it ends by itself or reaches a limit; it always terminates. Waits for a permit first
    /// while [`SandboxOptions::max_runs`] runs are active; that time does not count.
    ///
    /// After `cancel`, every host function immediately returns `cancelled`, and after
    /// [`Limits::grace_period`](crate::Limits::grace_period) the run is ended. If this future is dropped, the run ends
    /// without a receipt and its cookies are not saved.
    pub async fn run(
        &self,
        program: &Program,
        job: RunInput,
        mut capabilities: Capabilities,
        cancel: CancellationToken,
    ) -> RunOutput {
        capabilities.limits.memory = capabilities.limits.memory.min(self.memory_ceiling);
        let permit = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            // The semaphore is never closed.
            permit = self.run_permits.acquire() => permit.ok(),
        };
        let run = Run::new(program, capabilities, cancel, Arc::clone(&self.memory));
        let Some(_permit) = permit else { return run.finish_without_start(AbortReason::Cancelled).await };
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
