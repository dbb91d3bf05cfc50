//! Random simulations of the core: schedules, policies, downtimes, edits, pauses, and clocks that jump.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::trigger::plan::ParseContext;
use crate::trigger::policy::{MAX_MISSED_JOBS, OverlapPolicy};
use crate::trigger::runtime_state::TriggerCounters;

const START: &str = "2026-10-20T00:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a date")
}

fn plan(kind: &str, arguments: &str) -> TriggerPlan {
    let context = ParseContext { created: at(START), zone: Tz::Europe__Paris, seed: "alice/konnector/{}" };
    TriggerPlan::parse(kind, arguments, context).expect(arguments)
}

fn schedule(plan: &TriggerPlan) -> &Schedule {
    match plan {
        TriggerPlan::Time(schedule) => schedule,
        other => panic!("{other:?} is no time"),
    }
}

/// A possible next action.
#[derive(Debug, Clone)]
enum ModelAction {
    /// Time passes, and the scheduler runs.
    Wait(i64),
    /// The clock is set, forward or back, and the scheduler runs.
    Jump(i64),
    /// The oldest job ends, successfully or with an error that only the user can fix.
    End(bool),
    /// The owner of the account changes the password.
    CorrectPassword,
    /// Change to another schedule.
    Edit(usize),
    /// A person requests a job.
    Launch,
}

const SCHEDULES: [(&str, &str); 9] = [
    ("@cron", "*/10 * * * *"),
    ("@cron", "30 2 * * *"),
    ("@cron", "15,45 1,2,3 * * *"),
    ("@cron", "*/20 * * * * *"),
    ("@cron", "0 0 1 * 1"),
    ("@every", "7m"),
    ("@every", "13h"),
    ("@hourly", ""),
    ("@weekly", "on fri-mon"),
];

fn actions() -> impl Strategy<Value = Vec<ModelAction>> {
    let seconds = prop_oneof![1_i64..120, 1_i64..7_200, 1_i64..400_000, Just(30 * 86_400)];
    let jump = prop_oneof![-120_i64..120, -100_000_i64..100_000, Just(-10 * 31_557_600_i64), Just(2 * 31_557_600_i64)];
    let one = prop_oneof![
        8 => seconds.prop_map(ModelAction::Wait),
        2 => jump.prop_map(ModelAction::Jump),
        4 => prop::bool::weighted(0.8).prop_map(ModelAction::End),
        1 => Just(ModelAction::CorrectPassword),
        1 => (0..SCHEDULES.len()).prop_map(ModelAction::Edit),
        1 => Just(ModelAction::Launch),
    ];
    prop::collection::vec(one, 1..60)
}

fn policies() -> impl Strategy<Value = TriggerPolicy> {
    let missed = prop_oneof![Just(MissedPolicy::Skip), Just(MissedPolicy::Coalesce), Just(MissedPolicy::All)];
    let overlap = prop_oneof![Just(OverlapPolicy::Skip), Just(OverlapPolicy::QueueOne)];
    let window = prop::option::of(prop_oneof![Just("90s"), Just("2h"), Just("72h")]);
    (missed, prop::option::of(1..200_u32), window, overlap).prop_map(
        |(missed_policy, missed_limit, window, overlap_policy)| {
            let catch_up_window = window.map(|window| window.parse().expect("a duration"));
            TriggerPolicy { missed_policy, missed_limit, catch_up_window, overlap_policy }
        },
    )
}

/// Model of a trigger's surroundings, which counts separately what must have happened.
struct TriggerModel {
    rules: TriggerSpec,
    state: StepState,
    now: DateTime<Utc>,
    /// Instants that the cursor passed. No instant may occur twice.
    passed: BTreeSet<DateTime<Utc>>,
    /// Expected number of instants, over all schedules.
    expected: u64,
    /// Jobs that have not ended, each with the account revision at its start.
    live: Vec<u64>,
    /// Number of jobs that the schedule made.
    scheduled: u64,
    /// Revision of the account.
    account: u64,
    random: u32,
}

impl TriggerModel {
    fn new(first: usize, policy: TriggerPolicy) -> Self {
        let now = at(START);
        let (kind, arguments) = SCHEDULES[first];
        let plan = plan(kind, arguments);
        let state = StepState { due: schedule(&plan).first_due(now), runtime: TriggerRuntimeState::default() };
        let rules = TriggerSpec { plan, policy, debounce: None, maintenance: false };
        let (passed, live) = (BTreeSet::new(), Vec::new());
        Self { rules, state, now, passed, expected: 0, live, scheduled: 0, account: 1, random: 7 }
    }

