use std::time::Duration;

use konnector_sandbox::{Failure, Outcome};
use proptest::prelude::*;

use super::*;

fn now() -> DateTime<Utc> {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn context() -> StepContext {
    let policy = RetryPolicy { base_delay: Duration::from_secs(300), max_attempts: 8 };
    StepContext { now: now(), jitter: 1.0, retry_policy: policy, next_due: None, consecutive_faults: 0 }
}

fn running() -> JobState {
    JobState { phase: Phase::Running, attempt: 1, interruptions: 0, cancelled: false }
}

fn verdict(failure: Failure) -> JobFailure {
    JobFailure::from_outcome(&Outcome::Failed(failure)).unwrap()
}

fn ended(failure: Failure) -> JobEvent {
    JobEvent::Ended(Some(verdict(failure)))
}

fn any_event() -> impl Strategy<Value = JobEvent> {
    let text = String::new;
    prop_oneof![
        Just(JobEvent::Claimed),
        Just(JobEvent::Ended(None)),
        Just(ended(Failure::VendorDown(text()))),
        Just(ended(Failure::Bug(text()))),
        Just(ended(Failure::BadCredentials(text()))),
        Just(ended(Failure::StorageFull(text()))),
        Just(JobEvent::ServerStopped),
        Just(JobEvent::LeaseLost),
        Just(JobEvent::NoSpace),
        Just(JobEvent::CancelRequested),
    ]
}

proptest! {
    /// For any sequence of events, nothing happens to a job that has ended, a job ends once, a stop never uses up an
    /// attempt, and a repeatedly interrupted job ends eventually.
    #[test]
    fn a_job_ends_once(events in prop::collection::vec(any_event(), 1..40)) {
        let mut job = JobState { phase: Phase::Queued, attempt: 1, interruptions: 0, cancelled: false };
        let mut ends = 0;
        for event in &events {
            let Ok((after, commands)) = step(job, event, &context()) else {
                let legal = match job.phase {
                    Phase::Queued => matches!(event, JobEvent::Claimed | JobEvent::CancelRequested),
                    Phase::Running => !matches!(event, JobEvent::Claimed),
                    Phase::Ended => false,
                };
                prop_assert!(!legal, "{job:?} {event:?}");
                continue;
            };
            prop_assert_ne!(job.phase, Phase::Ended);
            let finished = commands.iter().filter(|command| matches!(command, JobCommand::Finish(_))).count();
            prop_assert_eq!(finished, usize::from(after.phase == Phase::Ended));
            ends += finished;
            prop_assert_eq!(after.attempt, 1);
            let counted = after.interruptions - job.interruptions;
            prop_assert_eq!(counted, u32::from(*event == JobEvent::LeaseLost && !job.cancelled));
            prop_assert!(job.cancelled <= after.cancelled);
            if job.cancelled {
                let retried = commands.iter().any(|command| matches!(command, JobCommand::Retry { .. } | JobCommand::Requeue { .. }));
                prop_assert!(!retried, "a cancelled job was given back");
            }
            job = after;
        }
        prop_assert!(ends <= 1 && job.interruptions <= MAX_INTERRUPTIONS + 1);
    }
}

/// Summarises the result of a run's end.
fn summarize(job: JobState, failure: Failure, around: &StepContext) -> String {
    let (_, commands) = step(job, &ended(failure), around).unwrap();
    let words = commands.iter().map(|command| match command {
        JobCommand::Finish(verdict) => verdict.as_ref().map_or("done".to_owned(), |verdict| verdict.code.to_string()),
        JobCommand::Retry { run_at } => format!("again in {}s", (*run_at - around.now).num_seconds()),
        JobCommand::NotifyTrigger(Some(verdict)) if verdict.pauses_schedule => format!("pause: {}", verdict.code),
        JobCommand::NotifyTrigger(_) => "go on".to_owned(),
        other => format!("{other:?}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn what_follows_from_each_class() {
    let text = String::new;
    let twice = StepContext { consecutive_faults: 2, ..context() };
    let soon = StepContext { next_due: Some(now() + Duration::from_secs(200)), ..context() };
    let second = JobState { attempt: 2, ..running() };
    let cancelled = JobState { cancelled: true, ..running() };
    insta::assert_snapshot!([
        summarize(running(), Failure::VendorDown(text()), &context()),
        summarize(second, Failure::VendorDown(text()), &context()),
        summarize(running(), Failure::VendorDown(text()), &soon),
        summarize(cancelled, Failure::VendorDown(text()), &context()),
        summarize(running(), Failure::RateLimited(Some(4_000)), &context()),
        summarize(running(), Failure::Bug(text()), &context()),
        summarize(second, Failure::Bug(text()), &context()),
        summarize(running(), Failure::Bug(text()), &twice),
        summarize(running(), Failure::VendorChanged(text()), &twice),
        summarize(running(), Failure::BadCredentials(text()), &twice),
        summarize(running(), Failure::TooManyAttempts(text()), &context()),
        summarize(running(), Failure::StorageFull(text()), &context()),
        summarize(running(), Failure::LimitReached(text()), &context()),
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
    let over = JobState { phase: Phase::Ended, ..running() };
    insta::assert_snapshot!(step(over, &JobEvent::CancelRequested, &context()).unwrap_err(), @"a cancellation cannot happen to a job that has ended");
    insta::assert_snapshot!(step(running(), &JobEvent::Claimed, &context()).unwrap_err(), @"a claim cannot happen to a job that runs");
}
