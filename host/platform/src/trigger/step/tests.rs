//! The core, led through random lives: schedules, policies, downtimes, edits, pauses, and clocks that jump.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::trigger::life::Occasions;
use crate::trigger::plan::Context;
use crate::trigger::policy::{MOST_MISSED, OverlapPolicy};

const START: &str = "2026-10-20T00:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a date")
}

fn plan(kind: &str, arguments: &str) -> Plan {
    let context = Context { created: at(START), zone: Tz::Europe__Paris, seed: "alice/konnector/{}" };
    Plan::parse(kind, arguments, context).expect(arguments)
}

fn schedule(plan: &Plan) -> &Schedule {
    match plan {
        Plan::Time(schedule) => schedule,
        other => panic!("{other:?} is no time"),
    }
}

/// What may happen next.
#[derive(Debug, Clone)]
enum Move {
    /// Time passes, and the scheduler looks.
    Wait(i64),
    /// The clock is set, forward or back, and the scheduler looks.
    Jump(i64),
    /// The oldest job ends, well or so that the user is needed.
    End(bool),
    /// The owner of the account changes the password.
    Correct,
    /// Another schedule.
    Edit(usize),
    /// A person asks.
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

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let seconds = prop_oneof![1_i64..120, 1_i64..7_200, 1_i64..400_000, Just(30 * 86_400)];
    let jump = prop_oneof![-120_i64..120, -100_000_i64..100_000, Just(-10 * 31_557_600_i64), Just(2 * 31_557_600_i64)];
    let one = prop_oneof![
        8 => seconds.prop_map(Move::Wait),
        2 => jump.prop_map(Move::Jump),
        4 => prop::bool::weighted(0.8).prop_map(Move::End),
        1 => Just(Move::Correct),
        1 => (0..SCHEDULES.len()).prop_map(Move::Edit),
        1 => Just(Move::Launch),
    ];
    prop::collection::vec(one, 1..60)
}

fn policies() -> impl Strategy<Value = Policy> {
    let missed = prop_oneof![Just(MissedPolicy::Skip), Just(MissedPolicy::Coalesce), Just(MissedPolicy::All)];
    let overlap = prop_oneof![Just(OverlapPolicy::Skip), Just(OverlapPolicy::QueueOne)];
    let window = prop::option::of(prop_oneof![Just("90s"), Just("2h"), Just("72h")]);
    (missed, prop::option::of(1..200_u32), window, overlap).prop_map(
        |(missed_policy, missed_limit, window, overlap_policy)| {
            let catch_up_window = window.map(|window| window.parse().expect("a duration"));
            Policy { missed_policy, missed_limit, catch_up_window, overlap_policy }
        },
    )
}

/// A world around one trigger, which keeps its own account of what must have happened.
struct World {
    rules: Rules,
    state: State,
    now: DateTime<Utc>,
    /// Instants that the cursor passed. No instant may come twice.
    passed: BTreeSet<DateTime<Utc>>,
    /// How many there were, over all schedules.
    owed: u64,
    /// Jobs that have not ended, each with the revision of the account that it began with.
    live: Vec<u64>,
    /// Jobs that the schedule made.
    scheduled: u64,
    /// Revision of the account.
    account: u64,
    random: u32,
}

impl World {
    fn new(first: usize, policy: Policy) -> Self {
        let now = at(START);
        let (kind, arguments) = SCHEDULES[first];
        let plan = plan(kind, arguments);
        let state = State { due: schedule(&plan).first(now), life: Life::default() };
        let rules = Rules { plan, policy, debounce: None, maintenance: false };
        let (passed, live) = (BTreeSet::new(), Vec::new());
        Self { rules, state, now, passed, owed: 0, live, scheduled: 0, account: 1, random: 7 }
    }

