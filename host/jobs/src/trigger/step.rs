//! The core of a trigger: computes the next state from an event. Clock, store and randomness are passed in as values,
//! so tests can simulate years of downtimes, edits and wrong clocks.
//!
//! Only the cursor ([`StepState::due`]) decides what is due. It moves past an instant only when the instant is counted
//! in one of [`TriggerCounters`](super::TriggerCounters), in the commit that also holds the job. Therefore no instant
//! fires twice or is lost without a trace, regardless of how the clock jumps.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};

use super::plan::TriggerPlan;
use super::policy::{MissedPolicy, ON_TIME_TOLERANCE, TriggerPolicy};
use super::runtime_state::{DebounceBuffer, Pause, TriggerRuntimeState};
use super::schedule::Schedule;
use crate::job::{Cause, TriggerPayload};

/// No version of this program is older than this year, so a clock that shows an earlier year is wrong. Machines without
/// a battery start in 1970 until they receive the network time. Nothing fires before.
const MIN_PLAUSIBLE_YEAR: i32 = 2026;
/// Jobs for missed instants are spread over this time, so that vendors do not get all requests at once when a server
/// restarts.
const CATCH_UP_SPREAD: Duration = Duration::from_secs(600);
/// How long nothing runs, not even manually, after a vendor locked an account for too many attempts.
const ACCOUNT_LOCK_DURATION: TimeDelta = TimeDelta::hours(24);

/// Specification of a trigger.
#[derive(Debug, Clone)]
pub struct TriggerSpec {
    /// When the trigger pushes jobs.
    pub plan: TriggerPlan,
    /// Policy for instants at which the trigger cannot fire.
    pub policy: TriggerPolicy,
    /// Period in which events and calls are collected into one job.
    pub debounce: Option<Duration>,
    /// Whether the konnector is in maintenance, so that only a person may start a job.
    pub maintenance: bool,
}

impl TriggerSpec {
    fn is_blocked(&self, runtime: &TriggerRuntimeState, now: DateTime<Utc>) -> bool {
        self.maintenance || runtime.is_blocked(now)
    }

    /// Returns the cause of the trigger's automatic jobs.
    const fn cause(&self) -> Cause {
        match self.plan {
            TriggerPlan::Event(_) => Cause::Event,
            TriggerPlan::Webhook => Cause::Webhook,
            TriggerPlan::Time(_) | TriggerPlan::Client => Cause::Schedule,
        }
    }
}

/// State of a trigger.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepState {
    /// The cursor: the next instant, or the end of the debounce.
    pub due: Option<DateTime<Utc>>,
    /// Runtime state.
    pub runtime: TriggerRuntimeState,
}

/// Numbers of jobs that have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveJobs {
    /// Number of jobs of this trigger.
    pub own: usize,
    /// Number of jobs of all triggers for its account, including this one.
    pub account: usize,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// Whether it was this trigger's own job; otherwise it was for the same account.
    pub is_own: bool,
    /// Revision of the account at the start of the run; `None` if it had no account.
    pub account_generation: Option<u64>,
    /// Outcome of the job.
    pub outcome: JobOutcome,
}

/// Outcome of a job, as far as it matters for triggers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// The job succeeded.
    Succeeded,
    /// The job failed in a way that does not affect triggers.
    Failed,
    /// The job failed, and only the user can fix the cause.
    NeedsUser {
        /// Error code of the job.
        code: String,
        /// Whether the vendor locked the account.
        locked: bool,
    },
    /// The job's konnector or account no longer exists, or the konnector may not use the account.
    Obsolete,
}

/// Event of a trigger.
#[derive(Debug, Clone)]
pub enum TriggerEvent {
    /// Time passed; the cursor may have been reached.
    Due(LiveJobs),
    /// A document changed, or a webhook was called.
    Received(TriggerPayload),
    /// A person requests a job now.
    Launched(TriggerPayload),
    /// A job of this trigger or of its account ended.
    JobEnded(JobEnd),
    /// The owner of the account changed its login; this is the new revision of the account.
    LoginChanged(u64),
    /// The trigger's schedule was replaced; this was the previous plan.
    Rescheduled(Box<TriggerPlan>),
}

/// Command to execute when the new state is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum TriggerCommand {
    /// Push a job that may run from `run_at` on.
    Push {
        /// Earliest start.
        run_at: DateTime<Utc>,
        /// Cause of the job.
        cause: Cause,
        /// Payload of the job.
        occasion: TriggerPayload,
    },
    /// Reject the request; the account is locked until this time.
    Reject(DateTime<Utc>),
    /// Delete the trigger.
    Delete,
}

/// Returns whether the clock can be right.
#[must_use]
pub fn is_plausible(now: DateTime<Utc>) -> bool {
    now.year() >= MIN_PLAUSIBLE_YEAR
}

/// Computes the new state and commands for an event. `random` returns numbers from 0 to 1. An event that does not fit
/// the state changes nothing.
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

/// Moves the cursor past all passed instants, and counts each of them.
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
        // A one-time trigger remains, so its owner sees that it did not fire.
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
        // A job for the account already exists and covers the missed instants.
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
                // In order, if there are multiple.
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

/// Collects an event or a call; if the size limit is reached, the collected ones become a job early.
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

/// Returns one job for the collected events and calls.
fn flush(
    rules: &TriggerSpec,
    runtime: &mut TriggerRuntimeState,
    waiting: DebounceBuffer,
    now: DateTime<Utc>,
) -> Option<TriggerCommand> {
    if rules.is_blocked(runtime, now) {
        runtime.counters.paused += waiting.count;
        return None;
    }
    runtime.counters.fired += 1;
    runtime.counters.coalesced += waiting.count.saturating_sub(1);
    Some(TriggerCommand::Push { run_at: now, cause: rules.cause(), occasion: waiting.into_payload() })
}

/// Applies the end of a job. A success resumes the schedule. An error that only the user can fix pauses it, unless the
/// user fixed it while the job ran.
fn apply_job_end(runtime: &mut TriggerRuntimeState, end: JobEnd, now: DateTime<Utc>) -> Option<TriggerCommand> {
    let JobEnd { is_own: own, account_generation: began_with, outcome: verdict } = end;
    match verdict {
        JobOutcome::Succeeded => (runtime.paused, runtime.locked_until) = (None, None),
        JobOutcome::Failed => {}
        JobOutcome::NeedsUser { code, locked } => {
            if locked {
                runtime.locked_until = Some(now + ACCOUNT_LOCK_DURATION);
            }
            if began_with.is_none_or(|generation| generation >= runtime.login_generation) {
                runtime.paused = Some(Pause { code, since: now });
            }
        }
        JobOutcome::Obsolete if own => return Some(TriggerCommand::Delete),
        JobOutcome::Obsolete => {}
    }
    None
}

#[cfg(test)]
mod tests;
