//! One run: a store that lives exactly as long as the run, and the clocks that end it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::WasiCtxBuilder;

use crate::bindings::exports::konnector::host::run as wit;
use crate::capability::Capabilities;
use crate::clock::{CpuExhausted, CpuLimited};
use crate::environment::Environment;
use crate::filesystem::GuestFilesystem;
use crate::filesystem::interfaces::types::ErrorCode;
use crate::host::wasi_http::WasiHttpState;
use crate::host::{Context, HandleCharge, Host};
use crate::inspect::ComponentKind;
use crate::job::{RunCause, RunInput};
use crate::limits::Limits;
use crate::memory::{MemoryLimiter, MemoryPool};
use crate::outcome::{AbortReason, GuestExit, Outcome, OutcomeClassifier, RunOutput, with_reported_error};
use crate::program::{Program, ProgramPre};
use crate::receipt::Receipt;
use crate::scheduler::should_yield;
use crate::side_tasks::GuestWithTasks;
use crate::stdio::{LineStream, LogLineSink, StdioSource};
use crate::stdout_session::{ExitMessage, StdoutSession};

/// Maximum number of random bytes per call.
const MAX_RANDOM_BYTES: u64 = 1 << 20;
/// Time limit for saving the cookies, which normally takes milliseconds.
const SAVE_SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// An active run.
pub(crate) struct Run {
    context: Arc<Context>,
    output: LineStream,
    error: LineStream,
    program: Program,
    /// Status that a command reported; `None` for a typed konnector.
    exit_message: Option<ExitMessage>,
}

/// Result of polling a guest to its end; `Err` is the payload of a panic in a host function.
type PollResult = Result<Result<GuestExit, CpuExhausted>, Box<dyn Any + Send>>;

impl Run {
    pub(crate) fn new(
        program: &Program,
        capabilities: Capabilities,
        cancel: CancellationToken,
        memory: Arc<MemoryPool>,
    ) -> Self {
        let context = Arc::new(Context::new(capabilities, cancel, memory));
        let logs = &context.logs;
        let (output, errors, exit_message) = match program.info().kind {
            ComponentKind::Typed { .. } => {
                (LineStream::new(LogLineSink::new(logs.clone(), StdioSource::Output)), StdioSource::Error, None)
            }
            ComponentKind::Command => {
                let (progress, exit_message) = (Arc::clone(&context.capabilities.progress), ExitMessage::default());
                let session = StdoutSession::new(logs.clone(), progress, exit_message.clone());
                (LineStream::new(session), StdioSource::CommandError, Some(exit_message))
            }
        };
        let error = LineStream::new(LogLineSink::new(logs.clone(), errors));
        Self { context, output, error, program: program.clone(), exit_message }
    }

    /// Ends the run before it has started.
    pub(crate) async fn finish_without_start(self, ending: AbortReason) -> RunOutput {
        self.finish(Outcome::Aborted(ending)).await
    }

    /// Executes the run to its end, even if the guest never returns. Dropping the future drops the guest.
    pub(crate) async fn execute(self, job: RunInput) -> RunOutput {
        let environment = self.environment(&job);
        let Ok(filesystem) = self.filesystem(&environment) else {
            return self
                .finish_without_start(AbortReason::StartFailed("its payload does not fit into /tmp".to_owned()))
                .await;
        };
        let host = self.host(&environment, filesystem);
        let guest =
            GuestWithTasks::new(run_guest(self.program.clone(), host, job), Arc::clone(&self.context.side_tasks));
        let outcome = self.run_until_end(guest).await;
        self.finish(outcome).await
    }

    const fn is_command(&self) -> bool {
        self.exit_message.is_some()
    }

    fn environment(&self, job: &RunInput) -> Environment {
        if !self.is_command() {
            return Environment::for_typed(job);
        }
        Environment::for_command(job, self.context.capabilities.api.as_deref(), self.context.clock.remaining())
    }

    fn filesystem(&self, environment: &Environment) -> Result<GuestFilesystem, ErrorCode> {
        let filesystem = GuestFilesystem::new(&self.context);
        if !self.is_command() {
            return Ok(filesystem);
        }
        filesystem.with_working_directory(environment.payload_file.as_ref())
    }

