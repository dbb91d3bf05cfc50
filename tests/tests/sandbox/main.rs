//! The sandbox against guests of all kinds, most of them hostile. Each result is spelled out, because people will
//! read it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod commands;
mod compiling;
mod components;
mod downloads;
mod fairness;
mod filesystem;
mod guesses;
mod hostile;
mod http;
mod internal_api;
mod isolation;
mod min_cost;
mod outcomes;
mod pool;
mod wasi_http;
mod well_behaved;

use std::path::Path;
use std::sync::LazyLock;

use konnector_sandbox::{CodeKey, Outcome, Program, RunOutput, Sandbox, SandboxOptions};
use konnector_tests::fakes::{FakeEnvironment, job};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// One engine for all tests of this process; guests have separate threads, because each test has its own runtime.
static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    // The same key in each process, so that each component is compiled once for all tests.
    let code_key = Some(CodeKey::new(&[0; 32]));
    Sandbox::new(SandboxOptions { max_runs: 32, worker_threads: 2, code_key, ..SandboxOptions::default() })
        .expect("a sandbox")
});

fn cache() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"))
}

async fn prepare(component: &[u8]) -> Program {
    SANDBOX.prepare(component, cache()).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a component in a fake environment.
async fn run(component: &[u8], parameters: Value, environment: &FakeEnvironment) -> RunOutput {
    let program = prepare(component).await;
    SANDBOX.run(&program, job(parameters), environment.capabilities(), CancellationToken::new()).await
}

/// The message for a run that the host ended.
fn sentence(ended: &RunOutput) -> String {
    match &ended.outcome {
        Outcome::Aborted(ending) => ending.to_string(),
        other => panic!("expected the host to end the run, got {other:?}"),
    }
}
