//! How runs end: by their own failure, by a limit, by cancellation.

use std::time::{Duration, Instant};

use konnector_sandbox::{AbortReason, Failure, Outcome, RunOutput, Sandbox};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::guest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{SANDBOX, prepare, run, sentence};

/// Cancels a run after a delay.
async fn cancelled(
    name: &str,
    parameters: Value,
    environment: &FakeEnvironment,
    after: Duration,
) -> (RunOutput, Duration) {
    let (program, cancel) = (prepare(&guest(name)).await, CancellationToken::new());
    let sandbox: &Sandbox = &SANDBOX;
    let run = sandbox.run(&program, job(parameters), environment.capabilities(), cancel.clone());
    let cancelling = async {
        tokio::time::sleep(after).await;
        cancel.cancel();
        Instant::now()
    };
    let (output, cancelled_at) = tokio::join!(run, cancelling);
    (output, cancelled_at.elapsed())
}

#[tokio::test]
async fn each_failure_arrives_as_itself_without_secrets() {
    let cases = [
        ("bad-credentials", Failure::BadCredentials("[masked] refused".to_owned())),
        ("too-many-attempts", Failure::TooManyAttempts("[masked] refused".to_owned())),
        ("missing-credentials", Failure::MissingCredentials("[masked] refused".to_owned())),
        ("code-missing", Failure::CodeMissing("[masked] refused".to_owned())),
        ("code-refused", Failure::CodeRejected("[masked] refused".to_owned())),
        ("challenge-unsupported", Failure::ChallengeUnsupported("[masked] refused".to_owned())),
        ("captcha-failed", Failure::CaptchaFailed("[masked] refused".to_owned())),
        ("vendor-down", Failure::VendorDown("[masked] refused".to_owned())),
        ("vendor-maintenance", Failure::VendorMaintenance("[masked] refused".to_owned())),
        ("rate-limited", Failure::RateLimited(Some(60))),
        ("vendor-changed", Failure::VendorChanged("[masked] refused".to_owned())),
        ("user-action", Failure::UserAction(konnector_sandbox::UserAction::AcceptTerms, "[masked] refused".to_owned())),
        ("denied", Failure::Denied("[masked] refused".to_owned())),
        ("storage-full", Failure::StorageFull("[masked] refused".to_owned())),
        ("limit-reached", Failure::LimitReached("[masked] refused".to_owned())),
        ("host-failed", Failure::HostFailed("[masked] refused".to_owned())),
        ("cancelled", Failure::Cancelled),
        ("bug", Failure::Bug("[masked] refused".to_owned())),
    ];
    for (name, expected) in cases {
        let output = run(
            &guest("fails"),
            json!({ "failure": name, "text": "hunter22\u{7} refused" }),
            &FakeEnvironment::default(),
        )
        .await;
        assert_eq!(output.outcome, Outcome::Failed(expected), "{name}");
    }
}

#[tokio::test]
async fn a_report_is_bounded_and_masked() {
    let text = format!("{}hunter22", "x".repeat(5_000));
    let output = run(&guest("fails"), json!({ "text": text, "problems": 1_500 }), &FakeEnvironment::default()).await;
    let Outcome::Completed(report) = output.outcome else { panic!("{:?}", output.outcome) };
    assert_eq!(report.problems.len(), 1_001);
    assert!(report.problems[0].message.len() <= 2_048);
    assert_eq!(report.problems[1_000].message, "500 more problems");
}

