//! One run: a store that lives as long as the run and no longer, and the clocks that end it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::WasiCtxBuilder;

use crate::beside::Together;
use crate::bindings::exports::konnector::host::run as wit;
use crate::capability::Capabilities;
use crate::clock::{Billed, CpuUsedUp};
use crate::conversation::{Conversation, LastWords};
use crate::environment::Environment;
use crate::filesystem::FileSystem;
use crate::filesystem::interfaces::types::ErrorCode;
use crate::host::wasi_http::Door;
use crate::host::{Context, Handles, Host};
use crate::inspect::Kind;
use crate::job::{Cause, Job};
use crate::limits::Limits;
use crate::memory::{Limiter, SharedMemory};
use crate::outcome::{Ended, Ending, GuestEnd, Judge, Outcome, in_its_words};
use crate::program::{Pre, Program};
use crate::receipt::Receipt;
use crate::scheduler::should_yield;
use crate::stdio::{LineStream, Lines, Source};

/// Random bytes that a guest may ask for in one call.
const RANDOM: u64 = 1 << 20;
/// How long keeping the cookies may take; milliseconds ordinarily.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run that is going on.
pub(crate) struct Run {
    context: Arc<Context>,
    output: LineStream,
    error: LineStream,
    program: Program,
    /// What a command said of its end; `None` for a typed konnector.
    last_words: Option<LastWords>,
}

/// What polling a guest to its end comes to; `Err` is what a panicking host function left behind.
type Polled = Result<Result<GuestEnd, CpuUsedUp>, Box<dyn Any + Send>>;

impl Run {
    pub(crate) fn new(
        program: &Program,
        capabilities: Capabilities,
        cancel: CancellationToken,
        memory: Arc<SharedMemory>,
    ) -> Self {
        let context = Arc::new(Context::new(capabilities, cancel, memory));
        let logs = &context.logs;
        let (output, errors, last_words) = match program.info().kind {
            Kind::Typed { .. } => (LineStream::new(Lines::new(logs.clone(), Source::Output)), Source::Error, None),
            Kind::Command => {
                let (progress, words) = (Arc::clone(&context.capabilities.progress), LastWords::default());
                let conversation = Conversation::new(logs.clone(), progress, words.clone());
                (LineStream::new(conversation), Source::CommandError, Some(words))
            }
        };
        let error = LineStream::new(Lines::new(logs.clone(), errors));
        Self { context, output, error, program: program.clone(), last_words }
    }

    /// A run that ends before it has begun.
    pub(crate) async fn end_at_once(self, ending: Ending) -> Ended {
        self.finish(Outcome::Ended(ending)).await
    }

    /// Goes through to the end, whatever the guest does. When the future is dropped, the guest is gone with it.
    pub(crate) async fn drive(self, job: Job) -> Ended {
        let environment = self.environment(&job);
        let Ok(filesystem) = self.filesystem(&environment) else {
            return self.end_at_once(Ending::Start("its payload has no room in /tmp".to_owned())).await;
        };
        let host = self.host(&environment, filesystem);
        let guest = Together::new(guest(self.program.clone(), host, job), Arc::clone(&self.context.beside));
        let outcome = self.watch(guest).await;
        self.finish(outcome).await
    }

    const fn is_command(&self) -> bool {
        self.last_words.is_some()
    }

    fn environment(&self, job: &Job) -> Environment {
        if !self.is_command() {
            return Environment::of_typed(job);
        }
        Environment::of_command(job, self.context.capabilities.api.as_deref(), self.context.clock.remaining())
    }

    fn filesystem(&self, environment: &Environment) -> Result<FileSystem, ErrorCode> {
        let filesystem = FileSystem::new(&self.context);
        if !self.is_command() {
            return Ok(filesystem);
        }
        filesystem.working_with(environment.file.as_ref())
    }

