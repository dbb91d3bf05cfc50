//! Two nodes over one store, a real konnector in the real sandbox, and a real vendor on loopback: once the second
//! node has taken over a job, the vendor receives no more requests from the first, which was disconnected or
//! suspended.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "this is a test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use konnector_egress::{Gate, GateOptions};
use konnector_platform::clock::{Clock, SystemClock};
use konnector_platform::instance::InstancePatch;
use konnector_platform::job::{Cause, JobRequest, TriggerPayload};
use konnector_platform::konnector::{InstallEvent, InstallRequest};
use konnector_platform::{Config, Platform, PlatformParts};
use konnector_sandbox::{Sandbox, SandboxOptions};
use konnector_store::{Batch, CommitOutcome, Kv, MasterKey, MemoryBlobs, Result, Store};
use konnector_tests::wat_components;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LEASE: Duration = Duration::from_secs(3);

type Entries = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// The store of both nodes, from one node's point of view.
#[derive(Clone, Default)]
struct SharedKv {
    entries: Entries,
    is_cut: Arc<AtomicBool>,
}

#[async_trait]
impl Kv for SharedKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.entries.lock().unwrap().get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let entries = self.entries.lock().unwrap();
        let range = entries.range(from.to_vec()..to.to_vec().max(from.to_vec()));
        let copy = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(if reverse { range.rev().take(limit).map(copy).collect() } else { range.take(limit).map(copy).collect() })
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome> {
        while self.is_cut.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut entries = self.entries.lock().unwrap();
        if !batch.checks_hold(|key, expected| Ok(entries.get(key).map(Vec::as_slice) == expected))? {
            return Ok(CommitOutcome::Rejected);
        }
        for (key, value) in batch.resolve_writes(|key| Ok(entries.get(key).cloned()))? {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(CommitOutcome::Applied)
    }

    async fn close(&self) {}
}

/// The clock of a machine that may have been suspended for some seconds.
#[derive(Default)]
struct SuspendableClock(AtomicU64);

impl Clock for SuspendableClock {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        SystemClock.now()
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed() + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// Responds after a tenth of a second; records the senders.
async fn vendor() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let visits = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let visits = Arc::clone(&visits);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let text = String::from_utf8_lossy(&head).to_lowercase();
                    let node = text.lines().find_map(|line| line.strip_prefix("user-agent: ")).unwrap().to_owned();
                    visits.lock().unwrap().push(node);
                    head.clear();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, seen)
}