#[tokio::test]
async fn a_spinning_guest_is_ended_at_its_deadline() {
    let environment = FakeEnvironment::with_limits(|limits| limits.wall = Duration::from_millis(300));
    let started = Instant::now();
    let output = run(&guest("spin"), json!({}), &environment).await;
    insta::assert_snapshot!(sentence(&output), @"the run exceeded its time limit of 0.3 seconds");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_spinning_guest_is_ended_at_its_cpu_limit() {
    let environment = FakeEnvironment::with_limits(|limits| limits.cpu = Duration::from_millis(200));
    let output = run(&guest("spin"), json!({}), &environment).await;
    insta::assert_snapshot!(sentence(&output), @"the run exceeded its limit of 0.2 seconds of CPU time");
    assert!((200..400).contains(&output.receipt.cpu_ms), "{}", output.receipt.cpu_ms);
}

#[tokio::test]
async fn a_sleeping_guest_is_ended_and_not_billed() {
    let environment = FakeEnvironment::with_limits(|limits| limits.wall = Duration::from_millis(300));
    let output = run(&guest("sleep"), json!({}), &environment).await;
    insta::assert_snapshot!(sentence(&output), @"the run exceeded its time limit of 0.3 seconds");
    assert!(output.receipt.cpu_ms < 100, "{}", output.receipt.cpu_ms);
}

#[tokio::test]
async fn a_guest_inside_a_host_call_is_ended() {
    let environment = FakeEnvironment::with_limits(|limits| limits.wall = Duration::from_millis(300));
    let output = run(&guest("blocked"), json!({}), &environment).await;
    assert_eq!(output.outcome, Outcome::Aborted(AbortReason::Deadline(Duration::from_millis(300))));
}

#[tokio::test]
async fn a_cancelled_host_call_returns_at_once() {
    let environment = FakeEnvironment::default();
    let (output, elapsed) = cancelled("blocked", json!({}), &environment, Duration::from_millis(100)).await;
    insta::assert_snapshot!(sentence(&output), @"the run was cancelled");
    assert!(elapsed < Duration::from_millis(1_500), "{elapsed:?}: sooner than the grace");
}

/// Every function of `documents` and `files` that may take long.
#[tokio::test]
async fn each_cancelled_call_says_so() {
    for call in [
        "find",
        "check-save",
        "save",
        "update",
        "delete",
        "open",
        "read",
        "describe",
        "merge-metadata",
        "add-references",
        "remove-references",
        "move",
    ] {
        let environment = FakeEnvironment::default();
        environment.files.stored.lock().unwrap().insert("stuck".to_owned(), b"stuck".to_vec());
        let (output, elapsed) =
            cancelled("blocked", json!({ "call": call }), &environment, Duration::from_millis(20)).await;
        assert_eq!(output.outcome, Outcome::Aborted(AbortReason::Cancelled), "{call}");
        assert!(elapsed < Duration::from_millis(1_500), "{call}: {elapsed:?}");
    }
}

#[tokio::test]
async fn a_guest_that_does_not_heed_is_ended_after_its_grace() {
    let environment = FakeEnvironment::with_limits(|limits| limits.grace_period = Duration::from_millis(200));
    for (name, parameters) in [("blocked", json!({ "stubborn": true })), ("spin", json!({})), ("sleep", json!({}))] {
        let (output, elapsed) = cancelled(name, parameters, &environment, Duration::from_millis(50)).await;
        assert_eq!(output.outcome, Outcome::Aborted(AbortReason::Cancelled), "{name}");
        assert!((Duration::from_millis(200)..Duration::from_secs(10)).contains(&elapsed), "{name}: {elapsed:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_cancelled_before_it_begins_never_begins() {
    let environment = FakeEnvironment::default();
    let (output, _) = cancelled("noop", json!({}), &environment, Duration::ZERO).await;
    assert!(matches!(output.outcome, Outcome::Completed(_) | Outcome::Aborted(AbortReason::Cancelled)));
    let (program, cancel) = (prepare(&guest("noop")).await, CancellationToken::new());
    cancel.cancel();
    let output = SANDBOX.run(&program, job(json!({})), environment.capabilities(), cancel).await;
    assert_eq!(output.outcome, Outcome::Aborted(AbortReason::Cancelled));
    assert_eq!(output.receipt.instantiate_us, 0);
}

#[tokio::test]
async fn a_lost_lease_ends_the_run_at_once() {
    let output = run(&guest("blocked"), json!({ "doctype": "io.cozy.lost" }), &FakeEnvironment::default()).await;
    insta::assert_snapshot!(sentence(&output), @"the run was abandoned because another worker restarted the job");
}

#[tokio::test]
async fn a_panic_of_the_host_is_one_failed_run() {
    let (environment, other) = (FakeEnvironment::default(), FakeEnvironment::default());
    *other.progress.code.lock().unwrap() = Some((Duration::from_millis(300), "123456".to_owned()));
    let (asking_guest, blocked_guest) = (guest("ask_code"), guest("blocked"));
    let concurrent_run = run(&asking_guest, json!({}), &other);
    let panicking_run = run(&blocked_guest, json!({ "doctype": "io.cozy.broken" }), &environment);
    let (concurrent_output, output) = tokio::join!(concurrent_run, panicking_run);
    insta::assert_snapshot!(sentence(&output), @"the run was stopped by a server error: a host function panicked");
    assert!(matches!(concurrent_output.outcome, Outcome::Completed(_)), "{:?}", concurrent_output.outcome);
    let output = run(&guest("noop"), json!({}), &environment).await;
    assert!(matches!(output.outcome, Outcome::Completed(_)), "the next run is not touched");
}

#[tokio::test]
async fn a_run_whose_future_is_dropped_stops() {
    let environment = FakeEnvironment::default();
    let program = prepare(&guest("uploads")).await;
    let running =
        SANDBOX.run(&program, job(json!({ "uploads": 1 })), environment.capabilities(), CancellationToken::new());
    let _ = tokio::time::timeout(Duration::from_millis(1), running).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(environment.files.open.load(std::sync::atomic::Ordering::SeqCst), 0);
}
