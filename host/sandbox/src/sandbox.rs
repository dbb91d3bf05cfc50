//! The sandbox itself: the one engine, what is ready to run, and the room for runs.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cache::CodeKey;
use crate::capability::Capabilities;
use crate::compile::Compiler;
use crate::complaint;
use crate::engine::{Size, Ticker, engine};
use crate::error::Error;
use crate::inspect::{self, ComponentInfo};
use crate::job::Job;
use crate::linker::linker;
use crate::memory::SharedMemory;
use crate::outcome::{Ended, Ending};
use crate::program::{Digest, Program, Programs};
use crate::run::Run;

/// How large a sandbox is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Runs at the same time; more wait for their turn.
    pub max_runs: u32,
    /// Bytes of linear memory that no run may exceed, whatever its [`Limits`](crate::Limits) say.
    pub memory_ceiling: usize,
    /// Bytes of linear memory that all runs may hold together.
    pub total_memory: u64,
    /// Threads of the runtime for guests, so that a busy guest never delays other work of the process; see [`Sandbox::runtime`].
    pub worker_threads: usize,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// What compiled code on disk is known by. `None` makes one up: code of other processes is not loaded then.
    pub code_key: Option<CodeKey>,
}

impl Default for Options {
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
    programs: Programs,
    room: Arc<Semaphore>,
    memory: Arc<SharedMemory>,
    memory_ceiling: u64,
    ticker: Ticker,
    guests: GuestRuntime,
}

/// A runtime that may be dropped inside of another one.
struct GuestRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Sandbox {
    /// Makes the engine, its instance pool, and the runtime for guests.
    ///
    /// # Errors
    /// The machine lacks what the engine needs, or a thread cannot be started.
    pub fn new(options: Options) -> Result<Self, Error> {
        let Options { max_runs, memory_ceiling, total_memory, worker_threads, compiler, code_key } = options;
        let size = Size { runs: max_runs, memory_ceiling };
        let engine = engine(size)?;
        let linker = linker(&engine).map_err(|error| Error::Engine(format!("{error:#}")))?;
        let ticker = Ticker::start(&engine)?;
        Ok(Self {
            programs: Programs::new(engine, size, linker, compiler, code_key.map_or_else(CodeKey::random, Ok)?),
            room: Arc::new(Semaphore::new(max_runs as usize)),
            memory: Arc::new(SharedMemory::new(total_memory)),
            memory_ceiling: memory_ceiling as u64,
            ticker,
            guests: GuestRuntime::new(worker_threads)?,
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
    pub fn prepared(&self, digest: Digest) -> Option<Program> {
        self.programs.prepared(digest)
    }

    /// The runtime for guests: whatever calls [`run`](Self::run) belongs on it. A guest is polled in the task that called `run`, in slices
    /// of at most 10 ms.
    pub fn runtime(&self) -> &Handle {
        &self.guests.handle
    }

    /// The engine, for measurements that compare this sandbox with wasmtime alone.
    #[doc(hidden)]
    pub fn engine(&self) -> &wasmtime::Engine {
        self.programs.engine()
    }

    /// Runs a konnector to its end, and always comes to one: its own, or a limit's. Waits for its turn first when
    /// [`Options::max_runs`] are going on; that time does not count.
    ///
    /// After `cancel` every host function answers `cancelled` at once, and after [`Limits::grace`](crate::Limits::grace) the run is ended.
    /// When this future is dropped, the run is ended without a receipt and without keeping its cookies.
    pub async fn run(
        &self,
        program: &Program,
        job: Job,
        mut capabilities: Capabilities,
        cancel: CancellationToken,
    ) -> Ended {
        capabilities.limits.memory = capabilities.limits.memory.min(self.memory_ceiling);
        let turn = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            // The semaphore is never closed.
            turn = self.room.acquire() => turn.ok(),
        };
        let run = Run::new(program, capabilities, cancel, Arc::clone(&self.memory));
        let Some(_turn) = turn else { return run.end_at_once(Ending::Cancelled).await };
        let _ticking = self.ticker.keep_ticking();
        let id = job.id.clone();
        complaint::limited(&id, run.drive(job)).await
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("room", &self.room.available_permits()).finish_non_exhaustive()
    }
}

impl GuestRuntime {
    fn new(threads: usize) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("konnector-guest")
            // A busy guest takes a whole tick of the epoch for one poll: look for new runs and finished I/O after each, not after sixty-one.
            .global_queue_interval(1)
            .event_interval(1)
            .enable_all()
            .build()
            .map_err(|error| Error::Engine(format!("cannot start the guests' threads: {error}")))?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for GuestRuntime {
    fn drop(&mut self) {
        // Dropping a runtime inside of another one panics, because it would block; guests are not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
