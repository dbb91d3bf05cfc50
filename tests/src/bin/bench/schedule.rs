//! Many triggers: how long a server takes to start with them, how much memory it uses, and how late they fire.
//!
//! Jobs are queued, with their commits, but not run: this measures the scheduler.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use konnector_egress::{Gate, GateOptions};
use konnector_platform::clock::SystemClock;
use konnector_platform::doctype::{JOBS, TRIGGERS};
use konnector_platform::instance::{Instance, InstancePatch};
use konnector_platform::trigger::NewTrigger;
use konnector_platform::{Config, Platform, PlatformParts};
use konnector_sandbox::{Sandbox, SandboxOptions};
use konnector_store::{Changes, MasterKey, Store};
use konnector_tests::resident_memory;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{Row, print, runtime};

/// The arguments that make this program fill a folder, or measure it.
pub const FILL_ARGUMENT: &str = "schedule-fill";
pub const ROW_ARGUMENT: &str = "schedule-row";

/// Numbers of triggers; an environment variable may replace the last one.
const SIZES: [usize; 2] = [1_000, 1_000_000];
const SIZE_VARIABLE: &str = "KONNECTOR_BENCH_TRIGGERS";
const DOMAIN: &str = "schedule.example";
/// Triggers per commit while the folder is filled.
const BATCH: usize = 250;
/// Fires per second, and the number of seconds.
const RATE: usize = 500;
const SECONDS: usize = 20;

pub fn measure() {
    let largest = std::env::var(SIZE_VARIABLE).ok().and_then(|size| size.parse().ok()).unwrap_or(SIZES[1]);
    for size in [SIZES[0], largest] {
        let folder = tempfile::tempdir().expect("a folder");
        for mode in [FILL_ARGUMENT, ROW_ARGUMENT] {
            let this = std::env::current_exe().expect("this program");
            let status = Command::new(this).arg(mode).arg(folder.path()).arg(size.to_string()).status();
            assert!(status.expect("a process").success(), "{mode}");
        }
    }
}

async fn platform(folder: &Path) -> Platform {
    let key = folder.join("key");
    let parts = PlatformParts {
        store: Store::open(&folder.join("store"), konnector_store::StoreOptions::default()).expect("a store"),
        sandbox: Sandbox::new(SandboxOptions::default()).expect("a sandbox").into(),
        gate: Gate::new(GateOptions::default()).expect("a gate"),
        key: MasterKey::load(&key).expect("read").unwrap_or_else(|| MasterKey::create(&key).expect("a key")),
        clock: Arc::new(SystemClock),
        config: Config::new(folder.join("cache")),
    };
    Platform::new(parts).await.expect("a platform")
}

/// Creates daily triggers for as many accounts, all of them due in more than a day.
pub async fn fill(folder: &Path, size: usize) {
    let platform = platform(folder).await;
    let instance = platform.instances().create(DOMAIN, &InstancePatch::default()).await.expect("an instance");
    let model = trigger_document(&platform, &instance).await;
    let started = Instant::now();
    for batch in 0..size.div_ceil(BATCH) {
        let mut changes = Changes::new();
        for number in (batch * BATCH)..size.min((batch + 1) * BATCH) {
            let (id, account) = (id(number), format!("account-{number}"));
            let mut body = model.clone();
            body.insert("message".to_owned(), json!({ "konnector": "bank", "account": account }));
            let document = instance.doc(&TRIGGERS, id.as_str());
            changes.create(document.clone(), body);
            changes.put_unique(&instance.id, "triggers.account", format!("{account}/{id}"), &id);
            changes.schedule(
                document,
                Some(Utc::now() + TimeDelta::seconds(90_000 + i64::try_from(number % 86_400).expect("a number"))),
            );
        }
        platform.raw_store().commit(changes).await.expect("committed");
    }
    println!("\n{size} triggers, made in {:.1} s", started.elapsed().as_secs_f64());
    platform.stop().await;
}

fn id(number: usize) -> String {
    format!("{number:032x}")
}

/// A sample document of a trigger.
async fn trigger_document(platform: &Platform, instance: &Instance) -> konnector_store::Map {
    let new = NewTrigger {
        kind: "@cron".to_owned(),
        arguments: "12 34 5 * * *".to_owned(),
        worker: "konnector".to_owned(),
        message: json!({ "konnector": "bank" }),
        ..NewTrigger::default()
    };
    let trigger = platform.triggers().create(instance, new).await.expect("a trigger");
    let body =
        platform.raw_store().get(&instance.doc(&TRIGGERS, trigger.id.as_str())).expect("read").expect("a trigger").body;
    platform.triggers().delete(instance, &trigger.id).await.expect("deleted");
    body
}

pub fn row(folder: &Path, size: usize) {
    let runtime: Runtime = runtime();
    let started = Instant::now();
    let platform = runtime.block_on(platform(folder));
    runtime.block_on(platform.triggers().fire_due()).expect("looked");
    let start = started.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    let idle = resident_memory();
    println!("  start until the scheduler has looked: {:.2} s", start.as_secs_f64());
    println!("  resident memory, idle: {:.0} MiB", idle as f64 / f64::from(1 << 20));
    let ticks = crate::repeat(200, || {
        assert_eq!(runtime.block_on(platform.triggers().fire_due()).expect("looked"), 0);
    });
    let lags = runtime.block_on(fire(&platform, size));
    let title = format!("{size} triggers, {} of them due each second; jobs queued, on disk", RATE.min(size / SECONDS));
    print(
        &title,
        None,
        &[Row::new("a look when nothing is due", ticks), Row::new("from the instant to its stored job", lags)],
    );
}

/// Fires triggers at a steady rate, as the scheduler's loop would; returns the delay of each one.
async fn fire(platform: &Platform, size: usize) -> Vec<Duration> {
    let instance = platform.instances().get(DOMAIN).expect("an instance");
    let rate = RATE.min(size / SECONDS);
    // Spread over the whole range of ids, so that they are not adjacent in the store.
    let (first, step) = (Utc::now() + TimeDelta::seconds(15), size / (rate * SECONDS));
    let mut due: HashMap<String, DateTime<Utc>> = HashMap::new();
    let mut changes = Changes::new();
    for nth in 0..rate * SECONDS {
        let instant = first + TimeDelta::milliseconds(i64::try_from(nth * 1_000 / rate).expect("a number"));
        let id = id(nth * step);
        changes.schedule(instance.doc(&TRIGGERS, id.as_str()), Some(instant));
        due.insert(id, instant);
        if nth % BATCH == BATCH - 1 {
            platform.raw_store().commit(std::mem::take(&mut changes)).await.expect("committed");
        }
    }
    platform.raw_store().commit(changes).await.expect("committed");
    assert!(Utc::now() < first, "the schedule was not ready in time");
    let mut events = platform.realtime().subscribe(&instance.id);
    let listener = tokio::spawn(async move {
        let mut lags = Vec::new();
        while lags.len() < due.len() {
            let event = events.recv().await.expect("an event");
            if event.doctype != *JOBS {
                continue;
            }
            let instant = due[event.doc["trigger_id"].as_str().expect("a trigger")];
            lags.push((Utc::now() - instant).to_std().unwrap_or_default());
        }
        lags
    });
    while !listener.is_finished() {
        platform.triggers().fire_due().await.expect("fired");
        let next = platform.raw_store().next_due_at().expect("read").expect("due");
        tokio::time::sleep((next - Utc::now()).to_std().unwrap_or_default().min(Duration::from_millis(100))).await;
    }
    listener.await.expect("no panic")
}