    fn step(&mut self, event: Event) -> Vec<Command> {
        let mut random = self.random;
        let mut chance = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(random) / (f64::from(u32::MAX) + 1.0)
        };
        let (state, commands) = step(&self.rules, self.state.clone(), event, self.now, &mut chance);
        (self.state, self.random) = (state, random);
        commands
    }

    /// Passes the instants from the cursor to now, as the schedule names them one by one.
    fn pass_instants(&mut self) -> u64 {
        let schedule = schedule(&self.rules.plan);
        let Some(due) = self.state.due.filter(|due| *due <= self.now) else { return 0 };
        if !is_plausible(self.now) {
            return 0;
        }
        // One by one as long as there are not too many; the rest is the business of the crontab's own tests.
        let counted = 1 + schedule.count(due, self.now);
        if counted > 500 {
            return counted;
        }
        let mut count = 0;
        let mut instant = Some(due);
        while let Some(passed) = instant.filter(|instant| *instant <= self.now) {
            assert!(self.passed.insert(passed), "{passed} is due a second time");
            count += 1;
            instant = schedule.after(passed, passed);
        }
        count
    }

    fn look(&mut self) {
        let before = self.state.clone();
        let passed = self.pass_instants();
        self.owed += passed;
        let live = Live { own: self.live.len(), account: self.live.len() };
        let held = before.life.is_held(self.now);
        let commands = self.step(Event::Due(live));
        let room = self.rules.policy.room();
        let most = match self.rules.policy.missed_policy {
            MissedPolicy::Skip | MissedPolicy::Coalesce => 1,
            MissedPolicy::All => self.rules.policy.missed_limit.unwrap_or(10).min(MOST_MISSED) as usize,
        };
        assert!(commands.len() <= most, "{} jobs at once", commands.len());
        for command in commands {
            let Command::Push { run_at, cause, .. } = command else { panic!("{command:?}") };
            assert_eq!(cause, Cause::Schedule);
            assert!(!held, "a schedule that waits for the user fires");
            assert!(live.own < room, "there is no room for another job");
            assert!(run_at >= self.now && run_at <= self.now + SPREAD + Duration::from_secs(1));
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
        let verdict =
            if well { Ended::Well } else { Ended::NeedsUser { code: "LOGIN_FAILED".to_owned(), locked: false } };
        let corrected = began_with < self.state.life.login;
        let paused = self.state.life.paused.is_some();
        let commands = self.step(Event::JobEnded(End { own: true, began_with: Some(began_with), verdict }));
        assert_eq!(commands, []);
        assert_eq!(self.state.life.paused.is_some(), !well && (paused || !corrected));
    }

    fn edit(&mut self, number: usize) {
        let due = self.state.due;
        if let Some(due) = due.filter(|due| *due <= self.now) {
            self.owed += 1 + schedule(&self.rules.plan).count(due, self.now);
        }
        let (kind, arguments) = SCHEDULES[number];
        let before = std::mem::replace(&mut self.rules.plan, plan(kind, arguments));
        let commands = self.step(Event::Rescheduled(Box::new(before)));
        assert_eq!(commands, []);
        assert_eq!(self.state.due, schedule(&self.rules.plan).first(self.now), "an edit takes effect at once");
        self.passed.clear();
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::Wait(seconds) => {
                self.now += TimeDelta::seconds(seconds);
                self.look();
            }
            Move::Jump(seconds) => {
                self.now += TimeDelta::seconds(seconds);
                self.look();
            }
            Move::End(well) => self.end(well),
            Move::Correct => {
                self.account += 1;
                assert_eq!(self.step(Event::AccountChanged(self.account)), []);
                assert_eq!(self.state.life.paused, None);
            }
            Move::Edit(number) => self.edit(number),
            Move::Launch => {
                let before = self.state.clone();
                let commands = self.step(Event::Launched(Occasion::default()));
                let [Command::Push { cause: Cause::Manual, .. }] = commands.as_slice() else { panic!("{commands:?}") };
                assert_eq!(self.state, before, "a launch is none of the schedule's business");
                self.live.push(self.account);
            }
        }
        let Occasions { fired, coalesced, missed, overlapped, paused } = self.state.life.occasions;
        assert_eq!(fired, self.scheduled);
        assert_eq!(fired + coalesced + missed + overlapped + paused, self.owed, "each instant is counted once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn each_instant_is_counted_exactly_once(first in 0..SCHEDULES.len(), policy in policies(), moves in moves()) {
        let mut world = World::new(first, policy);
        for next in moves {
            world.make(next);
        }
    }
}

fn of_time(arguments: &str, policy: Policy) -> Rules {
    Rules { plan: plan("@cron", arguments), policy, debounce: None, maintenance: false }
}

fn due(instant: &str) -> State {
    State { due: Some(at(instant)), life: Life::default() }
}

fn look(rules: &Rules, state: State, live: Live, now: &str) -> (State, Vec<Command>) {
    step(rules, state, Event::Due(live), at(now), &mut || 0.5)
}

#[test]
fn a_clock_that_goes_back_fires_nothing_twice() {
    let rules = of_time("0 * * * *", Policy::default());
    let (state, fired) = look(&rules, due("2026-11-20T12:00:00Z"), Live::default(), "2026-11-20T12:00:00.200Z");
    assert_eq!((fired.len(), state.due), (1, Some(at("2026-11-20T13:00:00Z"))));
    let (back, fired) = look(&rules, state.clone(), Live::default(), "2026-11-20T11:59:59Z");
    assert_eq!((fired.len(), &back), (0, &state));
    let (back, fired) = look(&rules, back, Live::default(), "2026-11-20T12:00:00Z");
    assert_eq!((fired.len(), back), (0, state));
}

