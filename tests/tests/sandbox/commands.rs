//! Command components: their environment, their output, and how they end.

use std::time::Duration;

use konnector_sandbox::{AbortReason, ComponentKind, Failure, Outcome, Report, RunOutput, Sandbox};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::guest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{SANDBOX, prepare, run};

fn line(kind: &str, message: &str) -> Value {
    Value::String(json!({ "type": kind, "message": message }).to_string())
}

async fn run_output_guest(parameters: Value, environment: &FakeEnvironment) -> RunOutput {
    run(&guest("speaks"), parameters, environment).await
}

fn konnector_error(run_output: &RunOutput) -> (&str, bool) {
    match &run_output.outcome {
        Outcome::Failed(Failure::Custom { error, no_retry }) => (error, *no_retry),
        other => panic!("expected the konnector's own words, got {other:?}"),
    }
}

fn completed() -> Outcome {
    Outcome::Completed(Report::default())
}

#[test]
fn a_command_is_known_by_what_it_exports() {
    let info = Sandbox::inspect(&guest("speaks")).unwrap();
    assert_eq!((info.kind, info.reads_secrets), (ComponentKind::Command, false));
}

#[tokio::test]
async fn the_environment_is_the_table_and_nothing_else() {
    let environment = FakeEnvironment::default();
    let run_output = run(&guest("environment"), json!({ "url": "https://a.example" }), &environment).await;
    assert_eq!(run_output.outcome, completed());
    insta::assert_snapshot!(environment.log(), @r#"
    Info: arguments: ["konnector"]
    Info: COZY_FIELDS={"konnector":"tests"}
    Info: COZY_JOB_ID=konnector/0/job-1
    Info: COZY_JOB_MANUAL_EXECUTION=true
    Info: COZY_LANGUAGE=rust
    Info: COZY_LOCALE=fr
    Info: COZY_PARAMETERS={"url":"https://a.example"}
    Info: COZY_PAYLOAD=
    Info: COZY_TIME_LIMIT=305
    Info: standard input: Ok(0)
    "#);
}

#[tokio::test]
async fn a_large_payload_is_a_file_in_the_working_directory() {
    let program = prepare(&guest("environment")).await;
    let mut job = job(json!({}));
    let payload = json!({ "large": "x".repeat(100_000) });
    let length = payload.to_string().len();
    job.payload = Some(payload);
    let environment = FakeEnvironment::default();
    let run_output = SANDBOX.run(&program, job.clone(), environment.capabilities(), CancellationToken::new()).await;
    assert_eq!(run_output.outcome, completed());
    assert!(
        environment.log().contains(&format!("Info: cozy_payload.json: Ok({length}), in /tmp: Ok({length})")),
        "{}",
        environment.log()
    );

    let environment = FakeEnvironment::with_limits(|limits| limits.scratch_bytes = 1_000);
    let run_output = SANDBOX.run(&program, job, environment.capabilities(), CancellationToken::new()).await;
    insta::assert_snapshot!(super::sentence(&run_output), @"the component could not be started: its payload does not fit into /tmp");
}

#[tokio::test]
async fn x10_the_last_critical_line_counts_then_the_last_error_then_the_end() {
    let environment = FakeEnvironment::default();
    let run_output = run_output_guest(json!({}), &environment).await;
    assert_eq!(run_output.outcome, completed());
    // An error message fails a run that would otherwise succeed.
    let run_output = run_output_guest(
        json!({ "output": [line("error", "W"), line("error", "X"), line("info", "Z")] }),
        &environment,
    )
    .await;
    assert_eq!(konnector_error(&run_output), ("X", false));
    let run_output = run_output_guest(
        json!({ "output": [line("critical", "V"), line("critical", "Y"), line("error", "X")] }),
        &environment,
    )
    .await;
    assert_eq!(konnector_error(&run_output), ("Y", false));
    let no_retry = r#"{"type":"critical","message":"LOGIN_FAILED","no_retry":true}"#;
    let run_output = run_output_guest(json!({ "output": [no_retry], "end": "fail" }), &environment).await;
    assert_eq!(konnector_error(&run_output), ("LOGIN_FAILED", true));
}

#[tokio::test]
async fn x10_every_outcome_has_its_message() {
    let ends = async |end: &str| run_output_guest(json!({ "end": end }), &FakeEnvironment::default()).await.outcome;
    assert_eq!(ends("exit 0").await, completed());
    let status = Failure::Custom { error: "exit status 1".to_owned(), no_retry: false };
    assert_eq!(ends("fail").await, Outcome::Failed(status.clone()));
    // WASI 0.2 distinguishes only success and failure.
    assert_eq!(ends("exit 3").await, Outcome::Failed(status));
    let Outcome::Aborted(panic) = ends("panic").await else { panic!("a panic ends the run") };
    assert!(panic.to_string().starts_with("the konnector panicked: nothing to see (at "), "{panic}");
    let Outcome::Aborted(trap) = ends("trap").await else { panic!("a trap ends the run") };
    insta::assert_snapshot!(trap, @"the konnector aborted; standard error in its log may say why");
}

#[tokio::test]
async fn x10_a_critical_line_hides_a_trap_and_a_later_timeout() {
    let environment = FakeEnvironment::with_limits(|limits| limits.wall = Duration::from_millis(300));
    let run_output = run_output_guest(json!({ "end": "sleep" }), &environment).await;
    assert_eq!(run_output.outcome, Outcome::Aborted(AbortReason::Deadline(Duration::from_millis(300))));
    let run_output =
        run_output_guest(json!({ "output": [line("critical", "VENDOR_DOWN")], "end": "sleep" }), &environment).await;
    assert_eq!(konnector_error(&run_output), ("VENDOR_DOWN", false));
    let run_output = run_output_guest(json!({ "output": [line("error", "X")], "end": "panic" }), &environment).await;
    assert_eq!(konnector_error(&run_output), ("X", false));
}

#[tokio::test]
async fn a_cancelled_run_is_reported_as_cancelled() {
    let environment = FakeEnvironment::with_limits(|limits| limits.grace_period = Duration::from_millis(100));
    let (program, cancel) = (prepare(&guest("speaks")).await, CancellationToken::new());
    let job = job(json!({ "output": [line("critical", "X")], "end": "sleep" }));
    let running = SANDBOX.run(&program, job, environment.capabilities(), cancel.clone());
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    };
    let (run_output, ()) = tokio::join!(running, cancelling);
    assert_eq!(run_output.outcome, Outcome::Aborted(AbortReason::Cancelled));
}

