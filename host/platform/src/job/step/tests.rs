use std::time::Duration;

use konnector_sandbox::{Failure, Outcome};
use proptest::prelude::*;

use super::*;

fn now() -> DateTime<Utc> {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn around() -> Circumstances {
    let policy = RetryPolicy { first: Duration::from_secs(300), most_attempts: 8 };
    Circumstances { now: now(), share: 1.0, policy, next_due: None, faults: 0 }
}

fn running() -> Standing {
    Standing { phase: Phase::Running, attempt: 1, interruptions: 0, cancelled: false }
}

fn verdict(failure: Failure) -> Verdict {
    Verdict::of(&Outcome::Failed(failure)).unwrap()
}

fn ended(failure: Failure) -> Event {
    Event::Ended(Some(verdict(failure)))
}

fn any_event() -> impl Strategy<Value = Event> {
    let text = String::new;
    prop_oneof![
        Just(Event::Claimed),
        Just(Event::Ended(None)),
        Just(ended(Failure::VendorDown(text()))),
        Just(ended(Failure::Bug(text()))),
        Just(ended(Failure::BadCredentials(text()))),
        Just(ended(Failure::StorageFull(text()))),
        Just(Event::Stopped),
        Just(Event::Lost),
        Just(Event::NoRoom),
        Just(Event::CancelAsked),
    ]
}

proptest! {
    /// Whatever happens in whatever order: nothing happens to a job that has ended, it ends once, attempts are never used up by a stop, and
    /// a job that is cut off again and again comes to an end.
    #[test]
    fn a_job_ends_once(events in prop::collection::vec(any_event(), 1..40)) {
        let mut job = Standing { phase: Phase::Waiting, attempt: 1, interruptions: 0, cancelled: false };
        let mut ends = 0;
        for event in &events {
            let Ok((after, commands)) = step(job, event, &around()) else {
                let legal = match job.phase {
                    Phase::Waiting => matches!(event, Event::Claimed | Event::CancelAsked),
                    Phase::Running => !matches!(event, Event::Claimed),
                    Phase::Ended => false,
                };
                prop_assert!(!legal, "{job:?} {event:?}");
                continue;
            };
            prop_assert_ne!(job.phase, Phase::Ended);
            let finished = commands.iter().filter(|command| matches!(command, Command::Finish(_))).count();
            prop_assert_eq!(finished, usize::from(after.phase == Phase::Ended));
            ends += finished;
            prop_assert_eq!(after.attempt, 1);
            let counted = after.interruptions - job.interruptions;
            prop_assert_eq!(counted, u32::from(*event == Event::Lost && !job.cancelled));
            prop_assert!(job.cancelled <= after.cancelled);
            if job.cancelled {
                let retried = commands.iter().any(|command| matches!(command, Command::Retry { .. } | Command::Requeue { .. }));
                prop_assert!(!retried, "a cancelled job was given back");
            }
            job = after;
        }
        prop_assert!(ends <= 1 && job.interruptions <= MOST_INTERRUPTIONS + 1);
    }
}

/// What follows from the end of a run, in short.
fn follows(job: Standing, failure: Failure, around: &Circumstances) -> String {
    let (_, commands) = step(job, &ended(failure), around).unwrap();
    let words = commands.iter().map(|command| match command {
        Command::Finish(verdict) => verdict.as_ref().map_or("done".to_owned(), |verdict| verdict.code.to_string()),
        Command::Retry { run_at } => format!("again in {}s", (*run_at - around.now).num_seconds()),
        Command::TellTrigger(Some(verdict)) if verdict.pause => format!("pause: {}", verdict.code),
        Command::TellTrigger(_) => "go on".to_owned(),
        other => format!("{other:?}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn what_follows_from_each_class() {
    let text = String::new;
    let twice = Circumstances { faults: 2, ..around() };
    let soon = Circumstances { next_due: Some(now() + Duration::from_secs(200)), ..around() };
    let second = Standing { attempt: 2, ..running() };
    let cancelled = Standing { cancelled: true, ..running() };
    insta::assert_snapshot!([
        follows(running(), Failure::VendorDown(text()), &around()),
        follows(second, Failure::VendorDown(text()), &around()),
        follows(running(), Failure::VendorDown(text()), &soon),
        follows(cancelled, Failure::VendorDown(text()), &around()),
        follows(running(), Failure::RateLimited(Some(4_000)), &around()),
        follows(running(), Failure::Bug(text()), &around()),
        follows(second, Failure::Bug(text()), &around()),
        follows(running(), Failure::Bug(text()), &twice),
        follows(running(), Failure::VendorChanged(text()), &twice),
        follows(running(), Failure::BadCredentials(text()), &twice),
        follows(running(), Failure::TooManyAttempts(text()), &around()),
        follows(running(), Failure::StorageFull(text()), &around()),
        follows(running(), Failure::LimitReached(text()), &around()),
    ].join("\n"), @"
    VENDOR_DOWN, again in 300s, go on
    VENDOR_DOWN, again in 600s, go on
    VENDOR_DOWN, go on
    VENDOR_DOWN, go on
    VENDOR_DOWN.RATE_LIMITED, again in 4000s, go on
    UNKNOWN_ERROR, again in 3600s, go on
    UNKNOWN_ERROR, go on
    UNKNOWN_ERROR, pause: UNKNOWN_ERROR.NEEDS_AUTHOR
    UNKNOWN_ERROR.VENDOR_CHANGED, pause: UNKNOWN_ERROR.NEEDS_AUTHOR
    LOGIN_FAILED, pause: LOGIN_FAILED
    LOGIN_FAILED.TOO_MANY_ATTEMPTS, pause: LOGIN_FAILED.TOO_MANY_ATTEMPTS
    DISK_QUOTA_EXCEEDED, again in 900s, go on
    UNKNOWN_ERROR.PARTIAL_SYNC, go on
    ");
}

#[test]
fn what_cannot_happen_is_told() {
    let over = Standing { phase: Phase::Ended, ..running() };
    insta::assert_snapshot!(step(over, &Event::CancelAsked, &around()).unwrap_err(), @"a cancellation cannot happen to a job that has ended");
    insta::assert_snapshot!(step(running(), &Event::Claimed, &around()).unwrap_err(), @"a claim cannot happen to a job that runs");
}