#[test]
fn a_clock_from_before_this_program_fires_nothing() {
    let rules = of_time("0 * * * *", Policy::default());
    let state = due("1970-01-01T00:00:00Z");
    let (same, fired) = look(&rules, state.clone(), Live::default(), "2025-12-31T23:59:59Z");
    assert_eq!((same, fired.len()), (state, 0));
}

#[test]
fn a_month_down_is_one_job_none_or_the_newest_ones() {
    let after_a_month = |policy: Policy| {
        let rules = of_time("0 * * * *", policy);
        let (state, fired) = look(&rules, due("2026-10-21T12:00:00Z"), Live::default(), "2026-11-20T12:00:30Z");
        let fired: Vec<_> = fired
            .into_iter()
            .map(|command| match command {
                Command::Push { run_at, .. } => run_at,
                other => panic!("{other:?}"),
            })
            .collect();
        (fired, state.life.occasions)
    };
    let missed = |missed_policy, missed_limit, window: Option<&str>| Policy {
        missed_policy,
        missed_limit,
        catch_up_window: window.map(|window| window.parse().expect("a duration")),
        ..Policy::default()
    };
    // 30 days of hours, one more because clocks in Paris were set back meanwhile, which changes nothing for a crontab of every hour.
    let (fired, occasions) = after_a_month(missed(MissedPolicy::Coalesce, None, None));
    assert_eq!((fired.as_slice(), occasions.coalesced), ([at("2026-11-20T12:00:30Z")].as_slice(), 720));
    let (fired, occasions) = after_a_month(missed(MissedPolicy::All, Some(3), None));
    assert_eq!((fired.len(), occasions.fired, occasions.missed), (3, 3, 718));
    // Half of the ten minutes over which jobs for missed instants are spread.
    assert_eq!(fired[0], at("2026-11-20T12:05:30Z"));
    let (fired, occasions) = after_a_month(missed(MissedPolicy::All, None, Some("90m")));
    assert_eq!((fired.len(), occasions.missed), (2, 719));
    let rules = of_time("0 3 * * *", missed(MissedPolicy::Skip, None, None));
    let (state, fired) = look(&rules, due("2026-10-21T01:00:00Z"), Live::default(), "2026-11-20T12:00:30Z");
    assert_eq!((fired.len(), state.life.occasions.missed), (0, 31));
    let rules = of_time("0 3 * * *", missed(MissedPolicy::Coalesce, None, Some("2h")));
    let (state, fired) = look(&rules, due("2026-10-21T01:00:00Z"), Live::default(), "2026-11-20T12:00:30Z");
    assert_eq!((fired.len(), state.life.occasions.missed), (0, 31));
}

#[test]
fn what_was_missed_needs_no_job_beside_another_one_for_the_account() {
    let rules = of_time("0 3 * * *", Policy::default());
    let other = Live { own: 0, account: 1 };
    let (state, fired) = look(&rules, due("2026-11-20T02:00:00Z"), other, "2026-11-20T12:00:00Z");
    assert_eq!((fired.len(), state.life.occasions.coalesced), (0, 1));
    // On time each trigger has its own job.
    let (state, fired) = look(&rules, due("2026-11-20T02:00:00Z"), other, "2026-11-20T02:00:01Z");
    assert_eq!((fired.len(), state.life.occasions.fired), (1, 1));
}

fn needs_user(began_with: u64, locked: bool) -> Event {
    let verdict = Ended::NeedsUser { code: "LOGIN_FAILED".to_owned(), locked };
    Event::JobEnded(End { own: true, began_with: Some(began_with), verdict })
}

#[test]
fn a_run_with_the_old_password_does_not_hold_up_the_new_one() {
    let rules = of_time("0 3 * * *", Policy::default());
    let mut state = due("2026-11-21T02:00:00Z");
    let now = at("2026-11-20T12:00:00Z");
    let mut happen = |event| {
        state = step(&rules, state.clone(), event, now, &mut || 0.0).0;
        state.life.paused.is_some()
    };
    // The run began with revision 3, the user corrected the password with 4, then the run ended.
    assert!(!happen(Event::AccountChanged(4)));
    assert!(!happen(needs_user(3, false)));
    // The corrected one is refused too.
    assert!(happen(needs_user(5, false)));
    assert!(!happen(Event::AccountChanged(6)));
}

