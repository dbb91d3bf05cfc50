//! The core of a trigger: what follows from what happens to it. It knows no clock, no store and no chance but those it is given, so that
//! tests can lead it through years of downtimes, edits and wrong clocks.
//!
//! The cursor ([`StepState::due`]) alone says what is due. It moves over an instant only when the instant is counted in one of
//! [`TriggerCounters`](super::TriggerCounters), in the commit that also holds the job: none fires twice, none is lost without a trace, wherever the clock jumps to.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};

use super::plan::TriggerPlan;
use super::policy::{MissedPolicy, ON_TIME_TOLERANCE, TriggerPolicy};
use super::runtime_state::{DebounceBuffer, Pause, TriggerRuntimeState};
use super::schedule::Schedule;
use crate::job::{Cause, TriggerPayload};

/// This program is not older than this year, so a clock that shows an earlier one is wrong: machines without a battery begin in 1970 until
/// they hear of the network's time. Nothing fires before.
const MIN_PLAUSIBLE_YEAR: i32 = 2026;
/// Jobs for instants that were missed are spread over this time, so that vendors do not meet everybody at once when a server comes back.
const CATCH_UP_SPREAD: Duration = Duration::from_secs(600);
/// How long nothing runs after a vendor locked an account for too many attempts, not even by hand.
const ACCOUNT_LOCK_DURATION: TimeDelta = TimeDelta::hours(24);

/// What the maker of a trigger asked for.
#[derive(Debug, Clone)]
pub struct TriggerSpec {
    /// What it is made for.
    pub plan: TriggerPlan,
    /// About instants that cannot fire.
    pub policy: TriggerPolicy,
    /// How long events and calls are collected into one job.
    pub debounce: Option<Duration>,
    /// Its konnector is in maintenance: only a person may start a job.
    pub maintenance: bool,
}

impl TriggerSpec {
    fn is_blocked(&self, life: &TriggerRuntimeState, now: DateTime<Utc>) -> bool {
        self.maintenance || life.is_blocked(now)
    }

    /// What its jobs are for when nobody asked for them.
    const fn cause(&self) -> Cause {
        match self.plan {
            TriggerPlan::Event(_) => Cause::Event,
            TriggerPlan::Webhook => Cause::Webhook,
            TriggerPlan::Time(_) | TriggerPlan::Client => Cause::Schedule,
        }
    }
}

/// Where a trigger is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepState {
    /// The cursor: the next instant, or the end of the debounce.
    pub due: Option<DateTime<Utc>>,
    /// What it remembers.
    pub runtime: TriggerRuntimeState,
}

/// Jobs that have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveJobs {
    /// Of this trigger.
    pub own: usize,
    /// Of all triggers for its account, this one included.
    pub account: usize,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// Whether it was this trigger's own; otherwise it was for the same account.
    pub is_own: bool,
    /// Revision of the account that the run began with; `None` where it had none.
    pub account_generation: Option<u64>,
    /// What it means.
    pub outcome: JobOutcome,
}

/// What the end of a job means for triggers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// It went well.
    Succeeded,
    /// It failed in a way that does not concern them.
    Failed,
    /// Only the user can mend it.
    NeedsUser {
        /// The error code.
        code: String,
        /// The vendor locked the account.
        locked: bool,
    },
    /// What it was to run is gone.
    Obsolete,
}

/// What happens to a trigger.
#[derive(Debug, Clone)]
pub enum TriggerEvent {
    /// Time passed; the cursor may have been reached.
    Due(LiveJobs),
    /// A document changed, or a webhook was called.
    Received(TriggerPayload),
    /// A person asks for a job now.
    Launched(TriggerPayload),
    /// A job ended.
    JobEnded(JobEnd),
    /// The owner of the account changed its login; the account has this revision since.
    LoginChanged(u64),
    /// Somebody replaced its schedule, which was this one.
    Rescheduled(Box<TriggerPlan>),
}

/// What is to be done, together with storing the new state.
#[derive(Debug, Clone, PartialEq)]
pub enum TriggerCommand {
    /// Push a job, to be run from `run_at` on.
    Push {
        /// When it may run.
        run_at: DateTime<Utc>,
        /// Why it is pushed.
        cause: Cause,
        /// What it is given.
        occasion: TriggerPayload,
    },
    /// Refuse: the account is locked until then.
    Reject(DateTime<Utc>),
    /// Remove the trigger.
    Delete,
}

/// Whether a clock that shows this can be right.
#[must_use]
pub fn is_plausible(now: DateTime<Utc>) -> bool {
    now.year() >= MIN_PLAUSIBLE_YEAR
}