    fn step(&mut self, event: TriggerEvent) -> Vec<TriggerCommand> {
        let mut random = self.random;
        let mut chance = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(random) / (f64::from(u32::MAX) + 1.0)
        };
        let (state, commands) = step(&self.rules, self.state.clone(), event, self.now, &mut chance);
        (self.state, self.random) = (state, random);
        commands
    }

    /// Passes the instants from the cursor to now, which the schedule lists one by one.
    fn pass_instants(&mut self) -> u64 {
        let schedule = schedule(&self.rules.plan);
        let Some(due) = self.state.due.filter(|due| *due <= self.now) else { return 0 };
        if !is_plausible(self.now) {
            return 0;
        }
        // One by one unless there are too many; the rest is covered by the crontab's own tests.
        let counted = 1 + schedule.count(due, self.now);
        if counted > 500 {
            return counted;
        }
        let mut count = 0;
        let mut instant = Some(due);
        while let Some(passed) = instant.filter(|instant| *instant <= self.now) {
            assert!(self.passed.insert(passed), "{passed} is due a second time");
            count += 1;
            instant = schedule.next(passed, passed);
        }
        count
    }

    fn fire(&mut self) {
        let before = self.state.clone();
        let passed = self.pass_instants();
        self.expected += passed;
        let live = LiveJobs { own: self.live.len(), account: self.live.len() };
        let held = before.runtime.is_blocked(self.now);
        let commands = self.step(TriggerEvent::Due(live));
        let room = self.rules.policy.max_live_jobs();
        let most = match self.rules.policy.missed_policy {
            MissedPolicy::Skip | MissedPolicy::Coalesce => 1,
            MissedPolicy::All => self.rules.policy.missed_limit.unwrap_or(10).min(MAX_MISSED_JOBS) as usize,
        };
        assert!(commands.len() <= most, "{} jobs at once", commands.len());
        for command in commands {
            let TriggerCommand::Push { run_at, cause, .. } = command else { panic!("{command:?}") };
            assert_eq!(cause, Cause::Schedule);
            assert!(!held, "a schedule that waits for the user fires");
            assert!(live.own < room, "there is no room for another job");
            assert!(run_at >= self.now && run_at <= self.now + CATCH_UP_SPREAD + Duration::from_secs(1));
            self.live.push(self.account);
            self.scheduled += 1;
        }
        if passed > 0 {
            assert!(self.state.due.is_none_or(|due| due > self.now), "the cursor stays behind");
        } else {
            assert_eq!(self.state, before, "nothing was due");
        }
    }

    fn end(&mut self, well: bool) {
        if self.live.is_empty() {
            return;
        }
        let began_with = self.live.remove(0);
        let verdict = if well {
            JobOutcome::Succeeded
        } else {
            JobOutcome::NeedsUser { code: "LOGIN_FAILED".to_owned(), locked: false }
        };
        let corrected = began_with < self.state.runtime.login_generation;
        let paused = self.state.runtime.paused.is_some();
        let commands = self.step(TriggerEvent::JobEnded(JobEnd {
            is_own: true,
            account_generation: Some(began_with),
            outcome: verdict,
        }));
        assert_eq!(commands, []);
        assert_eq!(self.state.runtime.paused.is_some(), !well && (paused || !corrected));
    }

    fn edit(&mut self, number: usize) {
        let due = self.state.due;
        if let Some(due) = due.filter(|due| *due <= self.now) {
            self.expected += 1 + schedule(&self.rules.plan).count(due, self.now);
        }
        let (kind, arguments) = SCHEDULES[number];
        let before = std::mem::replace(&mut self.rules.plan, plan(kind, arguments));
        let commands = self.step(TriggerEvent::Rescheduled(Box::new(before)));
        assert_eq!(commands, []);
        assert_eq!(self.state.due, schedule(&self.rules.plan).first_due(self.now), "an edit takes effect at once");
        self.passed.clear();
    }

    fn apply(&mut self, next: ModelAction) {
        match next {
            ModelAction::Wait(seconds) => {
                self.now += TimeDelta::seconds(seconds);
                self.fire();
            }
            ModelAction::Jump(seconds) => {
                self.now += TimeDelta::seconds(seconds);
                self.fire();
            }
            ModelAction::End(well) => self.end(well),
            ModelAction::CorrectPassword => {
                self.account += 1;
                assert_eq!(self.step(TriggerEvent::LoginChanged(self.account)), []);
                assert_eq!(self.state.runtime.paused, None);
            }
            ModelAction::Edit(number) => self.edit(number),
            ModelAction::Launch => {
                let before = self.state.clone();
                let commands = self.step(TriggerEvent::Launched(TriggerPayload::default()));
                let [TriggerCommand::Push { cause: Cause::Manual, .. }] = commands.as_slice() else {
                    panic!("{commands:?}")
                };
                assert_eq!(self.state, before, "a launch is none of the schedule's business");
                self.live.push(self.account);
            }
        }
        let TriggerCounters { fired, coalesced, missed, overlapped, paused } = self.state.runtime.counters;
        assert_eq!(fired, self.scheduled);
        assert_eq!(fired + coalesced + missed + overlapped + paused, self.expected, "each instant is counted once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn each_instant_is_counted_exactly_once(first in 0..SCHEDULES.len(), policy in policies(), moves in actions()) {
        let mut world = TriggerModel::new(first, policy);
        for next in moves {
            world.apply(next);
        }
    }
}

