//! What happens to a job, decided without any input or output: from where it stands and what happened to where it stands next and what
//! is to be done about it. The worker does that in one commit.

use chrono::{DateTime, Utc};

use super::failure::{JobErrorCode, JobFailure};
use super::retry::{Retry, RetryPolicy};

/// How often a job that was cut off by a crash or a lost lease is started again.
const MAX_INTERRUPTIONS: u32 = 5;
/// So many faults in a row, and the schedule waits for the konnector's author.
const MAX_CONSECUTIVE_FAULTS: u32 = 3;

/// Where a job is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In the queue.
    Queued,
    /// Leased to a worker.
    Running,
    /// Over.
    Ended,
}

/// What the decisions about a job depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobState {
    /// Where it is.
    pub phase: Phase,
    /// 1 for the first execution, one more for each retry.
    pub attempt: u32,
    /// How often it was cut off without its own fault being ruled out.
    pub interruptions: u32,
    /// Whether somebody wants it to end.
    pub cancelled: bool,
}

/// What else they depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepContext {
    /// The wall clock.
    pub now: DateTime<Utc>,
    /// A random number from 0 to 1.
    pub jitter: f64,
    /// The rule for retries, with the job's own limit.
    pub retry_policy: RetryPolicy,
    /// When its trigger is due next: by then, that is the retry.
    pub next_due: Option<DateTime<Utc>>,
    /// How many jobs of the trigger before this one ended with a fault, one after the other.
    pub consecutive_faults: u32,
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// A worker took it.
    Claimed,
    /// Its run came to an end, whose verdict is `None` when it went well.
    Ended(Option<JobFailure>),
    /// The server was asked to stop.
    ServerStopped,
    /// Its worker is gone, or could not renew its lease.
    LeaseLost,
    /// It needs room in the user's space, and there is none.
    NoSpace,
    /// Somebody wants it to end.
    CancelRequested,
}

/// What is to be done, all at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobCommand {
    /// It runs now.
    Start,
    /// Its run is to be ended.
    StopRun,
    /// It goes back into the queue.
    Requeue {
        /// From when on it may be claimed.
        run_at: DateTime<Utc>,
    },
    /// It is over, well or with this verdict.
    Finish(Option<JobFailure>),
    /// Another job tries again.
    Retry {
        /// From when on it may be claimed.
        run_at: DateTime<Utc>,
    },
    /// Its trigger is told how it ended.
    NotifyTrigger(Option<JobFailure>),
}

/// Something that cannot happen to a job where it stands: a fault of the server, never passed over in silence.
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
            Self::ServerStopped => "the stop of its server",
            Self::LeaseLost => "the loss of its lease",
            Self::NoSpace => "a lack of room",
            Self::CancelRequested => "a cancellation",
        }
    }
}

/// Where a job stands after an event, and what is to be done.
///
/// # Errors
///
/// [`IllegalTransition`] for an event that cannot happen to it.
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
    let told = if needs_author {
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
        .chain([JobCommand::NotifyTrigger(Some(told))])
        .collect()
}

#[cfg(test)]
mod tests;