#[tokio::test]
async fn x4_messages_are_published_and_other_lines_are_not() {
    let environment = FakeEnvironment::default();
    let output = json!([
        line("toto", "one"),
        "not JSON",
        line("manifest", "two hunter22"),
        "[\"critical\"]",
        "{\"type\":\"info\",\"message\":\"a\\u001b[2Jb\"}",
    ]);
    let run_output = run_output_guest(
        json!({ "output": output, "error": [r#"{"type":"critical","message":"FORGED"}"#] }),
        &environment,
    )
    .await;
    assert_eq!(run_output.outcome, completed());
    assert_eq!(*environment.progress.events.lock().unwrap(), ["toto: one", "manifest: two [masked]", "info: ab"]);
    insta::assert_snapshot!(environment.log(), @r#"
    Debug: one
    Debug: not JSON
    Debug: two [masked]
    Debug: ["critical"]
    Info: ab
    Error: {"type":"critical","message":"FORGED"}
    "#);
}

#[tokio::test]
async fn a_flood_is_held_to_the_budget_and_its_end_still_counts() {
    let environment = FakeEnvironment::with_limits(|limits| limits.log_lines = 100);
    let flood = json!({ "text": "{\"type\":\"info\",\"message\":\"a\"}\n", "times": 50_000 });
    let run_output = run_output_guest(json!({ "output": [flood, line("critical", "X")] }), &environment).await;
    assert_eq!(konnector_error(&run_output), ("X", false));
    assert_eq!((run_output.receipt.log_lines, run_output.receipt.log_lines_dropped), (100, 49_901));
    assert_eq!(environment.progress.events.lock().unwrap().len(), 100);
}

#[tokio::test]
async fn x11_a_line_that_is_too_long_ends_the_reading_but_not_the_run() {
    let environment = FakeEnvironment::default();
    let long = json!({ "text": "x".repeat(1_000), "times": 70 });
    let output = json!([line("error", "before"), long, "", line("critical", "after")]);
    let run_output = run_output_guest(json!({ "output": output, "end": "fail" }), &environment).await;
    assert_eq!(konnector_error(&run_output), ("before", false));
    insta::assert_snapshot!(environment.log(), @r"
    Error: before
    Warn: a line of standard output is longer than 64 KiB; the rest of standard output is ignored
    ");
}

#[tokio::test]
async fn x11_a_message_is_cut_to_4000_bytes() {
    let run_output =
        run_output_guest(json!({ "output": [line("error", &"é".repeat(5_000))] }), &FakeEnvironment::default()).await;
    assert_eq!(konnector_error(&run_output).0, "é".repeat(2_000));
}
