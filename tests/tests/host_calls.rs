//! The cost limits of one host call: a small multiple of the guest's argument in memory, and no long poll. A separate
//! program, because it counts allocations.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests; an allocator is unsafe"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use konnector_sandbox::{CodeKey, Outcome, RunOutput, Sandbox, SandboxOptions};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::{guest, wat_components};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Counts allocated bytes, and their peak. Linear memories are mapped, so they are not included.
struct CountingAllocator;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count_allocation(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: each call is passed on unchanged to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_allocation(layout.size());
        // SAFETY: the caller upholds the contract of this method, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_allocation(layout.size());
        // SAFETY: the caller upholds the contract of this method, which is that of the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of this method, which is that of the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_allocation(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of this method, which is that of the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A future, and the maximum CPU time of one of its polls. Other work of the machine is not included.
struct PollTimer<F> {
    future: Pin<Box<F>>,
    longest: Duration,
}

impl<F: Future> Future for PollTimer<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = cpu_time();
        let polled = self.future.as_mut().poll(context);
        self.longest = self.longest.max(cpu_time() - before);
        polled.map(|output| (output, self.longest))
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Maximum duration of one poll. Without optimisation our own code is about ten times slower: twice the longest
/// measured poll, in which a report is masked (500 ms). All others take at most 250 ms, in which wasmtime copies the
/// 15 MiB of one argument.
const MAX_POLL_TIME: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 50 });
/// The same for the secrets of a run: their matcher is built in one poll, which takes up to 1 s without optimisation.
const MAX_SECRETS_POLL_TIME: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 50 });
/// Memory that a call may use in addition to four times its bytes.
const BASE_MEMORY_ALLOWANCE: usize = 16 << 20;

struct CallFixture {
    sandbox: Sandbox,
}

impl CallFixture {
    fn new() -> Self {
        let code_key = Some(CodeKey::new(&[0; 32]));
        let options = SandboxOptions { max_runs: 2, worker_threads: 1, code_key, ..SandboxOptions::default() };
        Self { sandbox: Sandbox::new(options).expect("a sandbox") }
    }

    /// Makes one call, and checks its cost.
    async fn check(&self, call: &str, unit: &str, bytes: usize) -> String {
        let cache = Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"));
        let program = self.sandbox.prepare(&guest("heavy_call"), cache).await.unwrap_or_else(|error| panic!("{error}"));
        let environment = FakeEnvironment::with_limits(|limits| {
            limits.host_call_bytes = 64 << 20;
            limits.memory = 512 << 20;
        });
        let parameters = job(json!({ "call": call, "unit": unit, "bytes": bytes }));
        let capabilities = environment.capabilities();
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let run = self.sandbox.run(&program, parameters, capabilities, CancellationToken::new());
        let (output, longest): (RunOutput, _) = PollTimer { future: Box::pin(run), longest: Duration::ZERO }.await;
        let growth = PEAK.load(Ordering::Relaxed) - before;
        let case = format!("{call} with {bytes} bytes of {unit:?}");
        println!("{case}: {} KiB, {longest:?}", growth >> 10);
        assert!(growth <= 4 * bytes + BASE_MEMORY_ALLOWANCE, "{case} took {} MiB", growth >> 20);
        let max_poll_time = if call == "secrets.put" { MAX_SECRETS_POLL_TIME } else { MAX_POLL_TIME };
        assert!(longest <= max_poll_time, "{case} took {longest:?} in one turn");
        assert!(matches!(output.outcome, Outcome::Completed(_)), "{case}: {:?}", output.outcome);
        let message =
            environment.progress.lines.lock().unwrap().last().map(|line| line.message.clone()).unwrap_or_default();
        assert!(!message.contains("Internal"), "{case}: {message}");
        message
    }
}

/// The shapes that become largest, or take longest, in the code that processes them.
const UNITS: [&str; 12] =
    ["x", "\n", "\u{1b}]", "{\"a\":0},", "0,", "[", "{\"a\":", "\"\",", "[],", "\\", "ksecretx", "\u{202e}é"];

