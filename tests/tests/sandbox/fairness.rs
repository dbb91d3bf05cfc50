//! Runs that compute endlessly get their share and no more. Measured in CPU time, which other work of the
//! machine does not change.

use std::sync::Arc;
use std::time::Duration;

use konnector_sandbox::{GuestTask, Limits, Outcome, Program, RunOutput, Sandbox, SandboxOptions};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::guest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::cache;

/// Threads for guests in these tests.
const THREADS: usize = 2;

struct FairnessFixture {
    sandbox: Arc<Sandbox>,
    spin: Program,
    naps: Program,
    stop: CancellationToken,
    environment: FakeEnvironment,
}

impl FairnessFixture {
    async fn new() -> Self {
        let options = SandboxOptions { max_runs: 64, worker_threads: THREADS, ..SandboxOptions::default() };
        let sandbox = Arc::new(Sandbox::new(options).expect("a sandbox"));
        let prepare = async |name: &str| sandbox.prepare(&guest(name), cache()).await.expect("prepared");
        let (spin, naps) = (prepare("spin").await, prepare("naps").await);
        let endless = |limits: &mut Limits| {
            (limits.grace_period, limits.cpu, limits.wall) = (Duration::ZERO, Duration::MAX, Duration::from_secs(600));
        };
        Self { spin, naps, stop: CancellationToken::new(), environment: FakeEnvironment::with_limits(endless), sandbox }
    }

    fn start(&self, program: &Program, parameters: Value) -> GuestTask<RunOutput> {
        let (sandbox, program, stop) = (Arc::clone(&self.sandbox), program.clone(), self.stop.clone());
        let capabilities = self.environment.capabilities();
        self.sandbox.spawn(async move { sandbox.run(&program, job(parameters), capabilities, stop).await })
    }

    fn start_busy(&self, number: usize) -> Vec<GuestTask<RunOutput>> {
        (0..number).map(|_| self.start(&self.spin, json!({}))).collect()
    }

    /// Stops the busy runs; returns the milliseconds that each has used.
    async fn used(&self, busy: Vec<GuestTask<RunOutput>>) -> Vec<u64> {
        self.stop.cancel();
        let mut used = Vec::new();
        for run in busy {
            used.push(run.await.expect("the sandbox is there").receipt.cpu_ms);
        }
        used
    }
}

#[tokio::test]
async fn busy_runs_have_even_shares() {
    for number in [3, 7] {
        let site = FairnessFixture::new().await;
        let busy = site.start_busy(number);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let used = site.used(busy).await;
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        assert!(*least * 10 >= *most * 8, "{number} busy runs have used {used:?} ms");
    }
}

/// The CPU time of busy runs while another run makes twenty short waits.
async fn busy_cpu_during(number: usize, parameters: Value, change: impl FnOnce(&mut FakeEnvironment)) -> u64 {
    let mut site = FairnessFixture::new().await;
    change(&mut site.environment);
    let busy = site.start_busy(number);
    // So that they already compute when the other run starts.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let output = site.start(&site.naps, parameters).await.expect("the sandbox is there");
    assert!(matches!(output.outcome, Outcome::Completed(_)), "{:?}", output.outcome);
    site.used(busy).await.iter().sum()
}

/// Two threads for the 200 ms of the naps, and as much again; it was 40,000.
const MAX_BUSY_CPU_MS: u64 = 1_000;

#[tokio::test]
async fn a_sleeping_run_is_served_next_to_busy_ones() {
    for number in [THREADS, THREADS + 1, 12] {
        let used = busy_cpu_during(number, json!({ "rounds": 20, "ms": 10 }), |_| {}).await;
        assert!(used < MAX_BUSY_CPU_MS, "{number} busy runs used {used} ms while a run took twenty naps of 10 ms");
    }
}

#[tokio::test]
async fn a_run_that_sends_requests_is_served_next_to_busy_ones() {
    let vendor = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", vendor.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = vendor.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1_024];
                while stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await);
                }
            });
        }
    });
    for number in [THREADS, THREADS + 1, 12] {
        let hosts = vec![url.clone()];
        let parameters = json!({ "rounds": 20, "url": url });
        let used = busy_cpu_during(number, parameters, |environment| environment.hosts = hosts).await;
        assert!(used < MAX_BUSY_CPU_MS, "{number} busy runs used {used} ms while a run sent twenty requests");
    }
}
