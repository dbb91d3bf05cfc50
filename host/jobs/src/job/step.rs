//! State machine of a job, without any I/O, which computes the next state and the commands from the current state and
//! an event. The worker applies them in one commit.

use chrono::{DateTime, Utc};

use super::failure::{JobErrorCode, JobFailure};
use super::retry::{Retry, RetryPolicy};

/// How often a job is restarted after a crash or a lost lease.
const MAX_INTERRUPTIONS: u32 = 5;
/// After this number of consecutive faults, the schedule waits for the konnector's author.
const MAX_CONSECUTIVE_FAULTS: u32 = 3;

/// Phase of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waits in the queue.
    Queued,
    /// Leased to a worker.
    Running,
    /// Has ended.
    Ended,
}

/// State of a job that decisions depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobState {
    /// Phase of the job.
    pub phase: Phase,
    /// 1 for the first attempt, one more for each retry.
    pub attempt: u32,
    /// How often the job was interrupted and may itself have been the cause.
    pub interruptions: u32,
    /// Whether cancellation of the job was requested.
    pub cancelled: bool,
}

/// Context of a decision, in addition to the state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepContext {
    /// Wall-clock time of the decision.
    pub now: DateTime<Utc>,
    /// Random number from 0 to 1, for the delay of a retry.
    pub jitter: f64,
    /// The rule for retries, with the job's own limit.
    pub retry_policy: RetryPolicy,
    /// Time at which the job's trigger is due next; a retry that would not be earlier is omitted, because the due run
    /// replaces it.
    pub next_due: Option<DateTime<Utc>>,
    /// How many consecutive jobs of the trigger before this one ended with a fault.
    pub consecutive_faults: u32,
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// A worker claimed the job.
    Claimed,
    /// The run ended; `None` means success.
    Ended(Option<JobFailure>),
    /// The server was asked to stop.
    ServerStopped,
    /// The worker died, or could not renew its lease.
    LeaseLost,
    /// The job needs space, but the user's quota is exhausted.
    NoSpace,
    /// The cancellation of the job was requested.
    CancelRequested,
}

/// Command that follows from an event; all are applied together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobCommand {
    /// Mark the job as running.
    Start,
    /// End the run of the job.
    StopRun,
    /// Put the job back into the queue.
    Requeue {
        /// Time from which it may be claimed.
        run_at: DateTime<Utc>,
    },
    /// End the job, successfully or with this failure.
    Finish(Option<JobFailure>),
    /// Push another job that retries this one.
    Retry {
        /// Time from which it may be claimed.
        run_at: DateTime<Utc>,
    },
    /// Report the end of the job to its trigger.
    NotifyTrigger(Option<JobFailure>),
}

/// An event that is impossible in the phase of a job, which is a fault of the server and always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot happen to a job that {}", .phase.description())]
pub struct IllegalTransition {
    phase: Phase,
    event: &'static str,
}

impl Phase {
    const fn description(self) -> &'static str {
        match self {
            Self::Queued => "waits",
            Self::Running => "runs",
            Self::Ended => "has ended",
        }
    }
}

impl JobEvent {
    const fn description(&self) -> &'static str {
        match self {
            Self::Claimed => "a claim",
            Self::Ended(_) => "the end of its run",
            Self::ServerStopped => "the shutdown of its server",
            Self::LeaseLost => "the loss of its lease",
            Self::NoSpace => "a lack of space",
            Self::CancelRequested => "a cancellation",
        }
    }
}

/// Returns the state of a job after an event, and the commands.
///
/// # Errors
///
/// [`IllegalTransition`] for an event that is impossible in its phase.
pub fn step(
    before: JobState,
    event: &JobEvent,
    around: &StepContext,
) -> Result<(JobState, Vec<JobCommand>), IllegalTransition> {
    let at = |phase| JobState { phase, ..before };
    let ended = |commands| Ok((at(Phase::Ended), commands));
    let requeued = |run_at| Ok((at(Phase::Queued), vec![JobCommand::Requeue { run_at }]));
    match (before.phase, event) {
        (Phase::Queued, JobEvent::Claimed) => Ok((at(Phase::Running), vec![JobCommand::Start])),
        (Phase::Queued, JobEvent::CancelRequested) => ended(finish_commands(JobFailure::cancelled())),
        (Phase::Running, JobEvent::CancelRequested) => {
            Ok((JobState { cancelled: true, ..before }, vec![JobCommand::StopRun]))
        }
        (Phase::Running, JobEvent::Ended(None)) => {
            ended(vec![JobCommand::Finish(None), JobCommand::NotifyTrigger(None)])
        }
        (Phase::Running, JobEvent::Ended(Some(verdict))) => ended(failure_commands(before, verdict, around)),
        (Phase::Running, JobEvent::ServerStopped | JobEvent::LeaseLost | JobEvent::NoSpace) if before.cancelled => {
            ended(finish_commands(JobFailure::cancelled()))
        }
        (Phase::Running, JobEvent::ServerStopped) => requeued(around.now),
        (Phase::Running, JobEvent::NoSpace) => requeued(around.now + around.retry_policy.space_check_delay()),
        (Phase::Running, JobEvent::LeaseLost) => {
            let interruptions = before.interruptions.saturating_add(1);
            let after = JobState { interruptions, ..before };
            if interruptions > MAX_INTERRUPTIONS {
                let commands = finish_commands(JobFailure::interrupted(interruptions));
                return Ok((JobState { phase: Phase::Ended, ..after }, commands));
            }
            Ok((JobState { phase: Phase::Queued, ..after }, vec![JobCommand::Requeue { run_at: around.now }]))
        }
        (phase, event) => Err(IllegalTransition { phase, event: event.description() }),
    }
}

fn finish_commands(verdict: JobFailure) -> Vec<JobCommand> {
    vec![JobCommand::Finish(Some(verdict.clone())), JobCommand::NotifyTrigger(Some(verdict))]
}

fn failure_commands(job: JobState, verdict: &JobFailure, around: &StepContext) -> Vec<JobCommand> {
    let needs_author = verdict.retry == Retry::Fault && around.consecutive_faults + 1 >= MAX_CONSECUTIVE_FAULTS;
    let reported = if needs_author {
        JobFailure { code: JobErrorCode::NeedsAuthor, pauses_schedule: true, ..verdict.clone() }
    } else {
        verdict.clone()
    };
    let run_at = around
        .retry_policy
        .delay(verdict.retry, job.attempt, around.jitter)
        .filter(|_| !job.cancelled && !needs_author)
        .and_then(|delay| around.now.checked_add_signed(chrono::TimeDelta::from_std(delay).ok()?))
        .filter(|run_at| around.next_due.is_none_or(|due| *run_at < due));
    let retry = run_at.map(|run_at| JobCommand::Retry { run_at });
    [JobCommand::Finish(Some(verdict.clone()))]
        .into_iter()
        .chain(retry)
        .chain([JobCommand::NotifyTrigger(Some(reported))])
        .collect()
}

#[cfg(test)]
mod tests;
