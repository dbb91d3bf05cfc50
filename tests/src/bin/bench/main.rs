//! `cargo xtask bench`: our server and its peers, side by side in one run.
//!
//! Everything runs on this machine, in release; the store is on disk, so every figure from a push on includes its
//! fsyncs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

mod api;
mod fairness;
mod files;
mod platform;
mod schedule;
mod waiting_runs;
mod wasmtime_baseline;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use konnector_sandbox::{Sandbox, SandboxOptions};
use konnector_tests::server::TestServer;
use tokio::runtime::Runtime;

/// Repetitions of a run that does nothing.
const ROUNDS: usize = 5_000;

/// A row: the measured operation and its samples.
struct Row {
    name: &'static str,
    times: Vec<Duration>,
}

impl Row {
    fn new(name: &'static str, mut times: Vec<Duration>) -> Self {
        times.sort();
        Self { name, times }
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.times[(self.times.len() * percent / 100).min(self.times.len() - 1)]
    }
}

fn print(title: &str, baseline: Option<usize>, rows: &[Row]) {
    println!("\n{title}");
    println!("  {:44} {:>8} {:>12} {:>12} {:>10}", "", "runs", "p50", "p99", "ratio");
    let unit = rows[baseline.unwrap_or(0)].percentile(50).as_secs_f64();
    for row in rows {
        let ratio = baseline.map_or(String::new(), |_| format!("{:.2}×", row.percentile(50).as_secs_f64() / unit));
        println!(
            "  {:44} {:>8} {:>12} {:>12} {ratio:>10}",
            row.name,
            row.times.len(),
            format!("{:.3} ms", row.percentile(50).as_secs_f64() * 1e3),
            format!("{:.3} ms", row.percentile(99).as_secs_f64() * 1e3),
        );
    }
}

/// The times of some repetitions.
fn repeat(times: usize, mut work: impl FnMut()) -> Vec<Duration> {
    (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect()
}

/// A process of Node.js that does nothing: the previous cost of a konnector.
fn node() -> Option<Row> {
    let run = || Command::new("node").args(["-e", "0"]).stdin(Stdio::null()).status();
    run().ok()?;
    Some(Row::new("node -e 0", repeat(30, || drop(run()))))
}

fn server() {
    let mut starts = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..5 {
        let data = tempfile::tempdir().expect("a folder");
        let start = Instant::now();
        let server = TestServer::start(data.path());
        starts.push(start.elapsed());
        std::thread::sleep(Duration::from_secs(2));
        resident.push(server.resident_kib());
    }
    print("The server on an empty data folder", None, &[Row::new("start until both APIs answer", starts)]);
    resident.sort_unstable();
    println!("  resident memory, idle: {:.1} MiB", resident[2] as f64 / 1024.0);
}

fn sandbox() {
    let sandbox = Arc::new(Sandbox::new(SandboxOptions::default()).expect("a sandbox"));
    let (bare, bare_instances) = wasmtime_baseline::rows(sandbox.engine());
    let (konnector_row, konnector_instances) = platform::sandbox(sandbox);
    print("One run that does nothing, same component, same engine", Some(0), &[bare, konnector_row]);
    print("Of that, until the instance is there", Some(0), &[bare_instances, konnector_instances]);
}

fn jobs() {
    let mut rows = runtime().block_on(platform::jobs());
    rows.extend(node());
    print("From the push of a job, through a store on disk (every commit waits for its fsync)", None, &rows);
}

fn durable() {
    let (row, jobs, whole) = runtime().block_on(platform::durable());
    print("64 clients push no-op jobs, 64 workers run them, on disk", None, &[row]);
    println!("  {jobs} jobs pushed, run and stored in {whole:.2?}: {:.0} a second", jobs as f64 / whole.as_secs_f64());
}

fn bank101() {
    let rows = runtime().block_on(platform::bank101());
    print("The whole bank101 run: login, 4 pages, 20 bills with their PDFs", None, &rows);
}

fn files() {
    print("A file of 10 MiB", Some(0), &runtime().block_on(files::rows()));
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// The benchmarks, by the name that selects them.
const SECTIONS: [(&str, fn()); 10] = [
    ("server", server),
    ("sandbox", sandbox),
    ("parked", waiting_runs::measure),
    ("fairness", fairness::measure),
    ("files", files),
    ("jobs", jobs),
    ("durable", durable),
    ("bank101", bank101),
    ("schedule", schedule::measure),
    ("api", api::measure),
];

fn main() {
    let selected: Vec<String> = std::env::args().skip(1).collect();
    match selected.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [api::BARE, body] => return runtime().block_on(api::bare(body)),
        [waiting_runs::VENDOR] => return runtime().block_on(waiting_runs::vendor()),
        [schedule::FILL_ARGUMENT, folder, size] => {
            return runtime().block_on(schedule::fill(folder.as_ref(), size.parse().expect("a number")));
        }
        [schedule::ROW_ARGUMENT, folder, size] => {
            return schedule::row(folder.as_ref(), size.parse().expect("a number"));
        }
        [waiting_runs::ROW_ARGUMENT, runs] => return waiting_runs::row(runs.parse().expect("a number of runs")),
        _ => {}
    }
    let names = SECTIONS.map(|(name, _)| name);
    if let Some(unknown) = selected.iter().find(|name| !names.contains(&name.as_str())) {
        eprintln!("there is nothing called '{unknown}' to measure; choose from: {}", names.join(", "));
        std::process::exit(2);
    }
    for (name, measure) in SECTIONS {
        if selected.is_empty() || selected.iter().any(|selected| selected == name) {
            measure();
        }
    }
}
