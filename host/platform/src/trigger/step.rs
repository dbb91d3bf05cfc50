//! The core of a trigger: what follows from what happens to it. It knows no clock, no store and no chance but those it is given, so that
//! tests can lead it through years of downtimes, edits and wrong clocks.
//!
//! The cursor ([`State::due`]) alone says what is due. It moves over an instant only when the instant is counted in one of
//! [`Occasions`](super::Occasions), in the commit that also holds the job: none fires twice, none is lost without a trace, wherever the clock jumps to.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};

use super::life::{Life, Pause, Waiting};
use super::plan::Plan;
use super::policy::{MissedPolicy, ON_TIME, Policy};
use super::schedule::Schedule;
use crate::job::{Cause, Occasion};

/// This program is not older than this year, so a clock that shows an earlier one is wrong: machines without a battery begin in 1970 until
/// they hear of the network's time. Nothing fires before.
const BUILD_YEAR: i32 = 2026;
/// Jobs for instants that were missed are spread over this time, so that vendors do not meet everybody at once when a server comes back.
const SPREAD: Duration = Duration::from_secs(600);
/// How long nothing runs after a vendor locked an account for too many attempts, not even by hand.
const COOL_DOWN: TimeDelta = TimeDelta::hours(24);

/// What the maker of a trigger asked for.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What it is made for.
    pub plan: Plan,
    /// About instants that cannot fire.
    pub policy: Policy,
    /// How long events and calls are collected into one job.
    pub debounce: Option<Duration>,
    /// Its konnector is in maintenance: only a person may start a job.
    pub maintenance: bool,
}

impl Rules {
    fn hold(&self, life: &Life, now: DateTime<Utc>) -> bool {
        self.maintenance || life.is_held(now)
    }

    /// What its jobs are for when nobody asked for them.
    const fn cause(&self) -> Cause {
        match self.plan {
            Plan::Event(_) => Cause::Event,
            Plan::Webhook => Cause::Webhook,
            Plan::Time(_) | Plan::Client => Cause::Schedule,
        }
    }
}

/// Where a trigger is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The cursor: the next instant, or the end of the debounce.
    pub due: Option<DateTime<Utc>>,
    /// What it remembers.
    pub life: Life,
}

/// Jobs that have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Of this trigger.
    pub own: usize,
    /// Of all triggers for its account, this one included.
    pub account: usize,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Whether it was this trigger's own; otherwise it was for the same account.
    pub own: bool,
    /// Revision of the account that the run began with; `None` where it had none.
    pub began_with: Option<u64>,
    /// What it means.
    pub verdict: Ended,
}

/// What the end of a job means for triggers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It went well.
    Well,
    /// It failed in a way that does not concern them.
    Badly,
    /// Only the user can mend it.
    NeedsUser {
        /// The error code.
        code: String,
        /// The vendor locked the account.
        locked: bool,
    },
    /// What it was to run is gone.
    Senseless,
}

/// What happens to a trigger.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed; the cursor may have been reached.
    Due(Live),
    /// A document changed, or a webhook was called.
    Happened(Occasion),
    /// A person asks for a job now.
    Launched(Occasion),
    /// A job ended.
    JobEnded(End),
    /// The owner of the account changed its login; the account has this revision since.
    AccountChanged(u64),
    /// Somebody replaced its schedule, which was this one.
    Rescheduled(Box<Plan>),
}

/// What is to be done, together with storing the new state.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Push a job, to be run from `run_at` on.
    Push {
        /// When it may run.
        run_at: DateTime<Utc>,
        /// Why it is pushed.
        cause: Cause,
        /// What it is given.
        occasion: Occasion,
    },
    /// Refuse: the account is locked until then.
    Refuse(DateTime<Utc>),
    /// Remove the trigger.
    Delete,
}

/// Whether a clock that shows this can be right.
#[must_use]
pub fn is_plausible(now: DateTime<Utc>) -> bool {
    now.year() >= BUILD_YEAR
}

