//! What happens to a job, in one commit: its document, its place in the queue, its lease, the next attempt, and its trigger.

use chrono::{DateTime, SecondsFormat, Utc};
use konnector_sandbox::{Problem, Receipt};
use konnector_store::{BlobInfo, Changes, DocRef, Lease, Rev};

use super::outcome::Verdict;
use super::retry::{Retry, RetryPolicy};
use super::step::{Circumstances, Command, Event, Phase, Standing, step};
use super::{Job, Partial, State, leave};
use crate::instance::Instance;
use crate::realtime::Happened;
use crate::stored::{Stored, object};
use crate::{Error, Platform, Result};

/// How often it is tried again after somebody else changed something meanwhile.
const TRIES: usize = 5;
/// How far back faults in a row are counted.
const FAULTS: usize = 2;

/// What a run leaves behind, besides its verdict.
#[derive(Debug, Default)]
pub struct Remains {
    /// What it contacted and used.
    pub receipt: Option<Receipt>,
    /// Items that could not be saved while the rest was.
    pub problems: Vec<Problem>,
    /// How many there were in all.
    pub problem_count: u64,
    /// Where its log lines are kept.
    pub log: Option<BlobInfo>,
    /// Revision of the account, counted from 1, that the run began with.
    pub account_generation: Option<u64>,
}

