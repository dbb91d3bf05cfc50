//! Workers: claim jobs from the queue, run them, and apply their results.
//!
//! A worker holds a lease on its job and renews it. All writes of the run are fenced by that lease, so a worker that
//! lost it can no longer write; by then it has already stopped contacting the vendor.

use std::sync::Arc;
use std::time::Duration;

use konnector_store::{Lease, Map};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::heartbeat::{HeartbeatTask, LeaseGuard};
use super::runner::{Assignment, RunResult};
use super::step::JobEvent;
use super::transition::{LeaseAuthority, RunArtifacts};
use super::{Job, JobStatus};
use crate::Jobs;
use crate::{Error, Result};
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::Stored;

/// How long a run may continue after the server is asked to stop.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(4);
/// Maximum time that a worker sleeps when nothing wakes it.
const MAX_SLEEP: Duration = Duration::from_secs(1);

impl Jobs {
    /// Claims and runs jobs until shutdown, at most [`crate::Config::workers`] at a time.
    pub async fn run_workers(&self) {
        let slots = Arc::new(Semaphore::new(self.context.state.settings.workers.max(1) as usize));
        while !self.context.core.draining().is_cancelled() {
            if let Err(error) = self.start_available(&slots).await {
                tracing::error!(%error, "cannot claim a job; trying again");
            }
            let sleep = match self.context.core.store().next_run_at() {
                Ok(Some(ready)) => {
                    (ready - self.context.core.clock().now()).to_std().unwrap_or_default().min(MAX_SLEEP)
                }
                Ok(None) | Err(_) => MAX_SLEEP,
            };
            tokio::select! {
                biased;
                () = self.context.core.draining().cancelled() => {}
                () = self.context.state.worker_wakeup.notified() => {}
                // Not immediately, because a clock that was set back may just have made a job wait again.
                () = tokio::time::sleep(sleep.max(Duration::from_millis(1))) => {}
            }
        }
    }

    /// Starts as many jobs as there are free slots.
    async fn start_available(&self, slots: &Arc<Semaphore>) -> Result<()> {
        let free = slots.available_permits();
        if free == 0 {
            return Ok(());
        }
        let asked_at = self.context.core.clock().elapsed();
        for lease in self.claim(free).await? {
            // Only this loop takes slots, so there is one.
            let Ok(slot) = Arc::clone(slots).try_acquire_owned() else { break };
            let held = Arc::new(LeaseGuard::new(lease, asked_at, self.context.state.settings.lease_ttl));
            let cancel = self.context.state.running_jobs.register(&held.lease.job);
            let keeper = self.spawn_heartbeat(&held, &cancel);
            let jobs = self.clone();
            let span = run_span(&held.lease);
            let work = async move { jobs.run_claimed(&held, &cancel, keeper, slot).await }.instrument(span);
            self.context.state.runner.spawn(&self.context, Box::pin(self.context.core.tasks().track_future(work)));
        }
        Ok(())
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Lease>> {
        let now = self.context.core.clock().now();
        let started = move |body: &mut Map| {
            body.insert("state".to_owned(), json!(JobStatus::Running));
            body.insert("started_at".to_owned(), json!(now));
        };
        let needs = |job: &_, document: &_| self.permits(job, document);
        Ok(self.context.core.store().claim(&self.context.state.worker_id, now, limit, &needs, &started).await?)
    }

    /// Runs a claimed job.
    async fn run_claimed(
        &self,
        held: &LeaseGuard,
        cancel: &CancellationToken,
        keeper: HeartbeatTask,
        slot: OwnedSemaphorePermit,
    ) {
        let lease = &held.lease;
        let result = tokio::select! {
            biased;
            () = held.lost().cancelled() => Err(Error::StaleLease),
            result = self.execute(held, cancel) => result,
        };
        drop(keeper);
        self.context.state.running_jobs.unregister(&lease.job);
        match result {
            Ok(()) => {}
            Err(Error::StaleLease) => {
                tracing::warn!(
                    job = lease.job.id,
                    epoch = lease.epoch,
                    event = "lease_lost",
                    "this worker lost its lease and stopped the run"
                );
                // If no other worker has the job yet, requeue it now rather than when others notice.
                drop(self.apply(&lease.job, LeaseAuthority::Holder(lease), JobEvent::LeaseLost, None).await);
            }
            Err(error) => {
                tracing::error!(job = lease.job.id, %error, "the end of the job could not be stored; another worker will take the job over");
            }
        }
        drop(slot);
        self.context.wake_workers();
    }

    async fn execute(&self, held: &LeaseGuard, cancel: &CancellationToken) -> Result<()> {
        let at = &held.lease.job;
        let instance = self.context.triggers().instance_of(at)?;
        let Some(Stored { id, value, .. }) = self.context.core.load::<Job>(at)? else {
            return Err(Error::NotFound(format!("the job '{}' no longer exists", at.id)));
        };
        let job = Job { id, ..value };
        let span = tracing::Span::current();
        span.record("instance", &instance.domain);
        span.record("konnector", job.argument("konnector").unwrap_or_default());
        self.context.core.publish(at, ChangeKind::Updated, &job);
        tracing::debug!(
            job = job.id,
            wait_ms = (self.context.core.clock().now() - job.queued_at).num_milliseconds(),
            "started"
        );
        if let Some(verdict) = self.context.triggers().blocked_reason(&instance, &job)? {
            return self.finish(held, JobEvent::Ended(Some(verdict)), None).await;
        }
        if job.needs_space && !self.context.files().is_below_quota(&instance).await? {
            return self.finish(held, JobEvent::NoSpace, None).await;
        }
        let assignment = Assignment { instance, job, lease: held.lease.clone(), cancel: cancel.clone() };
        let (event, remains) = tokio::select! {
            biased;
            finished = self.run_while_leased(held, self.context.state.runner.run(&self.context, assignment)) => {
                let RunResult { failure: verdict, artifacts: remains } = finished?;
                (JobEvent::Ended(verdict), remains)
            }
            // The run is dropped, together with its connections.
            () = self.shutdown_grace_elapsed() => (JobEvent::ServerStopped, RunArtifacts::default()),
        };
        self.finish(held, event, Some(remains)).await
    }

    async fn finish(&self, held: &LeaseGuard, event: JobEvent, remains: Option<RunArtifacts>) -> Result<()> {
        held.mark_ending();
        self.apply(&held.lease.job, LeaseAuthority::Holder(&held.lease), event, remains).await
    }

    /// Waits until the server is asked to stop, and then for the grace period of runs.
    async fn shutdown_grace_elapsed(&self) {
        self.context.core.draining().cancelled().await;
        tokio::select! {
            biased;
            () = tokio::time::sleep(SHUTDOWN_GRACE_PERIOD) => {}
            () = self.context.core.forced_shutdown().cancelled() => {}
        }
    }
}

/// Returns the span of a run, with which every log line of it carries its job and the number of the run.
fn run_span(lease: &Lease) -> tracing::Span {
    tracing::info_span!("run", job = lease.job.id, run = lease.epoch, instance = Empty, konnector = Empty)
}