#[test]
fn a_locked_account_waits_a_day_even_for_a_person() {
    let rules = of_time("0 3 * * *", Policy::default());
    let now = at("2026-11-20T12:00:00Z");
    let (state, _) = step(&rules, due("2026-11-21T02:00:00Z"), needs_user(1, true), now, &mut || 0.0);
    let launch = |state: &State, now: &str| {
        step(&rules, state.clone(), Event::Launched(Occasion::default()), at(now), &mut || 0.0).1
    };
    assert_eq!(launch(&state, "2026-11-20T12:00:01Z"), [Command::Refuse(at("2026-11-21T12:00:00Z"))]);
    // A new password does not unlock what the vendor locked; the schedule waits as well.
    let (state, _) = step(&rules, state, Event::AccountChanged(2), now, &mut || 0.0);
    assert_eq!(launch(&state, "2026-11-21T11:59:59Z").len(), 1);
    let (state, fired) = look(&rules, state, Live::default(), "2026-11-21T02:00:00Z");
    assert_eq!((fired.len(), state.life.occasions.paused), (0, 1));
    let [Command::Push { cause: Cause::Manual, .. }] = launch(&state, "2026-11-21T12:00:00Z")[..] else { panic!() };
    let (_, fired) = look(&rules, state, Live::default(), "2026-11-22T02:00:00Z");
    assert_eq!(fired.len(), 1);
}

#[test]
fn what_is_to_be_done_once_is_done_and_gone_or_stays_to_be_seen() {
    let rules = Rules {
        plan: plan("@at", "2026-11-20T12:00:00Z"),
        policy: Policy::default(),
        debounce: None,
        maintenance: false,
    };
    let busy = Live { own: 1, account: 1 };
    let (_, commands) = look(&rules, due("2026-11-20T12:00:00Z"), busy, "2026-11-23T00:00:00Z");
    assert!(matches!(commands[..], [Command::Push { .. }, Command::Delete]), "{commands:?}");
    let (held, _) = step(&rules, due("2026-11-20T12:00:00Z"), needs_user(1, false), at(START), &mut || 0.0);
    let (state, commands) = look(&rules, held, Live::default(), "2026-11-20T12:00:00Z");
    assert_eq!((commands.len(), state.due, state.life.occasions.paused), (0, None, 1));
}

fn collecting(plan: Plan) -> Rules {
    Rules { plan, policy: Policy::default(), debounce: Some(Duration::from_secs(60)), maintenance: false }
}

#[test]
fn a_debounce_collects_calls_in_their_order_from_the_first_one_on() {
    let rules = collecting(Plan::Webhook);
    let mut state = State::default();
    for (second, body) in [("00", &br#"{"n":1}"#[..]), ("30", b"no json"), ("59", b"3")] {
        let now = at(&format!("2026-11-20T12:00:{second}Z"));
        let (next, commands) = step(&rules, state, Event::Happened(Occasion::payload(body)), now, &mut || 0.0);
        assert_eq!(commands, []);
        state = next;
    }
    assert_eq!(state.due, Some(at("2026-11-20T12:01:00Z")));
    let (state, commands) = look(&rules, state, Live::default(), "2026-11-20T12:01:00Z");
    let [Command::Push { occasion, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(occasion.json(), Some(serde_json::json!({ "payloads": [{ "n": 1 }, "no json", 3] })));
    assert_eq!(serde_json::to_value(occasion).expect("a value")["debounced"], true);
    assert_eq!((state.due, state.life.waiting), (None, None));
    assert_eq!((state.life.occasions.fired, state.life.occasions.coalesced), (1, 2));
}

#[test]
fn a_debounce_ends_early_rather_than_lose_a_body() {
    let rules = collecting(Plan::Webhook);
    let body = vec![b'1'; 600 * 1024];
    let (state, commands) =
        step(&rules, State::default(), Event::Happened(Occasion::payload(&body)), at(START), &mut || 0.0);
    assert_eq!(commands, []);
    let (state, commands) = step(&rules, state, Event::Happened(Occasion::payload(&body)), at(START), &mut || 0.0);
    assert_eq!(commands.len(), 1);
    assert_eq!(state.life.waiting.map(|waiting| waiting.count), Some(1));
}

#[test]
fn events_lose_their_body_in_a_debounce_and_keep_it_without() {
    let event = Occasion::event(&serde_json::json!({ "verb": "CREATED" }));
    let rules = collecting(plan("@event", "io.cozy.bills"));
    let (state, _) = step(&rules, State::default(), Event::Happened(event.clone()), at(START), &mut || 0.0);
    let (_, commands) = look(&rules, state, Live::default(), "2026-10-20T00:01:00Z");
    let [Command::Push { occasion, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(*occasion, Occasion::default().debounced());
    let rules = Rules { debounce: None, ..rules };
    let (_, commands) = step(&rules, State::default(), Event::Happened(event.clone()), at(START), &mut || 0.0);
    let [Command::Push { occasion, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(*occasion, event);
}
