//! The minimum cost of a run. A figure for reading, with a bound generous enough for any machine.

use std::time::{Duration, Instant};

use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::guest;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{SANDBOX, prepare};

#[tokio::test]
async fn a_run_that_does_nothing_takes_less_than_ten_milliseconds() {
    let (program, environment) = (prepare(&guest("noop")).await, FakeEnvironment::default());
    let capabilities = environment.capabilities();
    let mut times = Vec::new();
    for _ in 0..300 {
        let started = Instant::now();
        let output = SANDBOX.run(&program, job(json!({})), capabilities.clone(), CancellationToken::new()).await;
        times.push((started.elapsed(), Duration::from_micros(output.receipt.instantiate_us)));
    }
    times.sort();
    let (median, p99) = (times[150].0, times[297].0);
    let mut instantiate: Vec<_> = times.iter().map(|(_, time)| *time).collect();
    instantiate.sort();
    println!("no-op run: median {median:?}, 99th percentile {p99:?}; instantiation: median {:?}", instantiate[150]);
    assert!(median < Duration::from_millis(10), "{median:?}");
}
