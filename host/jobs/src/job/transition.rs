//! Applies an event to a job in one commit, which covers document, queue entry, lease, next attempt and trigger.

use chrono::{DateTime, SecondsFormat, Utc};
use konnector_sandbox::{Problem, Receipt};
use konnector_store::{BlobInfo, Changes, DocRef, Lease, Rev};

use super::failure::{JobErrorCode, JobFailure};
use super::retry::{Retry, RetryPolicy};
use super::step::{JobCommand, JobEvent, JobState, Phase, StepContext, step};
use super::{Job, JobStatus, PartialResult, remove_from_live_index};
use crate::Jobs;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Stored, retry_on_conflict, to_object};

/// How many earlier jobs are examined for consecutive faults.
const FAULT_LOOKBACK: usize = 2;

/// Artifacts of a finished run.
#[derive(Debug, Default)]
pub struct RunArtifacts {
    /// Receipt with the hosts that the run contacted and the resources that it used.
    pub receipt: Option<Receipt>,
    /// Items that could not be saved, although others were.
    pub problems: Vec<Problem>,
    /// Total number of problems.
    pub problem_count: u64,
    /// Blob of the log lines.
    pub log: Option<BlobInfo>,
    /// Revision number of the account, counted from 1, with which the run began.
    pub account_generation: Option<u64>,
}

