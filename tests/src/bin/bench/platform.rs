//! Our server: the sandbox alone, and jobs through the platform with its store on disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use demo_vendor::{Vendor, VendorOptions};
use konnector_egress::{Gate, GateOptions};
use konnector_platform::clock::SystemClock;
use konnector_platform::doctype::{ACCOUNTS, JOB_LOGS, JOBS};
use konnector_platform::instance::{Instance, InstancePatch};
use konnector_platform::job::{Cause, JobRequest, TriggerPayload};
use konnector_platform::konnector::{InstallEvent, InstallRequest};
use konnector_platform::principal::Audience;
use konnector_platform::{Config, Platform, PlatformParts};
use konnector_sandbox::{Outcome, Report, Sandbox, SandboxOptions};
use konnector_store::{MasterKey, Store};
use konnector_tests::fakes::{FakeEnvironment, job};
use konnector_tests::{bundle, guest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{ROUNDS, Row};

/// The sandbox with the same component and in-memory capabilities; on the threads for guests, as the platform's
/// workers call it.
pub fn sandbox(sandbox: Arc<Sandbox>) -> (Row, Row) {
    let runs = Arc::clone(&sandbox);
    let measure = async move {
        let cache = tempfile::tempdir().expect("a folder");
        let program = sandbox.prepare(&guest("noop"), cache.path()).await.expect("prepared");
        let environment = FakeEnvironment::default();
        let (mut times, mut instantiations) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS + 100 {
            let capabilities = environment.capabilities();
            let start = Instant::now();
            let output = sandbox.run(&program, job(json!({})), capabilities, CancellationToken::new()).await;
            let time = start.elapsed();
            assert_eq!(output.outcome, Outcome::Completed(Report::default()));
            if round >= 100 {
                times.push(time);
                instantiations.push(Duration::from_micros(output.receipt.instantiate_us));
            }
        }
        (times, instantiations)
    };
    let (times, instantiations) = crate::runtime().block_on(runs.spawn(measure)).expect("the sandbox is there");
    (Row::new("our sandbox: limits, receipt, capabilities", times), Row::new("our sandbox", instantiations))
}

/// A platform on disk.
pub struct PlatformFixture {
    pub platform: Platform,
    pub folder: TempDir,
}

impl PlatformFixture {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Creates the fixture with other settings.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let gate =
            GateOptions { allowed_private: vec!["127.0.0.1".parse().expect("an address")], ..GateOptions::default() };
        let mut config = Config::new(folder.path().join("cache"));
        change(&mut config);
        let parts = PlatformParts {
            store: Store::open(&folder.path().join("store"), konnector_store::StoreOptions::default())
                .expect("a store"),
            sandbox: Arc::new(Sandbox::new(SandboxOptions::default()).expect("a sandbox")),
            gate: Gate::new(gate).expect("a gate"),
            key: MasterKey::create(&folder.path().join("key")).expect("a key"),
            clock: Arc::new(SystemClock),
            config,
        };
        let platform = Platform::new(parts).await.expect("a platform");
        platform.start().await.expect("started");
        Self { platform, folder }
    }

    pub async fn instance(&self, number: usize) -> Instance {
        let domain = format!("bench{number}.example");
        self.platform.instances().create(&domain, &InstancePatch::default()).await.expect("an instance")
    }

    pub async fn install(&self, instance: &Instance, slug: &str, source: String) {
        let request = InstallRequest { slug: slug.to_owned(), source, parameters: None, deactivated: false };
        let mut installing = self.platform.konnectors().install(instance, request).await.expect("accepted");
        while let Some(event) = installing.events.recv().await {
            if let InstallEvent::Failed(error) = event {
                panic!("{error}");
            }
        }
    }

    /// Pushes a job and waits for its end; returns its id.
    pub async fn run_job(&self, instance: &Instance, message: Value) -> String {
        self.follow(instance, message).await.2
    }

    /// Pushes a job; returns when the guest wrote its first log line, and when the end was published.
    async fn time(&self, instance: &Instance, message: Value) -> (Option<Duration>, Duration) {
        let (first, whole, _) = self.follow(instance, message).await;
        (first, whole)
    }

    async fn follow(&self, instance: &Instance, message: Value) -> (Option<Duration>, Duration, String) {
        let mut events = self.platform.realtime().subscribe(&instance.id);
        let request = JobRequest {
            worker: "konnector".to_owned(),
            message,
            options: None,
            cause: Cause::Manual,
            trigger: None,
            payload: TriggerPayload::default(),
        };
        let start = Instant::now();
        let job = self.platform.jobs().push(instance, request).await.expect("pushed");
        let mut first = None;
        loop {
            let event = events.recv().await.expect("an event");
            if event.id != job.id {
                continue;
            }
            if event.doctype == *JOB_LOGS && first.is_none() {
                first = Some(start.elapsed());
            }
            if event.doctype == *JOBS && event.doc["state"] != "queued" && event.doc["state"] != "running" {
                assert_eq!(event.doc["state"], "done", "{:#}", Value::Object(event.doc.clone()));
                return (first, start.elapsed(), job.id);
            }
        }
    }
}

