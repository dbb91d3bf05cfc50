//! Runs that wait in a slow HTTP call, and the memory of each.

use std::io::{BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use konnector_egress::{Gate, GateOptions};
use konnector_sandbox::{GuestTask, Outcome, Report, Sandbox, SandboxOptions};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::{resident_memory, wat_components};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The argument that turns this program into the vendor.
pub const VENDOR: &str = "slow-vendor";

/// Accepts requests and responds to none before it reads a line; prints the number of requests whenever it changes.
/// It is a separate process, so that its memory is not counted.
pub async fn vendor() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let (release, waiting) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let released = Arc::clone(&release);
    let count = Arc::clone(&waiting);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match line.as_str() {
                "count" => println!("{}", count.load(Ordering::SeqCst)),
                _ => released.notify_waiters(),
            }
        }
        std::process::exit(0);
    });
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (release, waiting) = (Arc::clone(&release), Arc::clone(&waiting));
        tokio::spawn(async move {
            let mut request = [0; 1_024];
            if stream.read(&mut request).await.unwrap_or_default() == 0 {
                return;
            }
            let released = release.notified();
            waiting.fetch_add(1, Ordering::SeqCst);
            released.await;
            waiting.fetch_sub(1, Ordering::SeqCst);
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await);
        });
    }
}

/// The vendor's process.
struct SlowVendor {
    child: Child,
    commands: ChildStdin,
    responses: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl SlowVendor {
    fn start() -> Self {
        let this = std::env::current_exe().expect("this program");
        let mut child =
            Command::new(this).arg(VENDOR).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
        let commands = child.stdin.take().expect("piped");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let port = read(&mut output) as u16;
        Self { child, commands, responses: output, port }
    }

    fn waiting(&mut self) -> usize {
        writeln!(self.commands, "count").expect("written");
        read(&mut self.responses)
    }

    fn answer_all(&mut self) {
        writeln!(self.commands, "answer").expect("written");
    }
}

impl Drop for SlowVendor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read(output: &mut impl std::io::BufRead) -> usize {
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    line.trim().parse().expect("a number")
}

/// Parks this many runs at once, lets them all end, and prints their memory.
pub fn measure() {
    println!(
        "\nRuns parked in a slow HTTP call (the whole process, linear memory of the guests included: 12 KiB of each are touched)"
    );
    println!("  {:>8} {:>14} {:>14} {:>16}", "runs", "resident", "per run", "all finished in");
    for runs in [1_usize, 100, 1_000, 10_000] {
        // A process for each row, so that one row does not profit from memory that another one has touched already.
        let this = std::env::current_exe().expect("this program");
        let status = Command::new(this).args([ROW_ARGUMENT, &runs.to_string()]).status().expect("a process");
        assert!(status.success(), "{runs} parked runs: {status}");
    }
}

/// A minimal konnector, one page of memory, that sends one request and waits for its response.
fn waiting(url: &str) -> Vec<u8> {
    let length = url.len();
    let items = format!(
        r#"(import "konnector:host/http@0.1.0" "send"
             (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
           (data (i32.const 2048) "GET{url}")"#
    );
    // Method, URL, no headers, no body, the default body encoding, no redirects, two minutes; the response is written
    // to 4096.
    let body = format!(
        "(call $send (i32.const 2048) (i32.const 3) (i32.const 2051) (i32.const {length}) (i32.const 0) (i32.const 0)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 120000)
           (i32.const 4096))"
    );
    wat_components::konnector_component("import konnector:host/http@0.1.0;", &items, &body)
}

/// The argument that makes this program measure one row.
pub const ROW_ARGUMENT: &str = "parked-row";

/// One row.
pub fn row(runs: usize) {
    let mut vendor = SlowVendor::start();
    let max_runs = u32::try_from(runs).expect("a number of runs");
    let options =
        SandboxOptions { max_runs, memory_ceiling: 256 << 20, total_memory: 64 << 30, ..SandboxOptions::default() };
    let sandbox = Arc::new(Sandbox::new(options).expect("a sandbox"));
    let runtime = crate::runtime();
    let cache = tempfile::tempdir().expect("a folder");
    let url = format!("http://127.0.0.1:{}", vendor.port);
    let program = runtime.block_on(sandbox.prepare(&waiting(&url), cache.path())).expect("prepared");
    let gate = Gate::new(GateOptions {
        allowed_private: vec!["127.0.0.1".parse().expect("an address")],
        max_exchanges: runs,
        ..GateOptions::default()
    })
    .expect("a gate");
    let environment = Arc::new(FakeEnvironment { hosts: vec![url.clone()], ..FakeEnvironment::default() });
    let start = || {
        let (sandbox, program) = (Arc::clone(&sandbox), program.clone());
        let capabilities = environment.capabilities_through(&gate);
        let owned_sandbox = Arc::clone(&sandbox);
        sandbox.spawn(async move {
            owned_sandbox.run(&program, job(json!({})), capabilities, CancellationToken::new()).await
        })
    };
    let wait_for = |vendor: &mut SlowVendor, count: usize| {
        while vendor.waiting() != count {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let finish = |parked: Vec<GuestTask<konnector_sandbox::RunOutput>>| {
        for run in parked {
            let output = runtime.block_on(run).expect("the sandbox is there");
            assert_eq!(output.outcome, Outcome::Completed(Report::default()));
        }
    };
    // One run first, so that one-time allocations are not counted.
    let first = vec![start()];
    wait_for(&mut vendor, 1);
    vendor.answer_all();
    finish(first);
    wait_for(&mut vendor, 0);

    let before = resident_memory();
    let parked: Vec<_> = (0..runs).map(|_| start()).collect();
    wait_for(&mut vendor, runs);
    let resident = resident_memory();
    let started = std::time::Instant::now();
    vendor.answer_all();
    finish(parked);
    println!(
        "  {runs:>8} {:>10.1} MiB {:>10.1} KiB {:>14.2} s",
        resident as f64 / f64::from(1 << 20),
        (resident - before) as f64 / 1_024.0 / runs as f64,
        started.elapsed().as_secs_f64(),
    );
}