/// What follows from an event. `random` gives numbers from 0 up to 1. Total: an event that does not fit the state changes nothing.
#[must_use]
pub fn step(
    rules: &TriggerSpec,
    mut state: StepState,
    event: TriggerEvent,
    now: DateTime<Utc>,
    random: &mut dyn FnMut() -> f64,
) -> (StepState, Vec<TriggerCommand>) {
    let mut commands = Vec::new();
    match event {
        TriggerEvent::Due(live) => match state.due {
            Some(due) if due <= now && is_plausible(now) => match &rules.plan {
                TriggerPlan::Time(schedule) => {
                    commands = advance_cursor(rules, schedule, &mut state, due, live, now, random);
                }
                TriggerPlan::Event(_) | TriggerPlan::Webhook | TriggerPlan::Client => {
                    state.due = None;
                    let waiting = state.runtime.debounce_buffer.take();
                    commands.extend(waiting.and_then(|waiting| flush(rules, &mut state.runtime, waiting, now)));
                }
            },
            _ => {}
        },
        TriggerEvent::Received(occasion) => match (rules.debounce, rules.is_blocked(&state.runtime, now)) {
            (_, true) => state.runtime.counters.paused += 1,
            (None, false) => {
                state.runtime.counters.fired += 1;
                commands.push(TriggerCommand::Push { run_at: now, cause: rules.cause(), occasion });
            }
            (Some(window), false) => commands.extend(debounce(rules, &mut state, &occasion, window, now)),
        },
        TriggerEvent::Launched(occasion) => match state.runtime.active_lock(now) {
            Some(until) => commands.push(TriggerCommand::Reject(until)),
            None => commands.push(TriggerCommand::Push { run_at: now, cause: Cause::Manual, occasion }),
        },
        TriggerEvent::JobEnded(end) => commands.extend(apply_job_end(&mut state.runtime, end, now)),
        TriggerEvent::LoginChanged(generation) => {
            state.runtime.login_generation = state.runtime.login_generation.max(generation);
            state.runtime.paused = None;
        }
        TriggerEvent::Rescheduled(before) => {
            if let (TriggerPlan::Time(schedule), Some(due)) = (*before, state.due)
                && due <= now
            {
                state.runtime.counters.missed += 1 + schedule.count(due, now);
            }
            if state.runtime.is_unusable() {
                state.runtime.paused = None;
            }
            if let TriggerPlan::Time(schedule) = &rules.plan {
                state.due = schedule.first_due(now);
            }
        }
    }
    (state, commands)
}

/// The cursor moves over every instant that passed, and each of them is counted.
fn advance_cursor(
    rules: &TriggerSpec,
    schedule: &Schedule,
    state: &mut StepState,
    due: DateTime<Utc>,
    live: LiveJobs,
    now: DateTime<Utc>,
    random: &mut dyn FnMut() -> f64,
) -> Vec<TriggerCommand> {
    let once = matches!(schedule, Schedule::Once(_));
    let passed = 1 + schedule.count(due, now);
    state.due = schedule.next(due, now);
    let (policy, held) = (&rules.policy, rules.is_blocked(&state.runtime, now));
    let occasions = &mut state.runtime.counters;
    if held {
        // What is to be done once stays, so that its owner sees that it was not done.
        occasions.paused += passed;
        return Vec::new();
    }
    let chosen = policy.select_instants(schedule, due, now);
    let late = chosen.first().is_some_and(|first| (now - *first).to_std().unwrap_or_default() > ON_TIME_TOLERANCE);
    let count = chosen.len() as u64;
    let mut commands = Vec::new();
    if count == 0 {
        occasions.missed += passed;
    } else if late && !once && policy.missed_policy == MissedPolicy::Coalesce && live.account > 0 {
        // A job for the account is there already and stands for what was missed.
        occasions.coalesced += passed;
    } else {
        match policy.missed_policy {
            MissedPolicy::Coalesce => occasions.coalesced += passed - count,
            MissedPolicy::Skip | MissedPolicy::All => occasions.missed += passed - count,
        }
        if live.own >= policy.max_live_jobs() && !once {
            occasions.overlapped += count;
        } else {
            occasions.fired += count;
            let wait = if late { CATCH_UP_SPREAD.mul_f64(random().clamp(0.0, 1.0)) } else { Duration::ZERO };
            commands.extend((0_u32..).zip(&chosen).map(|(nth, _)| TriggerCommand::Push {
                // In their order, where there are several.
                run_at: now + wait + Duration::from_millis(nth.into()),
                cause: Cause::Schedule,
                occasion: TriggerPayload::default(),
            }));
        }
    }
    if once {
        commands.push(TriggerCommand::Delete);
    }
    commands
}

/// Collects an occasion; where there is no more room, what was collected becomes a job before its time.
fn debounce(
    rules: &TriggerSpec,
    state: &mut StepState,
    occasion: &TriggerPayload,
    debounce: Duration,
    now: DateTime<Utc>,
) -> Option<TriggerCommand> {
    let mut waiting = state.runtime.debounce_buffer.take().unwrap_or_default();
    let mut flushed = None;
    if !waiting.push(occasion) {
        flushed = flush(rules, &mut state.runtime, std::mem::take(&mut waiting), now);
        waiting.push(occasion);
    }
    if waiting.count == 1 {
        state.due = Some(now + debounce);
    }
    state.runtime.debounce_buffer = Some(waiting);
    flushed
}

/// One job for what was collected.
fn flush(
    rules: &TriggerSpec,
    life: &mut TriggerRuntimeState,
    waiting: DebounceBuffer,
    now: DateTime<Utc>,
) -> Option<TriggerCommand> {
    if rules.is_blocked(life, now) {
        life.counters.paused += waiting.count;
        return None;
    }
    life.counters.fired += 1;
    life.counters.coalesced += waiting.count.saturating_sub(1);
    Some(TriggerCommand::Push { run_at: now, cause: rules.cause(), occasion: waiting.into_payload() })
}

/// A success lets the schedule go on, an error that only the user can mend makes it wait, unless they mended it while the job ran.
fn apply_job_end(life: &mut TriggerRuntimeState, end: JobEnd, now: DateTime<Utc>) -> Option<TriggerCommand> {
    let JobEnd { is_own: own, account_generation: began_with, outcome: verdict } = end;
    match verdict {
        JobOutcome::Succeeded => (life.paused, life.locked_until) = (None, None),
        JobOutcome::Failed => {}
        JobOutcome::NeedsUser { code, locked } => {
            if locked {
                life.locked_until = Some(now + ACCOUNT_LOCK_DURATION);
            }
            if began_with.is_none_or(|generation| generation >= life.login_generation) {
                life.paused = Some(Pause { code, since: now });
            }
        }
        JobOutcome::Obsolete if own => return Some(TriggerCommand::Delete),
        JobOutcome::Obsolete => {}
    }
    None
}

#[cfg(test)]
mod tests;
