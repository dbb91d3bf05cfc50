//! Workers: take jobs from the queue, run them, and store what became of them.
//!
//! A worker holds a lease on its job and renews it. Everything that the run writes is fenced by that lease, so a worker that lost it can
//! no longer write; its run is cancelled besides.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use konnector_manifest::Slug;
use konnector_sandbox::{Ended, Outcome};
use konnector_store::{BlobId, Changes, Lease};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Job, Retry, State, Verdict, at, leave};
use crate::instance::Instance;
use crate::realtime::Happened;
use crate::run::Run;
use crate::stored::{Stored, new_id, object};
use crate::{Error, Platform, Result};

/// How often a job that was interrupted by a stop of the server is started again.
const MOST_INTERRUPTIONS: u32 = 5;
/// How often a run is tried in all while the vendor is down.
const MOST_ATTEMPTS: u32 = 8;
/// The longest delay between two attempts.
const LONGEST_DELAY: Duration = Duration::from_secs(6 * 3_600);
/// Delay before the one more attempt after a fault.
const SECOND_CHANCE: Duration = Duration::from_secs(3_600);
/// How often the end of a job is stored again after somebody else was quicker.
const TRIES: usize = 5;
/// How long a run may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(4);
/// How long a worker sleeps at the most when nothing wakes it.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

impl Platform {
    /// Gives the jobs of workers that are no more back to the queue. The store admits one process at a time, so every lease that is
    /// found at the start belonged to a process that is gone.
    pub(crate) async fn recover_jobs(&self) -> Result<()> {
        for lease in self.store.leases()? {
            tracing::warn!(job = lease.job.id, "the server stopped while this job ran; it runs again");
            self.interrupt(&lease).await?;
        }
        Ok(())
    }

    /// Gives jobs back whose workers did not renew their leases.
    async fn reclaim_expired(&self) -> Result<()> {
        for lease in self.store.expired(self.clock.now())? {
            tracing::warn!(job = lease.job.id, "the lease of this job ran out; it runs again");
            self.interrupt(&lease).await?;
        }
        Ok(())
    }

