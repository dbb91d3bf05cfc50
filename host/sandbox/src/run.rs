//! One run: a store that lives as long as the run and no longer, a task that the guest is in, and the clocks that end it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::WasiCtxBuilder;

use crate::bindings::exports::konnector::host::run as wit;
use crate::capability::Capabilities;
use crate::clock::{Billed, CpuUsedUp};
use crate::filesystem::FileSystem;
use crate::host::{Context, Host};
use crate::job::{Cause, Job};
use crate::memory::{Limiter, SharedMemory};
use crate::outcome::{Ended, Ending, GuestEnd, Judge, Outcome};
use crate::program::Program;
use crate::receipt::Receipt;
use crate::stdio::{LineStream, Source};

/// Random bytes that a guest may ask for in one call.
const RANDOM: u64 = 1 << 20;
/// How long a task may take to notice that it was aborted, and how long keeping the cookies may take. Both are milliseconds ordinarily.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run that is going on.
pub(crate) struct Run {
    context: Arc<Context>,
    output: LineStream,
    error: LineStream,
    reads_secrets: bool,
}

type GuestTask = AbortOnDropHandle<Result<GuestEnd, CpuUsedUp>>;

impl Run {
    pub(crate) fn new(program: &Program, capabilities: Capabilities, cancel: CancellationToken) -> Self {
        let context = Arc::new(Context::new(capabilities, cancel));
        let output = LineStream::new(context.logs.clone(), Source::Output);
        let error = LineStream::new(context.logs.clone(), Source::Error);
        Self { context, output, error, reads_secrets: program.info().reads_secrets }
    }

    /// A run that ends before it has begun.
    pub(crate) async fn end_at_once(self, ending: Ending) -> Ended {
        self.finish(Outcome::Ended(ending)).await
    }

    /// Goes through to the end, whatever the guest does. When the future is dropped, the guest's task is aborted.
    pub(crate) async fn drive(self, program: Program, job: Job, memory: Arc<SharedMemory>, guests: &Handle) -> Ended {
        let task = self.spawn(program, job, memory, guests);
        let outcome = self.watch(AbortOnDropHandle::new(task)).await;
        self.finish(outcome).await
    }

    /// Puts the guest into a task of its own, so that a panic in a host function ends the run and nothing else.
    fn spawn(
        &self,
        program: Program,
        job: Job,
        memory: Arc<SharedMemory>,
        guests: &Handle,
    ) -> JoinHandle<Result<GuestEnd, CpuUsedUp>> {
        let host = self.host(&job, memory);
        let (meter, limit) = (Arc::clone(&self.context.meter), self.context.capabilities.limits.cpu);
        guests.spawn(async move { Billed::new(guest(program, host, job), meter, limit).await })
    }

    fn host(&self, job: &Job, memory: Arc<SharedMemory>) -> Host {
        let limits = &self.context.capabilities.limits;
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(self.output.clone())
            .stderr(self.error.clone())
            .env("TZ", &job.time_zone)
            .env("LANG", &job.locale)
            .max_random_size(RANDOM);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Host {
            wasi: wasi.build(),
            table,
            limiter: Limiter::new(limits, memory, Arc::clone(&self.context.meter)),
            filesystem: FileSystem::new(&self.context),
            context: Arc::clone(&self.context),
        }
    }

    /// Waits for the first of: the guest's own end, the deadline, the end of the grace that follows a cancellation.
    async fn watch(&self, mut task: GuestTask) -> Outcome {
        let ending = tokio::select! {
            biased;
            ended = &mut task => return self.judge(ended),
            () = self.context.clock.deadline() => Ending::Deadline(self.context.capabilities.limits.wall),
            () = self.grace() => Ending::Cancelled,
        };
        // The run is over only when its store is gone: nothing that it began may go on after its end was reported.
        task.abort();
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            tracing::error!(
                "the task of a run did not end within {PATIENCE:?} of being aborted: a host function blocks"
            );
        }
        Outcome::Ended(ending)
    }

    async fn grace(&self) {
        self.context.cancel.cancelled().await;
        tokio::time::sleep(self.context.capabilities.limits.grace).await;
    }

    fn judge(&self, ended: Result<Result<GuestEnd, CpuUsedUp>, JoinError>) -> Outcome {
        let judge = Judge {
            limits: &self.context.capabilities.limits,
            meter: &self.context.meter,
            logs: &self.context.logs,
            cancelled: self.context.cancel.is_cancelled(),
        };
        match ended {
            Ok(end) => {
                // A panic message without a line feed at its end counts too.
                self.error.finish();
                judge.outcome(end)
            }
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "a host function panicked");
                Outcome::Ended(Ending::Fault("a part of the server failed while the konnector used it".to_owned()))
            }
            // The runtime is shutting down.
            Err(_) => Outcome::Ended(Ending::Cancelled),
        }
    }

    async fn finish(self, outcome: Outcome) -> Ended {
        self.output.finish();
        self.error.finish();
        self.context.logs.finish();
        let Capabilities { account, http, .. } = &self.context.capabilities;
        match tokio::time::timeout(PATIENCE, account.save_session(http.cookies())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the cookies of a run could not be kept"),
            Err(_) => tracing::warn!("keeping the cookies of a run took too long"),
        }
        let receipt = Receipt::new(&self.context.meter, &self.context.clock, http.ledger(), self.reads_secrets);
        Ended { outcome, receipt }
    }
}

/// From the bytes' first instruction to the answer of `run.start`. Dropping the future drops the store, and everything in it.
async fn guest(program: Program, host: Host, job: Job) -> GuestEnd {
    let started = Instant::now();
    let meter = Arc::clone(&host.context.meter);
    let mut store = new_store(&program, host);
    let konnector = match program.pre().instantiate_async(&mut store).await {
        Ok(konnector) => konnector,
        Err(error) => return GuestEnd::NotStarted(error),
    };
    meter.instantiate_us.add(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    match konnector.konnector_host_run().call_start(&mut store, &job.into()).await {
        Ok(result) => GuestEnd::Returned(result),
        Err(error) => GuestEnd::Trapped(error),
    }
}

fn new_store(program: &Program, host: Host) -> Store<Host> {
    let limits = host.context.capabilities.limits.clone();
    let mut store = Store::new(program.pre().engine(), host);
    store.limiter(|host| &mut host.limiter);
    store.set_hostcall_fuel(limits.host_call_bytes);
    store.set_max_component_handles(limits.handles);
    // A guest only ever yields: how long it may go on is for the clocks to say. Set before the instance is made, because a store without
    // a deadline traps at its first check.
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
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
            },
            parameters: serde_json::Value::Object(job.parameters).to_string(),
            payload: job.payload.map(|payload| payload.to_string()),
            locale: job.locale,
            time_zone: job.time_zone,
        }
    }
}