/// What follows from an event. `random` gives numbers from 0 up to 1. Total: an event that does not fit the state changes nothing.
#[must_use]
pub fn step(
    rules: &Rules,
    mut state: State,
    event: Event,
    now: DateTime<Utc>,
    random: &mut dyn FnMut() -> f64,
) -> (State, Vec<Command>) {
    let mut commands = Vec::new();
    match event {
        Event::Due(live) => match state.due {
            Some(due) if due <= now && is_plausible(now) => match &rules.plan {
                Plan::Time(schedule) => {
                    commands = pass(rules, schedule, &mut state, due, live, now, random);
                }
                Plan::Event(_) | Plan::Webhook | Plan::Client => {
                    state.due = None;
                    let waiting = state.life.waiting.take();
                    commands.extend(waiting.and_then(|waiting| flush(rules, &mut state.life, waiting, now)));
                }
            },
            _ => {}
        },
        Event::Happened(occasion) => match (rules.debounce, rules.hold(&state.life, now)) {
            (_, true) => state.life.occasions.paused += 1,
            (None, false) => {
                state.life.occasions.fired += 1;
                commands.push(Command::Push { run_at: now, cause: rules.cause(), occasion });
            }
            (Some(debounce), false) => commands.extend(collect(rules, &mut state, &occasion, debounce, now)),
        },
        Event::Launched(occasion) => match state.life.lock(now) {
            Some(until) => commands.push(Command::Refuse(until)),
            None => commands.push(Command::Push { run_at: now, cause: Cause::Manual, occasion }),
        },
        Event::JobEnded(end) => commands.extend(learn(&mut state.life, end, now)),
        Event::AccountChanged(generation) => {
            state.life.login = state.life.login.max(generation);
            state.life.paused = None;
        }
        Event::Rescheduled(before) => {
            if let (Plan::Time(schedule), Some(due)) = (*before, state.due)
                && due <= now
            {
                state.life.occasions.missed += 1 + schedule.count(due, now);
            }
            if state.life.is_unusable() {
                state.life.paused = None;
            }
            if let Plan::Time(schedule) = &rules.plan {
                state.due = schedule.first(now);
            }
        }
    }
    (state, commands)
}

/// The cursor moves over every instant that passed, and each of them is counted.
fn pass(
    rules: &Rules,
    schedule: &Schedule,
    state: &mut State,
    due: DateTime<Utc>,
    live: Live,
    now: DateTime<Utc>,
    random: &mut dyn FnMut() -> f64,
) -> Vec<Command> {
    let once = matches!(schedule, Schedule::Once(_));
    let passed = 1 + schedule.count(due, now);
    state.due = schedule.after(due, now);
    let (policy, held) = (&rules.policy, rules.hold(&state.life, now));
    let occasions = &mut state.life.occasions;
    if held {
        // What is to be done once stays, so that its owner sees that it was not done.
        occasions.paused += passed;
        return Vec::new();
    }
    let chosen = policy.chosen(schedule, due, now);
    let late = chosen.first().is_some_and(|first| (now - *first).to_std().unwrap_or_default() > ON_TIME);
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
        if live.own >= policy.room() && !once {
            occasions.overlapped += count;
        } else {
            occasions.fired += count;
            let wait = if late { SPREAD.mul_f64(random().clamp(0.0, 1.0)) } else { Duration::ZERO };
            commands.extend((0_u32..).zip(&chosen).map(|(nth, _)| Command::Push {
                // In their order, where there are several.
                run_at: now + wait + Duration::from_millis(nth.into()),
                cause: Cause::Schedule,
                occasion: Occasion::default(),
            }));
        }
    }
    if once {
        commands.push(Command::Delete);
    }
    commands
}

/// Collects an occasion; where there is no more room, what was collected becomes a job before its time.
fn collect(
    rules: &Rules,
    state: &mut State,
    occasion: &Occasion,
    debounce: Duration,
    now: DateTime<Utc>,
) -> Option<Command> {
    let mut waiting = state.life.waiting.take().unwrap_or_default();
    let mut flushed = None;
    if !waiting.add(occasion) {
        flushed = flush(rules, &mut state.life, std::mem::take(&mut waiting), now);
        waiting.add(occasion);
    }
    if waiting.count == 1 {
        state.due = Some(now + debounce);
    }
    state.life.waiting = Some(waiting);
    flushed
}

/// One job for what was collected.
fn flush(rules: &Rules, life: &mut Life, waiting: Waiting, now: DateTime<Utc>) -> Option<Command> {
    if rules.hold(life, now) {
        life.occasions.paused += waiting.count;
        return None;
    }
    life.occasions.fired += 1;
    life.occasions.coalesced += waiting.count.saturating_sub(1);
    Some(Command::Push { run_at: now, cause: rules.cause(), occasion: waiting.merged() })
}

/// A success lets the schedule go on, an error that only the user can mend makes it wait, unless they mended it while the job ran.
fn learn(life: &mut Life, end: End, now: DateTime<Utc>) -> Option<Command> {
    let End { own, began_with, verdict } = end;
    match verdict {
        Ended::Well => (life.paused, life.locked_until) = (None, None),
        Ended::Badly => {}
        Ended::NeedsUser { code, locked } => {
            if locked {
                life.locked_until = Some(now + COOL_DOWN);
            }
            if began_with.is_none_or(|generation| generation >= life.login) {
                life.paused = Some(Pause { code, since: now });
            }
        }
        Ended::Senseless if own => return Some(Command::Delete),
        Ended::Senseless => {}
    }
    None
}

#[cfg(test)]
mod tests;