fn cron_spec(arguments: &str, policy: TriggerPolicy) -> TriggerSpec {
    TriggerSpec { plan: plan("@cron", arguments), policy, debounce: None, maintenance: false }
}

fn state_due_at(instant: &str) -> StepState {
    StepState { due: Some(at(instant)), runtime: TriggerRuntimeState::default() }
}

fn fire(rules: &TriggerSpec, state: StepState, live: LiveJobs, now: &str) -> (StepState, Vec<TriggerCommand>) {
    step(rules, state, TriggerEvent::Due(live), at(now), &mut || 0.5)
}

#[test]
fn a_clock_that_goes_back_fires_nothing_twice() {
    let rules = cron_spec("0 * * * *", TriggerPolicy::default());
    let (state, fired) =
        fire(&rules, state_due_at("2026-11-20T12:00:00Z"), LiveJobs::default(), "2026-11-20T12:00:00.200Z");
    assert_eq!((fired.len(), state.due), (1, Some(at("2026-11-20T13:00:00Z"))));
    let (back, fired) = fire(&rules, state.clone(), LiveJobs::default(), "2026-11-20T11:59:59Z");
    assert_eq!((fired.len(), &back), (0, &state));
    let (back, fired) = fire(&rules, back, LiveJobs::default(), "2026-11-20T12:00:00Z");
    assert_eq!((fired.len(), back), (0, state));
}

#[test]
fn a_clock_from_before_this_program_fires_nothing() {
    let rules = cron_spec("0 * * * *", TriggerPolicy::default());
    let state = state_due_at("1970-01-01T00:00:00Z");
    let (same, fired) = fire(&rules, state.clone(), LiveJobs::default(), "2025-12-31T23:59:59Z");
    assert_eq!((same, fired.len()), (state, 0));
}

#[test]
fn a_month_down_is_one_job_none_or_the_newest_ones() {
    let after_a_month = |policy: TriggerPolicy| {
        let rules = cron_spec("0 * * * *", policy);
        let (state, fired) =
            fire(&rules, state_due_at("2026-10-21T12:00:00Z"), LiveJobs::default(), "2026-11-20T12:00:30Z");
        let fired: Vec<_> = fired
            .into_iter()
            .map(|command| match command {
                TriggerCommand::Push { run_at, .. } => run_at,
                other => panic!("{other:?}"),
            })
            .collect();
        (fired, state.runtime.counters)
    };
    let missed = |missed_policy, missed_limit, window: Option<&str>| TriggerPolicy {
        missed_policy,
        missed_limit,
        catch_up_window: window.map(|window| window.parse().expect("a duration")),
        ..TriggerPolicy::default()
    };
    // 30 days of hours, plus one because clocks in Paris were set back in the meantime, which makes no difference for
    // an hourly crontab.
    let (fired, occasions) = after_a_month(missed(MissedPolicy::Coalesce, None, None));
    assert_eq!((fired.as_slice(), occasions.coalesced), ([at("2026-11-20T12:00:30Z")].as_slice(), 720));
    let (fired, occasions) = after_a_month(missed(MissedPolicy::All, Some(3), None));
    assert_eq!((fired.len(), occasions.fired, occasions.missed), (3, 3, 718));
    // Half of the ten minutes over which jobs for missed instants are spread.
    assert_eq!(fired[0], at("2026-11-20T12:05:30Z"));
    let (fired, occasions) = after_a_month(missed(MissedPolicy::All, None, Some("90m")));
    assert_eq!((fired.len(), occasions.missed), (2, 719));
    let rules = cron_spec("0 3 * * *", missed(MissedPolicy::Skip, None, None));
    let (state, fired) =
        fire(&rules, state_due_at("2026-10-21T01:00:00Z"), LiveJobs::default(), "2026-11-20T12:00:30Z");
    assert_eq!((fired.len(), state.runtime.counters.missed), (0, 31));
    let rules = cron_spec("0 3 * * *", missed(MissedPolicy::Coalesce, None, Some("2h")));
    let (state, fired) =
        fire(&rules, state_due_at("2026-10-21T01:00:00Z"), LiveJobs::default(), "2026-11-20T12:00:30Z");
    assert_eq!((fired.len(), state.runtime.counters.missed), (0, 31));
}