/// By what right a job is changed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hold<'a> {
    /// This process holds its lease.
    Own(&'a Lease),
    /// Its lease is held by nobody who is alive.
    Silent(&'a Lease),
    /// It has no lease, or the lease stays as it is.
    None,
}

impl Job {
    fn standing(&self) -> Standing {
        let phase = match self.state {
            State::Queued => Phase::Waiting,
            State::Running => Phase::Running,
            State::Done | State::Errored => Phase::Ended,
        };
        Standing { phase, attempt: self.attempt, interruptions: self.interruptions, cancelled: self.cancelled }
    }
}

impl Platform {
    /// Does all that follows from an event, or nothing.
    ///
    /// # Errors
    ///
    /// [`Error::StaleLease`] when the lease is no longer held, [`Error::Conflict`] when others keep changing the same, or when this cannot
    /// happen to the job.
    pub(crate) async fn settle(
        &self,
        at: &DocRef,
        hold: Hold<'_>,
        event: Event,
        remains: Option<Remains>,
    ) -> Result<()> {
        let instance = self.instance_of(at)?;
        let remains = remains.unwrap_or_default();
        let mut tries = 0;
        loop {
            tries += 1;
            let Some(Stored { id, rev, value }) = self.stored::<Job>(at)? else {
                return Err(Error::NotFound(format!("the job '{}' is gone", at.id)));
            };
            let job = Job { id, ..value };
            // Read after the document: while the lease is held, nobody else has changed where the job stands.
            if let Hold::Own(lease) | Hold::Silent(lease) = hold
                && self.store.lease(at)?.is_none_or(|now| (now.epoch, &now.worker) != (lease.epoch, &lease.worker))
            {
                return Err(Error::StaleLease);
            }
            match self.try_settle(&instance, (job, &rev), hold, &event, &remains).await {
                Err(Error::Conflict(_)) if tries < TRIES => {}
                result => return result,
            }
        }
    }

    async fn try_settle(
        &self,
        instance: &Instance,
        (mut job, rev): (Job, &Rev),
        hold: Hold<'_>,
        event: &Event,
        remains: &Remains,
    ) -> Result<()> {
        let around = self.circumstances(instance, &job, event)?;
        let before = job.standing();
        let (after, commands) = step(before, event, &around).map_err(|illegal| {
            tracing::error!(job = job.id, event = "illegal_transition", "{illegal}");
            Error::Conflict(format!("{illegal}: job '{}'", job.id))
        })?;
        let at = super::at(instance, &job);
        let mut changes = Changes::new();
        if after.phase != before.phase {
            match hold {
                Hold::Own(lease) => drop(changes.complete(lease)),
                Hold::Silent(lease) => drop(changes.expire(lease)),
                Hold::None => drop(changes.dequeue(&at)),
            }
        }
        (job.interruptions, job.cancelled) = (after.interruptions, after.cancelled);
        let (mut again, mut superseded) = (None, None);
        for command in commands {
            match command {
                Command::Start => job.state = State::Running,
                Command::StopRun => {}
                Command::Requeue { run_at } => {
                    job.state = State::Queued;
                    changes.enqueue(at.clone(), self.waits(instance, &job, run_at));
                }
                Command::Finish(verdict) => {
                    if let (true, None, Some(account)) = (job.is_clean_up(), &verdict, job.argument("account")) {
                        self.stage_account_gone(instance, account, &mut changes)?;
                    }
                    if verdict.is_none() {
                        superseded = self.stage_superseded(instance, &job, around.now, &mut changes)?;
                    }
                    finish(&mut job, verdict, remains, around.now);
                    leave(instance, &job, &mut changes);
                }
                Command::Retry { run_at } => {
                    let run_at = match self.pending_retry(instance, &job)? {
                        Some(pending) => self.stage_joined(instance, &mut job, &pending, event, &mut changes),
                        None => {
                            let next = job.again(instance, around.now);
                            job.retried_as = Some(next.id.clone());
                            job.next_attempt_at = Some(run_at);
                            again = Some((next, run_at));
                            Some(run_at)
                        }
                    };
                    say_when(&mut job, run_at);
                }
                Command::TellTrigger(verdict) => {
                    self.stage_job_ended(instance, &job, verdict.as_ref(), &mut changes)?;
                }
            }
        }
        if after.phase == Phase::Ended {
            job.occasion.erase();
        }
        changes.put(at.clone(), rev, object(&job)?);
        if let Some((next, run_at)) = &again {
            self.enter_job(instance, next, *run_at, &mut changes)?;
        }
        self.commit(changes).await?;
        tell(&job, after.phase);
        self.publish(&at, Happened::Updated, &job);
        if let Some((next, _)) = &again {
            self.publish(&super::at(instance, next), Happened::Created, next);
        }
        if let Some(retry) = &superseded {
            self.publish(&super::at(instance, retry), Happened::Updated, retry);
        }
        self.wake_workers();
        Ok(())
    }

    fn circumstances(&self, instance: &Instance, job: &Job, event: &Event) -> Result<Circumstances> {
        let own = job.options.and_then(|options| options.max_exec_count).unwrap_or(u32::MAX);
        let policy = RetryPolicy { first: self.config.retry_delay, most_attempts: own.min(super::MOST_ATTEMPTS) };
        let (mut next_due, mut faults) = (None, 0);
        if let (Some(trigger), Event::Ended(Some(verdict))) = (&job.trigger_id, event) {
            next_due = self.trigger_due(instance, trigger)?;
            if verdict.retry == Retry::Fault {
                let earlier = self.trigger_jobs(instance, trigger, FAULTS + 4)?;
                let ended = earlier.iter().filter(|earlier| earlier.finished_at.is_some());
                faults = ended.take(FAULTS).take_while(|earlier| earlier.fault).map(|_| 1).sum();
            }
        }
        Ok(Circumstances { now: self.clock.now(), share: self.random().share(), policy, next_due, faults })
    }
}

fn finish(job: &mut Job, verdict: Option<Verdict>, remains: &Remains, now: DateTime<Utc>) {
    job.finished_at = Some(now);
    job.receipt.clone_from(&remains.receipt);
    job.problems.clone_from(&remains.problems);
    job.log = remains.log.as_ref().map(|log| log.id);
    job.log_checksum = remains.log.as_ref().map(|log| hex::encode(log.sha256));
    job.account_generation = remains.account_generation;
    job.state = if verdict.is_some() { State::Errored } else { State::Done };
    job.partial = verdict.is_none().then(|| Partial::of(remains)).flatten();
    if let Some(verdict) = verdict {
        job.fault = verdict.retry == Retry::Fault;
        job.needs_room = verdict.retry == Retry::WhenThereIsRoom;
        job.error = Some(verdict.code.to_string());
        job.error_message = Some(verdict.message);
    }
}

/// Adds to the sentence of a failed job when it is tried again.
fn say_when(job: &mut Job, run_at: Option<DateTime<Utc>>) {
    let (Some(message), Some(retry)) = (&mut job.error_message, &job.retried_as) else { return };
    let when = run_at.map(|at| format!(" at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true))).unwrap_or_default();
    message.push_str(&format!(" It is tried again{when}, as the job {retry}."));
}

fn tell(job: &Job, phase: Phase) {
    let (id, konnector, attempt) = (&job.id, job.argument("konnector"), job.attempt);
    match (phase, &job.error) {
        (Phase::Ended, None) => tracing::info!(job = id, konnector, attempt, "done"),
        (Phase::Ended, Some(code)) => {
            let message = job.error_message.as_deref().unwrap_or_default();
            tracing::warn!(job = id, konnector, attempt, code, "errored: {message}");
        }
        (Phase::Waiting, _) => tracing::info!(job = id, konnector, attempt, "back in the queue"),
        (Phase::Running, _) => {}
    }
}