/// A konnector that sends requests to the vendor repeatedly, and never ends.
fn requesting_component(url: &str) -> Vec<u8> {
    let length = url.len();
    let items = format!(
        r#"(import "konnector:host/http@0.1.0" "send"
             (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
           (data (i32.const 2048) "GET{url}")"#
    );
    let body = format!(
        "(loop $again
           (call $send (i32.const 2048) (i32.const 3) (i32.const 2051) (i32.const {length}) (i32.const 0) (i32.const 0)
             (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
             (i32.const 0) (i32.const 1) (i32.const 120000)
             (i32.const 4096))
           (br $again))"
    );
    wat_components::konnector_component("import konnector:host/http@0.1.0;", &items, &body)
}

struct ClusterFixture {
    folder: tempfile::TempDir,
    line: SharedKv,
    blobs: MemoryBlobs,
}

impl ClusterFixture {
    async fn node(&self, name: &str) -> (Platform, Arc<AtomicBool>, Arc<SuspendableClock>) {
        let line = SharedKv { entries: Arc::clone(&self.line.entries), is_cut: Arc::default() };
        let (cut, clock) = (Arc::clone(&line.is_cut), Arc::new(SuspendableClock::default()));
        let gate = GateOptions {
            allowed_private: vec!["127.0.0.1".parse().unwrap()],
            user_agent: name.to_owned(),
            ..GateOptions::default()
        };
        let key = self.folder.path().join("key");
        let parts = PlatformParts {
            store: Store::with_backends(Box::new(line), Box::new(self.blobs.clone())),
            sandbox: Arc::new(Sandbox::new(SandboxOptions { max_runs: 2, ..SandboxOptions::default() }).unwrap()),
            gate: Gate::new(gate).unwrap(),
            key: MasterKey::load(&key).unwrap().unwrap_or_else(|| MasterKey::create(&key).unwrap()),
            clock: Arc::clone(&clock) as _,
            config: Config { lease_ttl: LEASE, workers: 1, ..Config::new(self.folder.path().join("cache")) },
        };
        (Platform::new(parts).await.unwrap(), cut, clock)
    }
}

async fn wait_until(description: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain: {description}");
}

async fn assert_taken_over(slept: u64) {
    let (port, seen) = vendor().await;
    let site = ClusterFixture {
        folder: tempfile::tempdir().unwrap(),
        line: SharedKv::default(),
        blobs: MemoryBlobs::default(),
    };
    let (first, cut, clock) = site.node("first").await;
    let (second, ..) = site.node("second").await;
    let instance = first.instances().create("ada.example", &InstancePatch::default()).await.unwrap();

    let url = format!("http://127.0.0.1:{port}/");
    let bundle = site.folder.path().join("asks");
    std::fs::create_dir_all(&bundle).unwrap();
    let rules = json!({ "vendor": { "type": "http", "values": [format!("http://127.0.0.1:{port}")] } });
    let manifest = json!({ "name": "Asks", "type": "konnector", "version": "1.0.0", "permissions": rules });
    std::fs::write(bundle.join("manifest.konnector"), manifest.to_string()).unwrap();
    std::fs::write(bundle.join("konnector.wasm"), requesting_component(&url)).unwrap();
    let request = InstallRequest {
        slug: "asks".to_owned(),
        source: format!("file://{}", bundle.display()),
        parameters: None,
        deactivated: false,
    };
    let mut installing = first.konnectors().install(&instance, request).await.unwrap();
    while let Some(event) = installing.events.recv().await {
        if let InstallEvent::Failed(error) = event {
            panic!("{error}");
        }
    }

    let request = JobRequest {
        worker: "konnector".to_owned(),
        message: json!({ "konnector": "asks" }),
        options: None,
        cause: Cause::Manual,
        trigger: None,
        payload: TriggerPayload::default(),
    };
    let job = first.jobs().push(&instance, request).await.unwrap();
    first.start().await.unwrap();
    wait_until("the first node's requests", || seen.lock().unwrap().len() > 3).await;
    second.start().await.unwrap();
    tokio::time::sleep(LEASE).await;
    assert!(seen.lock().unwrap().iter().all(|node| node == "first"), "a lease that is renewed is not taken over");

    cut.store(true, Ordering::SeqCst);
    clock.0.fetch_add(slept, Ordering::SeqCst);
    let before = seen.lock().unwrap().len();
    wait_until("the second node's requests", || {
        seen.lock().unwrap().iter().filter(|node| *node == "second").count() > 10
    })
    .await;
    cut.store(false, Ordering::SeqCst);
    tokio::time::sleep(LEASE).await;
    let visits = seen.lock().unwrap().clone();
    let index = visits.iter().position(|node| node == "second").unwrap();
    assert!(visits[index..].iter().all(|node| node == "second"), "{visits:?}");
    if slept > 0 {
        // One request may have been in flight.
        assert!(
            index <= before + 1,
            "a machine that slept longer than its lease sends nothing before it has renewed it"
        );
    }

    second.jobs().cancel(&instance, &job.id).await.unwrap();
    let job = || second.jobs().get(&instance, &job.id).unwrap();
    wait_until("the end of the job", || job().finished_at.is_some()).await;
    assert_eq!(job().error.as_deref(), Some("UNKNOWN_ERROR.CANCELLED"));
    assert_eq!(job().interruptions, 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_store_falls_silent_before_another_begins() {
    assert_taken_over(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_slept_falls_silent_at_once() {
    assert_taken_over(60).await;
}