#[test]
fn what_was_missed_needs_no_job_beside_another_one_for_the_account() {
    let rules = cron_spec("0 3 * * *", TriggerPolicy::default());
    let other = LiveJobs { own: 0, account: 1 };
    let (state, fired) = fire(&rules, state_due_at("2026-11-20T02:00:00Z"), other, "2026-11-20T12:00:00Z");
    assert_eq!((fired.len(), state.runtime.counters.coalesced), (0, 1));
    // When they are on time, each trigger has its own job.
    let (state, fired) = fire(&rules, state_due_at("2026-11-20T02:00:00Z"), other, "2026-11-20T02:00:01Z");
    assert_eq!((fired.len(), state.runtime.counters.fired), (1, 1));
}

fn needs_user(began_with: u64, locked: bool) -> TriggerEvent {
    let verdict = JobOutcome::NeedsUser { code: "LOGIN_FAILED".to_owned(), locked };
    TriggerEvent::JobEnded(JobEnd { is_own: true, account_generation: Some(began_with), outcome: verdict })
}

#[test]
fn a_run_with_the_old_password_does_not_hold_up_the_new_one() {
    let rules = cron_spec("0 3 * * *", TriggerPolicy::default());
    let mut state = state_due_at("2026-11-21T02:00:00Z");
    let now = at("2026-11-20T12:00:00Z");
    let mut happen = |event| {
        state = step(&rules, state.clone(), event, now, &mut || 0.0).0;
        state.runtime.paused.is_some()
    };
    // The run began with revision 3, the user corrected the password with revision 4, then the run ended.
    assert!(!happen(TriggerEvent::LoginChanged(4)));
    assert!(!happen(needs_user(3, false)));
    // The corrected password is rejected too.
    assert!(happen(needs_user(5, false)));
    assert!(!happen(TriggerEvent::LoginChanged(6)));
}

#[test]
fn a_locked_account_waits_a_day_even_for_a_person() {
    let rules = cron_spec("0 3 * * *", TriggerPolicy::default());
    let now = at("2026-11-20T12:00:00Z");
    let (state, _) = step(&rules, state_due_at("2026-11-21T02:00:00Z"), needs_user(1, true), now, &mut || 0.0);
    let launch = |state: &StepState, now: &str| {
        step(&rules, state.clone(), TriggerEvent::Launched(TriggerPayload::default()), at(now), &mut || 0.0).1
    };
    assert_eq!(launch(&state, "2026-11-20T12:00:01Z"), [TriggerCommand::Reject(at("2026-11-21T12:00:00Z"))]);
    // A new password does not remove the vendor's lock; the schedule waits as well.
    let (state, _) = step(&rules, state, TriggerEvent::LoginChanged(2), now, &mut || 0.0);
    assert_eq!(launch(&state, "2026-11-21T11:59:59Z").len(), 1);
    let (state, fired) = fire(&rules, state, LiveJobs::default(), "2026-11-21T02:00:00Z");
    assert_eq!((fired.len(), state.runtime.counters.paused), (0, 1));
    let [TriggerCommand::Push { cause: Cause::Manual, .. }] = launch(&state, "2026-11-21T12:00:00Z")[..] else {
        panic!()
    };
    let (_, fired) = fire(&rules, state, LiveJobs::default(), "2026-11-22T02:00:00Z");
    assert_eq!(fired.len(), 1);
}

