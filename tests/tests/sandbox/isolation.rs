//! Runs do not affect each other: every hostile guest is ended in time, the process keeps its size, and other runs
//! next to it are not delayed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use konnector_sandbox::{AbortReason, Limits, Outcome, Sandbox, SandboxOptions};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::{guest, resident_memory, wat_components};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::cache;

/// The time limit of each.
const WALL_LIMIT: Duration = Duration::from_millis(500);
/// Maximum delay between a run's deadline and its end.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// A guest, its parameters, and its limits.
type Case = (&'static str, Vec<u8>, Value, fn(&mut Limits));

fn hostile() -> Vec<Case> {
    let in_rust = |name: &'static str, parameters: Value| (name, guest(name), parameters, no_change as fn(&mut Limits));
    vec![
        in_rust("spin", json!({})),
        in_rust("sleep", json!({})),
        in_rust("blocked", json!({ "stubborn": true })),
        in_rust("recursion", json!({})),
        in_rust("panics", json!({})),
        in_rust("exits", json!({ "code": 3 })),
        in_rust("log_flood", json!({ "lines": 1_000_000 })),
        in_rust("output_flood", json!({ "lines": 1_000_000 })),
        in_rust("documents_flood", json!({ "batch": 300 })),
        in_rust("uploads", json!({ "uploads": 1_000_000 })),
        in_rust("too_much", json!({ "bytes": 17 << 20 })),
        ("memory_hog", guest("memory_hog"), json!({}), |limits| limits.memory = 16 << 20),
        (
            "spin before the start",
            wat_components::konnector_component("", "(func $spin (loop $more (br $more))) (start $spin)", ""),
            json!({}),
            no_change,
        ),
        (
            "table.grow",
            wat_components::konnector_component(
                "",
                "(table $hoard 1 funcref)",
                "(loop $more (drop (table.grow $hoard (ref.null func) (i32.const 1))) (br $more))",
            ),
            json!({}),
            no_change,
        ),
        (
            "memory.grow",
            wat_components::konnector_component("", "", "(loop $more (drop (memory.grow (i32.const 1))) (br $more))"),
            json!({}),
            |limits| limits.memory = 16 << 20,
        ),
    ]
}

fn no_change(_: &mut Limits) {}

fn sandbox() -> Sandbox {
    Sandbox::new(SandboxOptions { max_runs: 32, worker_threads: 2, ..SandboxOptions::default() }).expect("a sandbox")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_guests_end_in_time_and_leave_nothing_behind() {
    let sandbox = Arc::new(sandbox());
    let mut programs = Vec::new();
    for (name, component, parameters, limits) in hostile() {
        programs.push((name, sandbox.prepare(&component, cache()).await.unwrap(), parameters, limits));
    }
    let mut before = 0;
    // The first round warms up: pools, caches and the allocator retain their memory.
    for round in 0..2 {
        for (name, program, parameters, limits) in &programs {
            let environment = FakeEnvironment::with_limits(|changed| {
                changed.wall = WALL_LIMIT;
                changed.grace_period = Duration::from_millis(100);
                limits(changed);
            });
            let started = Instant::now();
            let (owned_sandbox, program, parameters) = (Arc::clone(&sandbox), program.clone(), job(parameters.clone()));
            let capabilities = environment.capabilities();
            let output =
                sandbox
                    .spawn(async move {
                        owned_sandbox.run(&program, parameters, capabilities, CancellationToken::new()).await
                    })
                    .await
                    .unwrap();
            let elapsed = started.elapsed();
            assert!(elapsed < WALL_LIMIT + MAX_DELAY, "{name} took {elapsed:?}");
            if matches!(output.outcome, Outcome::Aborted(AbortReason::Deadline(_))) {
                assert!(elapsed >= WALL_LIMIT, "{name} ended before its deadline: {elapsed:?}");
            }
        }
        if round == 0 {
            before = resident_memory();
            assert!(before > 0, "the system does not report the resident memory");
        }
    }
    let grown = resident_memory().saturating_sub(before);
    assert!(grown < 32 << 20, "the process grew by {} KiB", grown >> 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_well_behaved_run_next_to_busy_ones_is_not_delayed() {
    let sandbox = Arc::new(sandbox());
    let spin = sandbox.prepare(&guest("spin"), cache()).await.unwrap();
    let quiet = sandbox.prepare(&guest("noop"), cache()).await.unwrap();
    let run = |program: &konnector_sandbox::Program, cancel: &CancellationToken| {
        let (sandbox, program, cancel) = (Arc::clone(&sandbox), program.clone(), cancel.clone());
        let capabilities = FakeEnvironment::with_limits(|limits| limits.grace_period = Duration::ZERO).capabilities();
        let owned_sandbox = Arc::clone(&sandbox);
        sandbox.spawn(async move { owned_sandbox.run(&program, job(json!({})), capabilities, cancel).await })
    };
    // The median, because the rest of the test suite also competes for the processors.
    let time = async || {
        let mut times = Vec::new();
        for _ in 0..41 {
            let started = Instant::now();
            let output = run(&quiet, &CancellationToken::new()).await.unwrap();
            times.push(started.elapsed());
            assert!(matches!(output.outcome, Outcome::Completed(_)), "{:?}", output.outcome);
        }
        times.sort();
        times[times.len() / 2]
    };
    let idle_median = time().await;
    let stop = CancellationToken::new();
    // As many as there are threads for guests, so that each thread is always busy.
    let busy = [run(&spin, &stop), run(&spin, &stop)];
    tokio::time::sleep(Duration::from_millis(50)).await;
    let busy_median = time().await;
    stop.cancel();
    for run in busy {
        run.await.unwrap();
    }
    assert!(
        busy_median <= idle_median + Duration::from_millis(20),
        "alone {idle_median:?}, beside two busy runs {busy_median:?}"
    );
}