    /// Claims and runs jobs until told to stop, at most [`crate::Config::workers`] at a time.
    pub(crate) async fn worker_loop(&self) {
        let worker = new_id();
        let slots = Arc::new(Semaphore::new(self.config.workers.max(1) as usize));
        while !self.stopping().is_cancelled() {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            if let Err(error) = self.reclaim_expired().await {
                tracing::error!(%error, "jobs whose leases ran out could not be given back");
            }
            match self.claim(&worker).await {
                Ok(Some(lease)) => {
                    let platform = self.clone();
                    let work = async move {
                        platform.work(lease).await;
                        drop(slot);
                        platform.wake_workers();
                    };
                    self.tasks().spawn_on(work, self.sandbox.runtime());
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "no job could be claimed; trying again"),
            }
            drop(slot);
            let sleep = match self.store.next_ready() {
                Ok(Some(ready)) => (ready - self.clock.now())
                    .to_std()
                    .unwrap_or_default()
                    .clamp(Duration::from_millis(50), LONGEST_SLEEP),
                Ok(None) | Err(_) => LONGEST_SLEEP,
            };
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.workers_woken() => {}
                () = self.stopping().cancelled() => {}
            }
        }
    }

    async fn claim(&self, worker: &str) -> Result<Option<Lease>> {
        let now = self.clock.now();
        let started = move |body: &mut serde_json::Map<String, serde_json::Value>| {
            body.insert("state".to_owned(), serde_json::json!(State::Running));
            body.insert("started_at".to_owned(), serde_json::json!(now));
        };
        let leases = self.store.claim(worker, now, self.config.lease, 1, &|_, _| true, &started).await?;
        Ok(leases.into_iter().next())
    }

    /// Runs a claimed job to its end, whatever that is.
    async fn work(&self, lease: Lease) {
        let cancel = CancellationToken::new();
        let heartbeat = self.heartbeat(&lease, &cancel);
        let run = self.execute(&lease, &cancel);
        let result = tokio::select! {
            result = run => result,
            never = heartbeat => match never {},
        };
        match result {
            Ok(()) => {}
            Err(Error::StaleLease) => {
                tracing::warn!(job = lease.job.id, "this worker lost its lease; another one has the job")
            }
            Err(error) => {
                tracing::error!(job = lease.job.id, %error, "the end of the job could not be stored; its lease will expire")
            }
        }
    }

    /// Renews the lease, and cancels the run before the lease can lapse. Never returns.
    async fn heartbeat(&self, lease: &Lease, cancel: &CancellationToken) -> Infallible {
        let mut last_renewed = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(self.config.lease / 4).await;
            match self.store.renew(lease, self.clock.now() + self.config.lease).await {
                Ok(()) => last_renewed = tokio::time::Instant::now(),
                Err(konnector_store::Error::StaleLease { .. }) => cancel.cancel(),
                Err(error) => tracing::warn!(job = lease.job.id, %error, "the lease could not be renewed"),
            }
            if last_renewed.elapsed() > self.config.lease * 3 / 4 {
                cancel.cancel();
            }
        }
    }

    async fn execute(&self, lease: &Lease, cancel: &CancellationToken) -> Result<()> {
        let instance = self.instance_of(&lease.job)?;
        let Some(Stored { id, value, .. }) = self.stored::<Job>(&lease.job)? else {
            return Err(Error::NotFound(format!("the job '{}' is gone", lease.job.id)));
        };
        let mut job = Job { id, ..value };
        self.publish(&lease.job, Happened::Updated, object(&job)?);

        let stopping = self.stopping().clone();
        let run = match self.prepare(&instance, &mut job, lease).await {
            Ok(run) => run,
            Err(verdict) => return self.end(&instance, lease, job, None, Some(verdict), None).await,
        };
        let ended = tokio::select! {
            ended = run.execute(cancel.clone()) => ended,
            () = grace_over(&stopping) => {
                cancel.cancel();
                // Not awaited: the run's store is dropped, its lease given back. It costs no attempt.
                return self.interrupt(lease).await;
            }
        };
        let log = run.store_log().await;
        let verdict = Verdict::of(&ended.outcome);
        self.end(&instance, lease, job, Some(ended), verdict, log).await
    }

    async fn prepare(&self, instance: &Instance, job: &mut Job, lease: &Lease) -> Result<Run, Verdict> {
        if let Some(verdict) = self.held_back(instance, job).map_err(|error| Verdict::unprepared(&error))? {
            return Err(verdict);
        }
        let slug = job.argument("konnector").unwrap_or_default();
        let parsed: Slug = slug.parse().map_err(|_| Verdict::not_installed(slug))?;
        let konnector = match self.konnector(instance, &parsed) {
            Ok(konnector) => konnector,
            Err(Error::NotFound(_)) => return Err(Verdict::not_installed(slug)),
            Err(error) => return Err(Verdict::unprepared(&error)),
        };
        let account = match job.argument("account").map(|id| (id, self.account(instance, id))) {
            None => None,
            Some((_, Ok(account))) => Some(account),
            Some((id, Err(Error::NotFound(_)))) => return Err(Verdict::account_not_found(id)),
            Some((_, Err(error))) => return Err(Verdict::unprepared(&error)),
        };
        job.account_generation = account.as_ref().map(|account| account.rev.generation());
        Run::new(self, instance, job, konnector, account, lease).await.map_err(|error| Verdict::unprepared(&error))
    }

    /// Ends a job: what became of it, and what follows from that.
    async fn end(
        &self,
        instance: &Instance,
        lease: &Lease,
        mut job: Job,
        ended: Option<Ended>,
        verdict: Option<Verdict>,
        log: Option<BlobId>,
    ) -> Result<()> {
        let now = self.clock.now();
        job.finished_at = Some(now);
        job.log = log;
        if let Some(Ended { outcome, receipt }) = ended {
            job.receipt = Some(receipt);
            if let Outcome::Completed(report) = outcome {
                job.problems = report.problems;
            }
        }
        match &verdict {
            None => {
                job.state = State::Done;
                tracing::info!(job = job.id, konnector = job.argument("konnector"), "done");
            }
            Some(verdict) => {
                job.state = State::Errored;
                job.error = Some(verdict.code.to_string());
                job.error_message = Some(verdict.message.clone());
                job.next_attempt_at = self.next_attempt(&job, verdict.retry, now);
                tracing::warn!(job = job.id, konnector = job.argument("konnector"), code = %verdict.code, "errored: {}", verdict.message);
            }
        }
        let again = job.next_attempt_at.map(|run_at| (job.again(instance, now), run_at));
        job.occasion.erase();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.store_end(instance, lease, &job, verdict.as_ref(), again.as_ref()).await {
                // Somebody changed the trigger meanwhile.
                Err(error) if error.is_conflict() && tries < TRIES => {}
                result => return result,
            }
        }
    }

    /// Stores the end of a job, the next attempt, the pause of its trigger and the end of the lease, all in one commit.
    async fn store_end(
        &self,
        instance: &Instance,
        lease: &Lease,
        job: &Job,
        verdict: Option<&Verdict>,
        again: Option<&(Job, DateTime<Utc>)>,
    ) -> Result<()> {
        let at = at(instance, job);
        let Some(Stored { rev, .. }) = self.stored::<Job>(&at)? else { return Ok(()) };
        let mut changes = Changes::new();
        changes.complete(lease);
        leave(instance, job, &mut changes);
        changes.put(at.clone(), &rev, object(job)?);
        if let Some((next, run_at)) = again {
            self.enter_job(instance, next, *run_at, &mut changes)?;
        }
        self.stage_job_ended(instance, job, verdict, &mut changes)?;
        self.store.commit(changes).await?;
        self.publish(&at, Happened::Updated, object(job)?);
        Ok(())
    }

    /// When a failed job is tried again. A run that a person watches is tried again too: they see the error and the next attempt.
    fn next_attempt(&self, job: &Job, retry: Retry, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let most = job.options.and_then(|options| options.max_exec_count).unwrap_or(MOST_ATTEMPTS).min(MOST_ATTEMPTS);
        if job.attempt >= most {
            return None;
        }
        let delay = match retry {
            Retry::Never => return None,
            Retry::Once if job.attempt >= 2 => return None,
            Retry::Once => SECOND_CHANCE.min(self.config.retry_delay * 12),
            Retry::BackOff { at_least } => {
                let ceiling = self.config.retry_delay.saturating_mul(1 << (job.attempt - 1).min(16)).min(LONGEST_DELAY);
                // Full jitter over the upper half: attempts spread, and the first comes no sooner than half its delay.
                let share = f64::from(random_u16()) / f64::from(u16::MAX);
                at_least.max(ceiling.mul_f64(0.5 + share / 2.0))
            }
        };
        Some(now + delay)
    }

    /// Gives a job back to the queue after the server stopped. It costs no attempt, but a job that takes the server down with it again and
    /// again is not started for ever.
    async fn interrupt(&self, lease: &Lease) -> Result<()> {
        let instance = self.instance_of(&lease.job)?;
        let Some(Stored { id, rev, value }) = self.stored::<Job>(&lease.job)? else { return Ok(()) };
        let mut job = Job { id, ..value };
        job.interruptions += 1;
        if job.interruptions > MOST_INTERRUPTIONS {
            let verdict = Verdict::interrupted(job.interruptions);
            return self.end(&instance, lease, job, None, Some(verdict), None).await;
        }
        job.state = State::Queued;
        let mut changes = Changes::new();
        changes.complete(lease);
        changes.put(lease.job.clone(), &rev, object(&job)?);
        changes.enqueue(lease.job.clone(), self.clock.now(), job.lock());
        self.store.commit(changes).await?;
        self.publish(&lease.job, Happened::Updated, object(&job)?);
        Ok(())
    }
}

/// Waits until the server is told to stop, and then as long as a run is given to end by itself.
async fn grace_over(stopping: &CancellationToken) {
    stopping.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

fn random_u16() -> u16 {
    let mut bytes = [0; 2];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::warn!(%error, "no randomness; the delay is not spread");
    }
    u16::from_be_bytes(bytes)
}
