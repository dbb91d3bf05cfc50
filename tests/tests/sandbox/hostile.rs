//! Guests that exceed their limits.

use std::time::Duration;

use konnector_sandbox::{Outcome, Report};
use konnector_tests::fakes::FakeEnvironment;
use konnector_tests::{guest, wat_components};
use serde_json::json;

use super::{run, sentence};

#[tokio::test]
async fn memory() {
    let environment = FakeEnvironment::with_limits(|limits| limits.memory = 64 << 20);
    let output = run(&guest("memory_hog"), json!({}), &environment).await;
    insta::assert_snapshot!(sentence(&output), @"the run needs more memory than its limit of 64 MiB");
    assert!((32 << 20..=64 << 20).contains(&output.receipt.peak_memory), "{}", output.receipt.peak_memory);
}

#[tokio::test]
async fn memory_that_does_not_even_fit_at_the_start() {
    let environment = FakeEnvironment::with_limits(|limits| limits.memory = 64 << 10);
    let output = run(&guest("noop"), json!({}), &environment).await;
    insta::assert_snapshot!(sentence(&output), @"the run needs more memory than its limit of 64 KiB");
}

#[tokio::test]
async fn several_memories() {
    let items = "(memory $second 1) (memory $third 1)";
    let body = ["$second", "$third"].map(|memory| {
        format!(
            "(loop $more{memory} (br_if $more{memory} (i32.ne (memory.grow {memory} (i32.const 1)) (i32.const -1))))"
        )
    });
    let component = wat_components::konnector_component("", items, &body.join("\n"));
    let environment = FakeEnvironment::with_limits(|limits| limits.memory = 4 << 20);
    let output = run(&component, json!({}), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    assert_eq!(output.receipt.peak_memory, 4 << 20, "one limit for all memories");
}

#[tokio::test]
async fn tables() {
    let body = "(loop $more
        (br_if $more (i32.ne (table.grow $hoard (ref.null func) (i32.const 100)) (i32.const -1))))
        (if (i32.gt_u (table.size $hoard) (i32.const 5000)) (then unreachable))";
    let component = wat_components::konnector_component("", "(table $hoard 1 funcref)", body);
    let environment = FakeEnvironment::with_limits(|limits| limits.table_elements = 5_000);
    let output = run(&component, json!({}), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
}

#[tokio::test]
async fn time_before_the_start() {
    let component = wat_components::konnector_component("", "(func $spin (loop $more (br $more))) (start $spin)", "");
    let environment = FakeEnvironment::with_limits(|limits| limits.wall = Duration::from_millis(200));
    let output = run(&component, json!({}), &environment).await;
    insta::assert_snapshot!(sentence(&output), @"the run exceeded its time limit of 0.2 seconds");
}

#[tokio::test]
async fn stack() {
    let output = run(&guest("recursion"), json!({}), &FakeEnvironment::default()).await;
    insta::assert_snapshot!(sentence(&output), @"the konnector accessed memory out of bounds; the most common cause is a function that recurses too deeply");
    let dig = "(func $dig (param i32) (result i32) (i32.add (call $dig (local.get 0)) (i32.const 1)))";
    let output = run(
        &wat_components::konnector_component("", dig, "(drop (call $dig (i32.const 0)))"),
        json!({}),
        &FakeEnvironment::default(),
    )
    .await;
    insta::assert_snapshot!(sentence(&output), @"the konnector overflowed its stack of 512 KiB: a function recurses too deeply, or keeps too much data on the stack");
}

#[tokio::test]
async fn a_panic_is_reported_without_secrets() {
    let environment = FakeEnvironment::default();
    let output = run(&guest("panics"), json!({}), &environment).await;
    insta::assert_snapshot!(sentence(&output), @"the konnector panicked: cannot read the page of [masked] (at tests/guests/examples/panics.rs:8:5)");
    insta::assert_snapshot!(environment.log(), @r#"
    Error: panicked at tests/guests/examples/panics.rs:8:5:
    Error: cannot read the page of [masked]
    "#);
    assert!(output.receipt.reads_secrets);
    assert_eq!(output.receipt.secrets_read, 1);
}

#[tokio::test]
async fn process_exit() {
    let output = run(&guest("exits"), json!({ "code": 3 }), &FakeEnvironment::default()).await;
    insta::assert_snapshot!(sentence(&output), @"the konnector called `exit` instead of returning a result; return a failure that says what is wrong");
    let output = run(&guest("exits"), json!({ "code": 0 }), &FakeEnvironment::default()).await;
    insta::assert_snapshot!(sentence(&output), @"the konnector called `exit` instead of returning a result; return a failure that says what is wrong");
}

#[tokio::test]
async fn division_by_zero() {
    let output = run(
        &wat_components::konnector_component("", "", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"),
        json!({}),
        &FakeEnvironment::default(),
    )
    .await;
    insta::assert_snapshot!(sentence(&output), @"the konnector trapped: integer divide by zero");
}

#[tokio::test]
async fn log_lines() {
    let environment = FakeEnvironment::default();
    let output = run(&guest("log_flood"), json!({ "lines": 100_000 }), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    let lines = environment.progress.lines.lock().unwrap();
    insta::assert_snapshot!(lines.last().unwrap().message, @"90000 more lines were dropped; a run may log 10000 lines and 1 MiB");
    assert_eq!(lines.len(), 10_001);
    assert_eq!((output.receipt.log_lines, output.receipt.log_lines_dropped), (10_000, 90_000));
}

#[tokio::test]
async fn log_bytes() {
    let environment = FakeEnvironment::default();
    let output = run(&guest("log_flood"), json!({ "lines": 200, "length": 100_000 }), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    let lines = environment.progress.lines.lock().unwrap();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.message.len() <= 8_192));
    assert!(lines.iter().map(|line| line.message.len()).sum::<usize>() <= (1 << 20) + 8_192);
    assert_eq!(output.receipt.log_lines + output.receipt.log_lines_dropped, 200);
}

#[tokio::test]
async fn standard_output() {
    let environment = FakeEnvironment::default();
    let output = run(&guest("output_flood"), json!({ "lines": 100_000 }), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    assert_eq!(
        (output.receipt.log_lines, output.receipt.log_lines + output.receipt.log_lines_dropped),
        (10_000, 100_005)
    );
}

#[tokio::test]
async fn empty_writes() {
    let imports = "import wasi:cli/stdout@0.2.0; import wasi:io/streams@0.2.0;";
    let items = r#"
        (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
        (import "wasi:io/streams@0.2.0" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))"#;
    let body = "
        (local.set 0 (call $stdout))
        (loop $more
          (call $write (local.get 0) (i32.const 0) (i32.const 0) (i32.const 2048))
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $count) (i32.const 100000))))";
    let environment = FakeEnvironment::default();
    let output = run(&wat_components::konnector_component(imports, items, body), json!({}), &environment).await;
    assert_eq!(output.outcome, Outcome::Completed(Report::default()));
    assert_eq!(environment.log(), "");
}

#[tokio::test]
async fn handles() {
    let imports = "import wasi:clocks/monotonic-clock@0.2.0;";
    let items =
        r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $timer (param i64) (result i32)))"#;
    let body = "
        (loop $more
          (drop (call $timer (i64.const 1000000000)))
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $count) (i32.const 100000))))";
    let output =
        run(&wat_components::konnector_component(imports, items, body), json!({}), &FakeEnvironment::default()).await;
    insta::assert_snapshot!(sentence(&output), @"the konnector has more than 2048 resources (files, streams, timers, uploads) open at one time; drop those that are no longer needed");
}

#[tokio::test]
async fn one_large_call() {
    let output = run(&guest("too_much"), json!({ "bytes": 17 << 20 }), &FakeEnvironment::default()).await;
    insta::assert_snapshot!(sentence(&output), @"the konnector passed more than 16 MiB in one call; save documents in smaller batches, write files in parts of at most 1 MiB");
}

#[tokio::test]
async fn documents() {
    let environment = FakeEnvironment::with_limits(|limits| limits.documents = 1_000);
    let output = run(&guest("documents_flood"), json!({ "batch": 300 }), &environment).await;
    insta::assert_debug_snapshot!(output.outcome, @r#"
    Failed(
        LimitReached(
            "in round 3: Error::LimitReached(\"the run's limit documents of 1000 has been reached\")",
        ),
    )
    "#);
    assert_eq!(output.receipt.documents.created, 900);
    assert_eq!(environment.documents.0.lock().unwrap().len(), 900);
}
