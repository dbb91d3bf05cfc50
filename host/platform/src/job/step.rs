//! What happens to a job, decided without any input or output: from where it stands and what happened to where it stands next and what
//! is to be done about it. The worker does that in one commit.

use chrono::{DateTime, Utc};

use super::outcome::{Code, Verdict};
use super::retry::{Retry, RetryPolicy};

/// How often a job that was cut off by a crash or a lost lease is started again.
const MOST_INTERRUPTIONS: u32 = 5;
/// So many faults in a row, and the schedule waits for the konnector's author.
const MOST_FAULTS: u32 = 3;

/// Where a job is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In the queue.
    Waiting,
    /// Leased to a worker.
    Running,
    /// Over.
    Ended,
}

/// What the decisions about a job depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
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
pub struct Circumstances {
    /// The wall clock.
    pub now: DateTime<Utc>,
    /// A random number from 0 to 1.
    pub share: f64,
    /// The rule for retries, with the job's own limit.
    pub policy: RetryPolicy,
    /// When its trigger is due next: by then, that is the retry.
    pub next_due: Option<DateTime<Utc>>,
    /// How many jobs of the trigger before this one ended with a fault, one after the other.
    pub faults: u32,
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker took it.
    Claimed,
    /// Its run came to an end, whose verdict is `None` when it went well.
    Ended(Option<Verdict>),
    /// The server was asked to stop.
    Stopped,
    /// Its worker is gone, or could not renew its lease.
    Lost,
    /// It needs room in the user's space, and there is none.
    NoRoom,
    /// Somebody wants it to end.
    CancelAsked,
}

/// What is to be done, all at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
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
    Finish(Option<Verdict>),
    /// Another job tries again.
    Retry {
        /// From when on it may be claimed.
        run_at: DateTime<Utc>,
    },
    /// Its trigger is told how it ended.
    TellTrigger(Option<Verdict>),
}

/// Something that cannot happen to a job where it stands: a fault of the server, never passed over in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot happen to a job that {}", .phase.words())]
pub struct Illegal {
    phase: Phase,
    what: &'static str,
}

impl Phase {
    const fn words(self) -> &'static str {
        match self {
            Self::Waiting => "waits",
            Self::Running => "runs",
            Self::Ended => "has ended",
        }
    }
}

impl Event {
    const fn words(&self) -> &'static str {
        match self {
            Self::Claimed => "a claim",
            Self::Ended(_) => "the end of its run",
            Self::Stopped => "the stop of its server",
            Self::Lost => "the loss of its lease",
            Self::NoRoom => "a lack of room",
            Self::CancelAsked => "a cancellation",
        }
    }
}

/// Where a job stands after an event, and what is to be done.
///
/// # Errors
///
/// [`Illegal`] for an event that cannot happen to it.
pub fn step(before: Standing, event: &Event, around: &Circumstances) -> Result<(Standing, Vec<Command>), Illegal> {
    let at = |phase| Standing { phase, ..before };
    let ended = |commands| Ok((at(Phase::Ended), commands));
    let requeued = |run_at| Ok((at(Phase::Waiting), vec![Command::Requeue { run_at }]));
    match (before.phase, event) {
        (Phase::Waiting, Event::Claimed) => Ok((at(Phase::Running), vec![Command::Start])),
        (Phase::Waiting, Event::CancelAsked) => ended(finish(Verdict::cancelled())),
        (Phase::Running, Event::CancelAsked) => Ok((Standing { cancelled: true, ..before }, vec![Command::StopRun])),
        (Phase::Running, Event::Ended(None)) => ended(vec![Command::Finish(None), Command::TellTrigger(None)]),
        (Phase::Running, Event::Ended(Some(verdict))) => ended(failed(before, verdict, around)),
        (Phase::Running, Event::Stopped | Event::Lost | Event::NoRoom) if before.cancelled => {
            ended(finish(Verdict::cancelled()))
        }
        (Phase::Running, Event::Stopped) => requeued(around.now),
        (Phase::Running, Event::NoRoom) => requeued(around.now + around.policy.next_look()),
        (Phase::Running, Event::Lost) => {
            let interruptions = before.interruptions.saturating_add(1);
            let after = Standing { interruptions, ..before };
            if interruptions > MOST_INTERRUPTIONS {
                let commands = finish(Verdict::interrupted(interruptions));
                return Ok((Standing { phase: Phase::Ended, ..after }, commands));
            }
            Ok((Standing { phase: Phase::Waiting, ..after }, vec![Command::Requeue { run_at: around.now }]))
        }
        (phase, event) => Err(Illegal { phase, what: event.words() }),
    }
}

fn finish(verdict: Verdict) -> Vec<Command> {
    vec![Command::Finish(Some(verdict.clone())), Command::TellTrigger(Some(verdict))]
}

fn failed(job: Standing, verdict: &Verdict, around: &Circumstances) -> Vec<Command> {
    let needs_author = verdict.retry == Retry::Fault && around.faults + 1 >= MOST_FAULTS;
    let told = if needs_author {
        Verdict { code: Code::NeedsAuthor, pause: true, ..verdict.clone() }
    } else {
        verdict.clone()
    };
    let run_at = around
        .policy
        .delay(verdict.retry, job.attempt, around.share)
        .filter(|_| !job.cancelled && !needs_author)
        .and_then(|delay| around.now.checked_add_signed(chrono::TimeDelta::from_std(delay).ok()?))
        .filter(|run_at| around.next_due.is_none_or(|due| *run_at < due));
    let retry = run_at.map(|run_at| Command::Retry { run_at });
    [Command::Finish(Some(verdict.clone()))]
        .into_iter()
        .chain(retry)
        .chain([Command::TellTrigger(Some(told))])
        .collect()
}

#[cfg(test)]
mod tests;