    fn host(&self, environment: &Environment, filesystem: GuestFilesystem) -> Host {
        let Context { memory, meter, .. } = &*self.context;
        let limits = &self.context.capabilities.limits;
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(self.output.clone())
            .stderr(self.error.clone())
            .envs(&environment.variables)
            .max_random_size(MAX_RANDOM_BYTES);
        if self.is_command() {
            wasi.arg("konnector");
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Host {
            wasi: wasi.build(),
            table,
            wasi_http: WasiHttpState::new(Arc::clone(&self.context)),
            handles: HandleCharge::new(memory, Arc::clone(meter)),
            limiter: MemoryLimiter::new(limits.table_elements, memory, Arc::clone(meter)),
            filesystem,
            context: Arc::clone(&self.context),
        }
    }

    /// Polls the guest until it ends by itself, the deadline passes, or the grace period after a cancellation ends. The
    /// guest is polled in the caller's task, so a short run costs no hand-over between threads; a busy guest yields
    /// every few milliseconds, which lets the clocks be polled. When this returns, the store has been dropped, so no
    /// work of the run continues after its end is reported.
    async fn run_until_end(&self, guest: GuestWithTasks<impl Future<Output = GuestExit>>) -> Outcome {
        let limits = &self.context.capabilities.limits;
        // A panic in a host function ends only this run. The state that the guest shares with others (counters, the
        // log) is consistent after any prefix of its actions, and its store is never used again.
        let guest =
            AssertUnwindSafe(CpuLimited::new(guest, Arc::clone(&self.context.meter), limits.cpu)).catch_unwind();
        tokio::select! {
            biased;
            polled = guest => self.classify_outcome(polled).await,
            () = self.context.clock.deadline() => Outcome::Aborted(AbortReason::Deadline(limits.wall)),
            () = self.grace_period_after_cancel() => Outcome::Aborted(AbortReason::Cancelled),
        }
    }

    async fn grace_period_after_cancel(&self) {
        self.context.cancel.cancelled().await;
        tokio::time::sleep(self.context.capabilities.limits.grace_period).await;
    }

    async fn classify_outcome(&self, polled: PollResult) -> Outcome {
        let classifier = OutcomeClassifier {
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
                classifier.classify(end).await
            }
            // The panic hook has logged the message and its location.
            Err(_) => Outcome::Aborted(AbortReason::HostFault("a host function panicked".to_owned())),
        }
    }

    async fn finish(self, outcome: Outcome) -> RunOutput {
        self.output.finish();
        self.error.finish();
        let outcome = match &self.exit_message {
            Some(message) => with_reported_error(&message.status(), outcome),
            None => outcome,
        };
        self.context.logs.finish();
        let Capabilities { account, http, api, .. } = &self.context.capabilities;
        match tokio::time::timeout(SAVE_SESSION_TIMEOUT, account.save_session(http.cookies())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot save the cookies of a run"),
            Err(_) => tracing::warn!("saving the cookies of a run timed out"),
        }
        // A command reads the account through the internal API, passwords included.
        let reads_secrets =
            self.program.info().reads_secrets || api.as_ref().is_some_and(|api| api.may_contain_secrets());
        let Context { meter, clock, .. } = &*self.context;
        let receipt = Receipt::new(meter, clock, http.network_usage(), &self.program, reads_secrets);
        RunOutput { outcome, receipt, file_quota: self.context.file_quota() }
    }
}

/// Runs the guest from its first instruction until `run.run` returns or `main` ends. Dropping the future drops the
/// store and everything in it.
async fn run_guest(program: Program, host: Host, job: RunInput) -> GuestExit {
    let started = Instant::now();
    let meter = Arc::clone(&host.context.meter);
    let mut store = new_store(&program, host);
    let ready = || meter.instantiate_us.add(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    let ended = match program.pre() {
        ProgramPre::Typed(pre) => match pre.instantiate_async(&mut store).await.inspect(|_| ready()) {
            Ok(konnector) => {
                konnector.konnector_host_run().call_run(&mut store, &job.into()).await.map(GuestExit::Returned)
            }
            Err(error) => return GuestExit::NotStarted(error),
        },
        ProgramPre::Command(pre) => match pre.instantiate_async(&mut store).await.inspect(|_| ready()) {
            Ok(command) => command.wasi_cli_run().call_run(&mut store).await.map(GuestExit::Exited),
            Err(error) => return GuestExit::NotStarted(error),
        },
    };
    ended.unwrap_or_else(GuestExit::Trapped)
}

fn new_store(program: &Program, host: Host) -> Store<Host> {
    let Limits { host_call_bytes, handles, .. } = host.context.capabilities.limits;
    let mut store = Store::new(program.pre().engine(), host);
    store.limiter(|host| &mut host.limiter);
    store.set_hostcall_fuel(host_call_bytes);
    // Handles that a component creates for itself count here, too. The host's own table is full earlier and reports
    // that with a typed error.
    store.set_max_component_handles(handles.saturating_mul(2));
    // The callback only ever yields; the clocks decide how long the guest may run. Set before the instance is created,
    // because a store without a deadline traps at its first check.
    store.epoch_deadline_callback(|_| {
        Ok(match should_yield() {
            true => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
            false => UpdateDeadline::Continue(1),
        })
    });
    store.set_epoch_deadline(1);
    store
}

impl From<RunInput> for wit::Job {
    fn from(job: RunInput) -> Self {
        Self {
            id: job.id,
            attempt: job.attempt,
            cause: match job.cause {
                RunCause::Manual => wit::Cause::Manual,
                RunCause::Schedule => wit::Cause::Schedule,
                RunCause::Event => wit::Cause::Event,
                RunCause::Webhook => wit::Cause::Webhook,
                RunCause::Retry => wit::Cause::Retry,
                RunCause::AccountDeleted => wit::Cause::AccountDeleted,
            },
            last_success: job.last_success,
            parameters: serde_json::Value::Object(job.parameters).to_string(),
            payload: job.payload.map(|payload| payload.to_string()),
            locale: job.locale,
            time_zone: job.time_zone,
        }
    }
}