#[test]
fn what_is_to_be_done_once_is_done_and_gone_or_stays_to_be_seen() {
    let rules = TriggerSpec {
        plan: plan("@at", "2026-11-20T12:00:00Z"),
        policy: TriggerPolicy::default(),
        debounce: None,
        maintenance: false,
    };
    let busy = LiveJobs { own: 1, account: 1 };
    let (_, commands) = fire(&rules, state_due_at("2026-11-20T12:00:00Z"), busy, "2026-11-23T00:00:00Z");
    assert!(matches!(commands[..], [TriggerCommand::Push { .. }, TriggerCommand::Delete]), "{commands:?}");
    let (held, _) = step(&rules, state_due_at("2026-11-20T12:00:00Z"), needs_user(1, false), at(START), &mut || 0.0);
    let (state, commands) = fire(&rules, held, LiveJobs::default(), "2026-11-20T12:00:00Z");
    assert_eq!((commands.len(), state.due, state.runtime.counters.paused), (0, None, 1));
}

fn debounced_spec(plan: TriggerPlan) -> TriggerSpec {
    TriggerSpec { plan, policy: TriggerPolicy::default(), debounce: Some(Duration::from_secs(60)), maintenance: false }
}

#[test]
fn a_debounce_collects_calls_in_their_order_from_the_first_one_on() {
    let rules = debounced_spec(TriggerPlan::Webhook);
    let mut state = StepState::default();
    for (second, body) in [("00", &br#"{"n":1}"#[..]), ("30", b"no json"), ("59", b"3")] {
        let now = at(&format!("2026-11-20T12:00:{second}Z"));
        let (next, commands) =
            step(&rules, state, TriggerEvent::Received(TriggerPayload::from_webhook_body(body)), now, &mut || 0.0);
        assert_eq!(commands, []);
        state = next;
    }
    assert_eq!(state.due, Some(at("2026-11-20T12:01:00Z")));
    let (state, commands) = fire(&rules, state, LiveJobs::default(), "2026-11-20T12:01:00Z");
    let [TriggerCommand::Push { occasion, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(occasion.webhook_json(), Some(serde_json::json!({ "payloads": [{ "n": 1 }, "no json", 3] })));
    assert_eq!(serde_json::to_value(occasion).expect("a value")["debounced"], true);
    assert_eq!((state.due, state.runtime.debounce_buffer), (None, None));
    assert_eq!((state.runtime.counters.fired, state.runtime.counters.coalesced), (1, 2));
}

#[test]
fn a_debounce_ends_early_rather_than_lose_a_body() {
    let rules = debounced_spec(TriggerPlan::Webhook);
    let body = vec![b'1'; 600 * 1024];
    let (state, commands) = step(
        &rules,
        StepState::default(),
        TriggerEvent::Received(TriggerPayload::from_webhook_body(&body)),
        at(START),
        &mut || 0.0,
    );
    assert_eq!(commands, []);
    let (state, commands) =
        step(&rules, state, TriggerEvent::Received(TriggerPayload::from_webhook_body(&body)), at(START), &mut || 0.0);
    assert_eq!(commands.len(), 1);
    assert_eq!(state.runtime.debounce_buffer.map(|waiting| waiting.count), Some(1));
}

#[test]
fn events_lose_their_body_in_a_debounce_and_keep_it_without() {
    let event = TriggerPayload::from_event(&serde_json::json!({ "verb": "CREATED" }));
    let rules = debounced_spec(plan("@event", "io.cozy.bills"));
    let (state, _) = step(&rules, StepState::default(), TriggerEvent::Received(event.clone()), at(START), &mut || 0.0);
    let (_, commands) = fire(&rules, state, LiveJobs::default(), "2026-10-20T00:01:00Z");
    let [TriggerCommand::Push { occasion, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(*occasion, TriggerPayload::default().into_debounced());
    let rules = TriggerSpec { debounce: None, ..rules };
    let (_, commands) =
        step(&rules, StepState::default(), TriggerEvent::Received(event.clone()), at(START), &mut || 0.0);
    let [TriggerCommand::Push { occasion, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(*occasion, event);
}