/// A konnector whose first instructions write a log line, pushed repeatedly.
pub async fn jobs() -> Vec<Row> {
    let site = PlatformFixture::new().await;
    let folder = site.folder.path().join("says");
    std::fs::create_dir_all(&folder).expect("a folder");
    let manifest = json!({ "name": "Says", "type": "konnector", "version": "1.0.0", "permissions": {} });
    std::fs::write(folder.join("manifest.konnector"), manifest.to_string()).expect("written");
    std::fs::write(folder.join("konnector.wasm"), guest("says")).expect("written");
    let instance = site.instance(0).await;
    site.install(&instance, "says", format!("file://{}", folder.display())).await;
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for round in 0..320 {
        let (started, ended) = site.time(&instance, json!({ "konnector": "says" })).await;
        if round >= 20 {
            first.push(started.expect("a log line"));
            whole.push(ended);
        }
    }
    site.platform.stop().await;
    vec![Row::new("push → guest's first instruction", first), Row::new("push → end of a no-op run, stored", whole)]
}

/// Clients push no-op jobs concurrently, each for its own account, and each client pushes the next job as soon as one
/// is acknowledged. Returns the time of each push, and the total time until the last job had ended.
pub async fn durable() -> (Row, usize, Duration) {
    const CLIENTS: usize = 64;
    const WRITES_PER_CLIENT: usize = 100;
    let site = Arc::new(PlatformFixture::with(|config| config.workers = 64).await);
    let folder = site.folder.path().join("noop");
    std::fs::create_dir_all(&folder).expect("a folder");
    let manifest = json!({ "name": "Noop", "type": "konnector", "version": "1.0.0", "permissions": {} });
    std::fs::write(folder.join("manifest.konnector"), manifest.to_string()).expect("written");
    std::fs::write(folder.join("konnector.wasm"), guest("noop")).expect("written");
    let instance = site.instance(0).await;
    site.install(&instance, "noop", format!("file://{}", folder.display())).await;
    let mut accounts = Vec::new();
    for number in 0..CLIENTS {
        let body = json!({ "account_type": "noop", "auth": { "login": format!("client{number}") } });
        accounts.push(site.account(&instance, body).await);
    }
    let start = Instant::now();
    let clients = accounts.into_iter().map(|account| {
        let (site, instance) = (Arc::clone(&site), instance.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..WRITES_PER_CLIENT {
                let request = JobRequest {
                    worker: "konnector".to_owned(),
                    message: json!({ "konnector": "noop", "account": account }),
                    options: None,
                    cause: Cause::Manual,
                    trigger: None,
                    payload: TriggerPayload::default(),
                };
                let pushed = Instant::now();
                site.platform.jobs().push(&instance, request).await.expect("pushed");
                times.push(pushed.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.expect("no panic"));
    }
    while !site.platform.jobs().list_live(&instance, "konnector").expect("read").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let whole = start.elapsed();
    site.platform.stop().await;
    (Row::new("push, acknowledged after its barrier", times), CLIENTS * WRITES_PER_CLIENT, whole)
}

/// A new instance each time, so that the first run saves everything and the second finds nothing new.
pub async fn bank101() -> Vec<Row> {
    let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");
    let site = PlatformFixture::new().await;
    let source = bundle::bank101(&site.folder.path().join("bank101"), vendor.url(), |_| {});
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for number in 0..10 {
        let instance = site.instance(number).await;
        site.install(&instance, "bank101", source.clone()).await;
        let auth = json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": demo_vendor::DEFAULT_PASSWORD });
        let account = site.account(&instance, json!({ "account_type": "bank101", "auth": auth })).await;
        let message = json!({ "konnector": "bank101", "account": account });
        cold.push(site.time(&instance, message.clone()).await.1);
        warm.push(site.time(&instance, message).await.1);
    }
    site.platform.stop().await;
    vec![Row::new("everything is new", cold), Row::new("nothing is new", warm)]
}

impl PlatformFixture {
    async fn account(&self, instance: &Instance, body: Value) -> String {
        let Value::Object(body) = body else { panic!("an object") };
        let token = self.platform.auth().issue_token(instance, Audience::Cli, "bench", "*").expect("a token");
        let principal = self.platform.auth().authenticate(instance, &token).expect("valid");
        let created = self.platform.documents().create(instance, &principal, &ACCOUNTS, None, body).await;
        created.expect("created").id
    }
}