/// Which lease authorises the change of a job.
#[derive(Debug, Clone, Copy)]
pub enum LeaseAuthority<'a> {
    /// This process holds the job's lease.
    Holder(&'a Lease),
    /// The holder of the job's lease is dead.
    Expired(&'a Lease),
    /// The job has no lease, or the lease stays as it is.
    None,
}

impl Job {
    fn step_state(&self) -> JobState {
        let phase = match self.state {
            JobStatus::Queued => Phase::Queued,
            JobStatus::Running => Phase::Running,
            JobStatus::Done | JobStatus::Errored => Phase::Ended,
        };
        JobState { phase, attempt: self.attempt, interruptions: self.interruptions, cancelled: self.cancelled }
    }
}

impl Jobs {
    /// Applies all effects of an event, or none.
    ///
    /// # Errors
    ///
    /// [`Error::StaleLease`] if the lease is no longer held, [`Error::Conflict`] if others keep changing the same
    /// documents, or if the event is impossible for the job.
    pub(crate) async fn apply(
        &self,
        at: &DocRef,
        hold: LeaseAuthority<'_>,
        event: JobEvent,
        remains: Option<RunArtifacts>,
    ) -> Result<()> {
        let instance = self.context.triggers().instance_of(at)?;
        let remains = remains.unwrap_or_default();
        retry_on_conflict(|| async {
            let Some(Stored { id, rev, value }) = self.context.core.load::<Job>(at)? else {
                return Err(Error::NotFound(format!("the job '{}' no longer exists", at.id)));
            };
            let job = Job { id, ..value };
            // Read after the document: while the lease is held, nobody else has changed the state of the job.
            if let LeaseAuthority::Holder(lease) | LeaseAuthority::Expired(lease) = hold
                && self
                    .context
                    .core
                    .store()
                    .lease(at)?
                    .is_none_or(|now| (now.epoch, &now.worker) != (lease.epoch, &lease.worker))
            {
                return Err(Error::StaleLease);
            }
            self.try_apply(&instance, (job, &rev), hold, &event, &remains).await
        })
        .await
    }

    async fn try_apply(
        &self,
        instance: &Instance,
        (mut job, rev): (Job, &Rev),
        hold: LeaseAuthority<'_>,
        event: &JobEvent,
        remains: &RunArtifacts,
    ) -> Result<()> {
        let around = self.step_context(instance, &job, event)?;
        let before = job.step_state();
        let (after, commands) = step(before, event, &around).map_err(|illegal| {
            tracing::error!(job = job.id, event = "illegal_transition", "{illegal}");
            Error::Conflict(format!("{illegal}: job '{}'", job.id))
        })?;
        let at = super::doc_ref(instance, &job);
        let mut changes = Changes::new();
        if after.phase != before.phase {
            match hold {
                LeaseAuthority::Holder(lease) => drop(changes.complete(lease)),
                LeaseAuthority::Expired(lease) => drop(changes.expire(lease)),
                LeaseAuthority::None => drop(changes.dequeue(&at)),
            }
        }
        (job.interruptions, job.cancelled) = (after.interruptions, after.cancelled);
        let (mut again, mut superseded) = (None, None);
        for command in commands {
            match command {
                JobCommand::Start => job.state = JobStatus::Running,
                JobCommand::StopRun => {}
                JobCommand::Requeue { run_at } => {
                    job.state = JobStatus::Queued;
                    changes.enqueue(at.clone(), self.queue_entry(instance, &job, run_at));
                }
                JobCommand::Finish(verdict) => {
                    if let (true, None, Some(account)) = (job.is_clean_up(), &verdict, job.argument("account")) {
                        self.context.accounts().stage_purge_deleted(instance, account, &mut changes)?;
                    }
                    if verdict.is_none() {
                        superseded = self.stage_supersede_retry(instance, &job, around.now, &mut changes)?;
                    }
                    record_end(&mut job, verdict, remains, around.now);
                    remove_from_live_index(instance, &job, &mut changes);
                }
                JobCommand::Retry { run_at } => {
                    let run_at = match self.pending_retry(instance, &job)? {
                        Some(pending) => self.stage_join_retry(instance, &mut job, &pending, event, &mut changes),
                        None => {
                            let next = job.next_attempt(instance, around.now);
                            job.retried_as = Some(next.id.clone());
                            job.next_attempt_at = Some(run_at);
                            again = Some((next, run_at));
                            Some(run_at)
                        }
                    };
                    append_retry_time(&mut job, run_at);
                }
                JobCommand::NotifyTrigger(verdict) => {
                    let is_paused =
                        self.context.triggers().stage_job_ended(instance, &job, verdict.as_ref(), &mut changes)?;
                    let waits_for_user =
                        |verdict: JobFailure| verdict.pauses_schedule && verdict.code != JobErrorCode::NeedsAuthor;
                    if is_paused && verdict.is_some_and(waits_for_user) {
                        append_pause(&mut job);
                    }
                }
            }
        }
        if after.phase == Phase::Ended {
            job.payload.clear();
        }
        changes.put(at.clone(), rev, to_object(&job)?);
        if let Some((next, run_at)) = &again {
            self.stage_new(instance, next, *run_at, &mut changes)?;
        }
        self.context.core.commit(changes).await?;
        log_transition(&job, after.phase);
        self.context.core.publish(&at, ChangeKind::Updated, &job);
        if let Some((next, _)) = &again {
            self.context.core.publish(&super::doc_ref(instance, next), ChangeKind::Created, next);
        }
        if let Some(retry) = &superseded {
            self.context.core.publish(&super::doc_ref(instance, retry), ChangeKind::Updated, retry);
        }
        self.context.wake_workers();
        Ok(())
    }

    fn step_context(&self, instance: &Instance, job: &Job, event: &JobEvent) -> Result<StepContext> {
        let own = job.options.and_then(|options| options.max_exec_count).unwrap_or(u32::MAX);
        let policy = RetryPolicy {
            base_delay: self.context.state.settings.retry_delay,
            max_attempts: own.min(super::MAX_ATTEMPTS),
        };
        let (mut next_due, mut faults) = (None, 0);
        if let (Some(trigger), JobEvent::Ended(Some(verdict))) = (&job.trigger_id, event) {
            next_due = self.context.triggers().due(instance, trigger)?;
            if verdict.retry == Retry::Fault {
                let earlier = self.list_of_trigger(instance, trigger, FAULT_LOOKBACK + 4)?;
                let ended = earlier.iter().filter(|earlier| earlier.finished_at.is_some());
                faults = ended.take(FAULT_LOOKBACK).take_while(|earlier| earlier.fault).map(|_| 1).sum();
            }
        }
        Ok(StepContext {
            now: self.context.core.clock().now(),
            jitter: self.context.core.random().jitter(),
            retry_policy: policy,
            next_due,
            consecutive_faults: faults,
        })
    }
}

fn record_end(job: &mut Job, verdict: Option<JobFailure>, remains: &RunArtifacts, now: DateTime<Utc>) {
    job.finished_at = Some(now);
    job.receipt.clone_from(&remains.receipt);
    job.problems.clone_from(&remains.problems);
    job.log = remains.log.as_ref().map(|log| log.id);
    job.log_checksum = remains.log.as_ref().map(|log| hex::encode(log.sha256));
    job.account_generation = remains.account_generation;
    job.state = if verdict.is_some() { JobStatus::Errored } else { JobStatus::Done };
    job.partial = verdict.is_none().then(|| PartialResult::from_artifacts(remains)).flatten();
    if let Some(verdict) = verdict {
        job.fault = verdict.retry == Retry::Fault;
        job.needs_space = verdict.retry == Retry::WhenSpaceAvailable;
        job.error = Some(verdict.code.to_string());
        job.error_message = Some(verdict.message);
    }
}

/// Appends the time of the retry to the sentence of a failed job.
fn append_retry_time(job: &mut Job, run_at: Option<DateTime<Utc>>) {
    let (Some(message), Some(retry)) = (&mut job.error_message, &job.retried_as) else { return };
    let when = run_at.map(|at| format!(" at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true))).unwrap_or_default();
    message.push_str(&format!(" It will be retried{when} as the job {retry}."));
}

/// Appends to the sentence of a failed job that its schedule waits. Not every job has one.
fn append_pause(job: &mut Job) {
    if let Some(message) = &mut job.error_message {
        message.push_str(" The schedule is paused until you have acted.");
    }
}

fn log_transition(job: &Job, phase: Phase) {
    let (id, konnector, attempt) = (&job.id, job.argument("konnector"), job.attempt);
    match (phase, &job.error) {
        (Phase::Ended, None) => tracing::info!(job = id, konnector, attempt, "done"),
        (Phase::Ended, Some(code)) => {
            let message = job.error_message.as_deref().unwrap_or_default();
            tracing::warn!(job = id, konnector, attempt, code, "errored: {message}");
        }
        (Phase::Queued, _) => tracing::info!(job = id, konnector, attempt, "requeued"),
        (Phase::Running, _) => {}
    }
}