const TEXTS: [&str; 17] = [
    "log.emit",
    "log.fields",
    "progress.report",
    "progress.ask-code",
    "secrets",
    "secrets.put",
    "account.save-state",
    "documents.save key",
    "documents.save kind",
    "documents.delete",
    "documents.get",
    "documents.find",
    "files",
    "files.lookup",
    "http.cookies",
    "paths",
    "report",
];

#[tokio::test]
async fn texts() {
    let fixture = CallFixture::new();
    for call in TEXTS {
        for unit in UNITS {
            fixture.check(call, unit, 15 << 20).await;
        }
    }
}

#[tokio::test]
async fn json() {
    let fixture = CallFixture::new();
    // Each import with a JSON argument.
    for call in [
        "account.save-state json",
        "documents.find values",
        "documents.save",
        "documents.save many",
        "documents.update",
        "files.metadata",
    ] {
        for unit in [
            "{\"a\":0},",
            "0,",
            "[],",
            "\"\",",
            "{\"a\":{\"b\":[]}},",
            "[",
            "{\"a\":",
            "\"aaaaaaaaaaaaaaaaaaaaaaaa\":0,",
        ] {
            // Metadata, values and a state have at most 64 KiB.
            for bytes in [30_000, 60_000, 100 << 10, 1 << 20, 15 << 20, 60 << 20] {
                fixture.check(call, unit, bytes).await;
            }
        }
    }
    insta::assert_snapshot!(fixture.check("documents.save", "{\"a\":0},", 5 << 20).await, @r#"Err(Error::Invalid("items[0].body (key `1`): its values would take more than 13 MiB of memory; send fewer at a time, or fewer fields in each"))"#);
    insta::assert_snapshot!(fixture.check("documents.save", "[", 1 << 20).await, @r#"Err(Error::Invalid("items[0].body (key `1`): nested deeper than 120 levels; flatten it"))"#);
    insta::assert_snapshot!(fixture.check("documents.save string", "x", 9 << 20).await, @"Err(Error::TooLarge(8388608))");
    insta::assert_snapshot!(fixture.check("documents.save string", "x", 8_000_000).await, @"Ok(1)");
}

/// They outlive their call, unlike all other JSON from a guest.
#[tokio::test]
async fn the_metadata_of_unfinished_uploads_counts_as_memory_of_the_run() {
    let (fixture, folder) = (CallFixture::new(), tempfile::tempdir().unwrap());
    let program =
        fixture.sandbox.prepare(&guest("heavy_call"), folder.path()).await.unwrap_or_else(|error| panic!("{error}"));
    for memory in [32_usize << 20, 64 << 20] {
        let environment = FakeEnvironment::with_limits(|limits| (limits.memory, limits.uploads) = (memory as u64, 32));
        let parameters = job(json!({ "call": "files.held", "unit": "[],", "bytes": 50_000 }));
        let capabilities = environment.capabilities();
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let output = fixture.sandbox.run(&program, parameters, capabilities, CancellationToken::new()).await;
        let growth = PEAK.load(Ordering::Relaxed) - before;
        assert!(matches!(output.outcome, Outcome::Completed(_)), "{:?}", output.outcome);
        assert!(growth <= memory + BASE_MEMORY_ALLOWANCE, "{} MiB", growth >> 20);
        let message =
            environment.progress.lines.lock().unwrap().last().map(|line| line.message.clone()).unwrap_or_default();
        let (open_uploads, error) = message.split_once(' ').unwrap();
        // Each takes about 7 MiB.
        assert!((2..=memory >> 22).contains(&open_uploads.parse().unwrap()), "{message}");
        let mib = memory >> 20;
        let expected = format!(r#"Error::LimitReached("the run's limit memory_mib of {mib} MiB has been reached")"#);
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn contents() {
    let fixture = CallFixture::new();
    for call in ["files.write", "stdout", "http.send"] {
        for unit in ["x", "\n", "\u{202e}é"] {
            fixture.check(call, unit, 15 << 20).await;
        }
    }
}

const HTTP: &str = "import wasi:http/types@0.2.0;";

/// Creates headers of 60,000 bytes, repeatedly.
fn headers(body: &str) -> Vec<u8> {
    let items = r#"
        (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
        (import "wasi:http/types@0.2.0" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
        (import "wasi:http/types@0.2.0" "[resource-drop]fields" (func $drop (param i32)))
        (data (i32.const 3000) "x-a")"#;
    let body = format!(
        "(memory.fill (i32.const 4096) (i32.const 97) (i32.const 60000))
         (loop $more
           (local.set 0 (call $fields))
           (call $append (local.get 0) (i32.const 3000) (i32.const 3) (i32.const 4096) (i32.const 60000) (i32.const 2040))
           {body}
           (local.set $count (i32.add (local.get $count) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $count) (i32.const 9000))))"
    );
    wat_components::konnector_component(HTTP, items, &body)
}

/// Runs a component with 64 MiB of memory and 10,000 handles; returns its outcome, and the bytes that the host
/// allocated meanwhile.
async fn run(component: &[u8]) -> (Outcome, usize) {
    let (fixture, folder) = (CallFixture::new(), tempfile::tempdir().unwrap());
    let program = fixture.sandbox.prepare(component, folder.path()).await.unwrap_or_else(|error| panic!("{error}"));
    let environment = FakeEnvironment::with_limits(|limits| {
        limits.memory = 64 << 20;
        limits.handles = 10_000;
    });
    let capabilities = environment.capabilities();
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let output = fixture.sandbox.run(&program, job(json!({})), capabilities, CancellationToken::new()).await;
    (output.outcome, PEAK.load(Ordering::Relaxed) - before)
}

fn sentence(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Aborted(ending) => ending.to_string(),
        other => panic!("expected the host to end the run, got {other:?}"),
    }
}

#[tokio::test]
async fn handles_count_as_memory_of_the_run() {
    let (outcome, growth) = run(&headers("")).await;
    insta::assert_snapshot!(sentence(&outcome), @"the konnector's open resources (requests, headers, bodies, streams) do not fit into its 64 MiB of memory; drop those that are no longer needed");
    assert!(growth < (64 << 20) + BASE_MEMORY_ALLOWANCE, "{} MiB", growth >> 20);
}

#[tokio::test]
async fn handles_that_are_dropped_cost_nothing_more() {
    let (outcome, growth) = run(&headers("(call $drop (local.get 0))")).await;
    assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    assert!(growth < BASE_MEMORY_ALLOWANCE, "{} MiB", growth >> 20);
}

#[tokio::test]
async fn a_method_is_a_word() {
    let items = r#"
        (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
        (import "wasi:http/types@0.2.0" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
        (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-method"
          (func $method (param i32 i32 i32 i32) (result i32)))"#;
    let body = |length: usize, expected: u8| {
        format!(
            "(memory.fill (i32.const 4096) (i32.const 65) (i32.const 60000))
             (local.set 0 (call $request (call $fields)))
             (if (i32.ne (i32.const {expected}) (call $method (local.get 0) (i32.const 9) (i32.const 4096) (i32.const {length})))
               (then unreachable))"
        )
    };
    for (length, expected) in [(32, 0), (33, 1), (60_000, 1)] {
        let (outcome, _) = run(&wat_components::konnector_component(HTTP, items, &body(length, expected))).await;
        assert!(matches!(outcome, Outcome::Completed(_)), "{length}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_list_of_pollables_is_no_longer_than_the_table() {
    let items = r#"
        (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $timer (param i64) (result i32)))
        (import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))"#;
    let body = "
        (local.set 0 (call $timer (i64.const 0)))
        (loop $more
          (i32.store (i32.add (i32.const 4096) (i32.mul (local.get $count) (i32.const 4))) (local.get 0))
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $count) (i32.const 12000))))
        (call $poll (i32.const 4096) (i32.const 12000) (i32.const 2040))";
    let imports = "import wasi:clocks/monotonic-clock@0.2.0; import wasi:io/poll@0.2.0;";
    let (outcome, _) = run(&wat_components::konnector_component(imports, items, body)).await;
    insta::assert_snapshot!(sentence(&outcome), @"the konnector was stopped: `poll` takes at most 10000 pollables, but got 12000");
}
