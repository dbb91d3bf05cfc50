//! A run that mostly waits, next to runs that compute endlessly; and their shares.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use konnector_sandbox::{GuestTask, Limits, Outcome, Program, RunOutput, Sandbox, SandboxOptions};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::guest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Waits of one neighbour.
const ROUNDS: usize = 20;
/// How long each takes.
const SLEEP: Duration = Duration::from_millis(10);
/// Neighbours measured in each row.
const NEIGHBOURS: usize = 5;

struct NeighbourBench {
    sandbox: Arc<Sandbox>,
    environment: FakeEnvironment,
    spin: Program,
    sleep_loop: Program,
    _cache: TempDir,
}

impl NeighbourBench {
    async fn new(host: &str) -> Self {
        let sandbox = Arc::new(Sandbox::new(SandboxOptions::default()).expect("a sandbox"));
        let cache = tempfile::tempdir().expect("a folder");
        let prepare = async |name| sandbox.prepare(&guest(name), cache.path()).await.expect("prepared");
        let (spin, naps) = (prepare("spin").await, prepare("naps").await);
        let mut environment = FakeEnvironment::with_limits(|limits: &mut Limits| {
            (limits.grace_period, limits.cpu, limits.wall) = (Duration::ZERO, Duration::MAX, Duration::from_secs(600));
        });
        environment.hosts = vec![host.to_owned()];
        Self { spin, sleep_loop: naps, environment, sandbox, _cache: cache }
    }

    fn start(&self, program: &Program, parameters: Value, stop: &CancellationToken) -> GuestTask<RunOutput> {
        let (sandbox, program, stop) = (Arc::clone(&self.sandbox), program.clone(), stop.clone());
        let capabilities = self.environment.capabilities();
        self.sandbox.spawn(async move { sandbox.run(&program, job(parameters), capabilities, stop).await })
    }

    /// The median time of a neighbour next to `busy` busy runs, and the milliseconds that each of those used
    /// meanwhile.
    async fn time_neighbour(&self, busy: usize, parameters: &Value) -> (Duration, Vec<u64>) {
        let stop = CancellationToken::new();
        let busy: Vec<_> = (0..busy).map(|_| self.start(&self.spin, json!({}), &stop)).collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut times = Vec::new();
        for _ in 0..NEIGHBOURS {
            let started = Instant::now();
            let output =
                self.start(&self.sleep_loop, parameters.clone(), &CancellationToken::new()).await.expect("a sandbox");
            assert!(matches!(output.outcome, Outcome::Completed(_)), "{:?}", output.outcome);
            times.push(started.elapsed());
        }
        stop.cancel();
        let mut used = Vec::new();
        for run in busy {
            used.push(run.await.expect("a sandbox").receipt.cpu_ms);
        }
        times.sort();
        (times[times.len() / 2], used)
    }
}

/// Responds to each request after a pause; returns its address.
fn vendor() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut request = [0; 1_024];
                while stream.read(&mut request).is_ok_and(|length| length > 0) {
                    std::thread::sleep(SLEEP);
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
                }
            });
        }
    });
    format!("http://{address}")
}

/// Next to 0, 2, 3 and as many busy runs as a server has workers, and many more.
pub fn measure() {
    let url = vendor();
    let sleeps = json!({ "rounds": ROUNDS, "ms": SLEEP.as_millis() as u64 });
    let requests = json!({ "rounds": ROUNDS, "url": url });
    let workers = konnector_platform::Config::new(std::env::temp_dir()).workers as usize;
    crate::runtime().block_on(async {
        let site = NeighbourBench::new(&url).await;
        for (name, parameters) in [("20 naps of 10 ms", &sleeps), ("20 requests of 10 ms each", &requests)] {
            println!("\nA neighbour with {name}, beside runs that compute without end");
            println!("  {:>6} {:>12} {:>8} {:>24}", "busy", "median", "ratio", "least share of the most");
            let (alone, _) = site.time_neighbour(0, parameters).await;
            for busy in [0, 2, 3, workers, 20] {
                let (time, used) = site.time_neighbour(busy, parameters).await;
                let share = used.iter().min().zip(used.iter().max());
                let share = share.map_or(String::new(), |(least, most)| format!("{:.2}", *least as f64 / *most as f64));
                let verdict = if time <= alone.mul_f64(1.5) + Duration::from_millis(20) { "" } else { "  TOO SLOW" };
                println!(
                    "  {busy:>6} {:>12} {:>8} {share:>24}{verdict}",
                    format!("{:.1} ms", time.as_secs_f64() * 1e3),
                    format!("{:.2}×", time.as_secs_f64() / alone.as_secs_f64()),
                );
            }
        }
    });
}
