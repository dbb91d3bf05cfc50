//! Capacity of the engine's pool: each run has the resources of the largest component, so no run takes another one's.

use std::sync::Arc;
use std::time::Duration;

use konnector_sandbox::{AbortReason, Outcome, Sandbox, SandboxOptions};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::wat_components;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::cache;

/// Concurrent runs in these tests.
const RUNS: u32 = 8;

fn sandbox() -> Arc<Sandbox> {
    Arc::new(
        Sandbox::new(SandboxOptions { max_runs: RUNS, worker_threads: 2, ..SandboxOptions::default() })
            .expect("a sandbox"),
    )
}

#[tokio::test]
async fn the_largest_components_run_at_the_same_time() {
    let sandbox = sandbox();
    // 32 core instances with 4 memories and 16 tables.
    let spins = "(loop $more (br $more))";
    let program = sandbox.prepare(&wat_components::command_component(32, 4, 16, spins), cache()).await.unwrap();
    let stop = CancellationToken::new();
    let environment = FakeEnvironment::with_limits(|limits| limits.grace_period = Duration::ZERO);
    let runs: Vec<_> = (0..RUNS)
        .map(|_| {
            let (owned_sandbox, program, stop, environment) =
                (Arc::clone(&sandbox), program.clone(), stop.clone(), environment.capabilities());
            sandbox.spawn(async move { owned_sandbox.run(&program, job(json!({})), environment, stop).await })
        })
        .collect();
    // So that all of them have started.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.cancel();
    for run in runs {
        let output = run.await.unwrap();
        assert!(matches!(output.outcome, Outcome::Aborted(AbortReason::Cancelled)), "{:?}", output.outcome);
        assert_eq!(output.receipt.peak_memory, 4 << 16, "it has all its memories");
    }
}

#[tokio::test]
async fn a_component_that_needs_more_is_rejected_before_it_runs() {
    let sandbox = sandbox();
    let refusal = async |instances, memories, tables| {
        let component = wat_components::command_component(instances, memories, tables, "");
        sandbox.prepare(&component, cache()).await.unwrap_err().to_string()
    };
    insta::assert_snapshot!(refusal(33, 1, 0).await, @"the component cannot be compiled: The component transitively contains 33 core module instances, which exceeds the configured maximum of 32 in the pooling allocator");
    insta::assert_snapshot!(refusal(32, 5, 0).await, @"the component cannot be compiled: The component transitively contains 5 Wasm linear memories, which exceeds the configured maximum of 4 in the pooling allocator");
    insta::assert_snapshot!(refusal(32, 1, 17).await, @"the component cannot be compiled: The component transitively contains 17 tables, which exceeds the configured maximum of 16 in the pooling allocator");
}