    fn host(&self, environment: &Environment, filesystem: FileSystem) -> Host {
        let Context { memory, meter, .. } = &*self.context;
        let limits = &self.context.capabilities.limits;
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(self.output.clone())
            .stderr(self.error.clone())
            .envs(&environment.variables)
            .max_random_size(RANDOM);
        if self.is_command() {
            wasi.arg("konnector");
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Host {
            wasi: wasi.build(),
            table,
            door: Door::new(Arc::clone(&self.context)),
            handles: Handles::new(memory, Arc::clone(meter)),
            limiter: Limiter::new(limits.table_elements, memory, Arc::clone(meter)),
            filesystem,
            context: Arc::clone(&self.context),
        }
    }

    /// Polls the guest until the first of: its own end, the deadline, the end of the grace that follows a cancellation. The guest is polled in
    /// the caller's task, so a short run costs no hand-over between threads; a busy one yields every few milliseconds, and so do the
    /// clocks get their turn. When this returns, the store is dropped: nothing that the run began goes on after its end was reported.
    async fn watch(&self, guest: Together<impl Future<Output = GuestEnd>>) -> Outcome {
        let limits = &self.context.capabilities.limits;
        // A panic in a host function ends the run and nothing else. What the guest shares with others (counters, the log) is consistent
        // after any prefix of what it does, and its store is never used again.
        let guest = AssertUnwindSafe(Billed::new(guest, Arc::clone(&self.context.meter), limits.cpu)).catch_unwind();
        tokio::select! {
            biased;
            polled = guest => self.judge(polled).await,
            () = self.context.clock.deadline() => Outcome::Ended(Ending::Deadline(limits.wall)),
            () = self.grace() => Outcome::Ended(Ending::Cancelled),
        }
    }

    async fn grace(&self) {
        self.context.cancel.cancelled().await;
        tokio::time::sleep(self.context.capabilities.limits.grace).await;
    }

    async fn judge(&self, polled: Polled) -> Outcome {
        let judge = Judge {
            limits: &self.context.capabilities.limits,
            meter: &self.context.meter,
            logs: &self.context.logs,
            cancelled: self.context.cancel.is_cancelled(),
            is_command: self.is_command(),
        };
        match polled {
            Ok(end) => {
                // A panic message without a line feed at its end counts too.
                self.error.finish();
                judge.outcome(end).await
            }
            // The panic hook has logged message and place.
            Err(_) => {
                Outcome::Ended(Ending::Fault("a part of the server failed while the konnector used it".to_owned()))
            }
        }
    }

    async fn finish(self, outcome: Outcome) -> Ended {
        self.output.finish();
        self.error.finish();
        let outcome = match &self.last_words {
            Some(words) => in_its_words(&words.told(), outcome),
            None => outcome,
        };
        self.context.logs.finish();
        let Capabilities { account, http, api, .. } = &self.context.capabilities;
        match tokio::time::timeout(PATIENCE, account.save_session(http.cookies())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the cookies of a run could not be kept"),
            Err(_) => tracing::warn!("keeping the cookies of a run took too long"),
        }
        // A command reads the account through our own API, its passwords included.
        let reads_secrets =
            self.program.info().reads_secrets || api.as_ref().is_some_and(|api| api.may_contain_secrets());
        let Context { meter, clock, .. } = &*self.context;
        let receipt = Receipt::new(meter, clock, http.network_usage(), &self.program, reads_secrets);
        Ended { outcome, receipt }
    }
}

/// From the bytes' first instruction to the answer of `run.start`, or the end of `main`. Dropping the future drops the store, and everything in it.
async fn guest(program: Program, host: Host, job: Job) -> GuestEnd {
    let started = Instant::now();
    let meter = Arc::clone(&host.context.meter);
    let mut store = new_store(&program, host);
    let ready = || meter.instantiate_us.add(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    let ended = match program.pre() {
        Pre::Typed(pre) => match pre.instantiate_async(&mut store).await.inspect(|_| ready()) {
            Ok(konnector) => {
                konnector.konnector_host_run().call_start(&mut store, &job.into()).await.map(GuestEnd::Returned)
            }
            Err(error) => return GuestEnd::NotStarted(error),
        },
        Pre::Command(pre) => match pre.instantiate_async(&mut store).await.inspect(|_| ready()) {
            Ok(command) => command.wasi_cli_run().call_run(&mut store).await.map(GuestEnd::Exited),
            Err(error) => return GuestEnd::NotStarted(error),
        },
    };
    ended.unwrap_or_else(GuestEnd::Trapped)
}

fn new_store(program: &Program, host: Host) -> Store<Host> {
    let Limits { host_call_bytes, handles, .. } = host.context.capabilities.limits;
    let mut store = Store::new(program.pre().engine(), host);
    store.limiter(|host| &mut host.limiter);
    store.set_hostcall_fuel(host_call_bytes);
    // Those that a component makes for itself count here, too. The host's own table is full before, and says so with a type.
    store.set_max_component_handles(handles.saturating_mul(2));
    // A guest only ever yields: how long it may go on is for the clocks to say. Set before the instance is made, because a store without
    // a deadline traps at its first check.
    store.epoch_deadline_callback(|_| {
        Ok(match should_yield() {
            true => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
            false => UpdateDeadline::Continue(1),
        })
    });
    store.set_epoch_deadline(1);
    store
}

impl From<Job> for wit::Job {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            attempt: job.attempt,
            cause: match job.cause {
                Cause::Manual => wit::Cause::Manual,
                Cause::Schedule => wit::Cause::Schedule,
                Cause::Event => wit::Cause::Event,
                Cause::Webhook => wit::Cause::Webhook,
                Cause::Retry => wit::Cause::Retry,
                Cause::AccountDeleted => wit::Cause::AccountDeleted,
            },
            last_success: job.last_success,
            parameters: serde_json::Value::Object(job.parameters).to_string(),
            payload: job.payload.map(|payload| payload.to_string()),
            locale: job.locale,
            time_zone: job.time_zone,
        }
    }
}
