//! A node: the real platform over the simulated disk, with clocks of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use konnector_egress::Gate;
use konnector_platform::clock::Clock;
use konnector_platform::instance::Instance;
use konnector_platform::job::JobRetention;
use konnector_platform::realtime::Listener;
use konnector_platform::{Config, Platform, PlatformParts};
use konnector_sandbox::Sandbox;
use konnector_store::{MasterKey, MemoryBlobs, Store};
use tokio::time::Instant;

use crate::disk::{NodeKv, NodeSwitch, SimDisk};
use crate::random::SimRandom;
use crate::vendor::{FakeVendor, ScriptedRunner};

pub const LEASE_TTL: Duration = Duration::from_secs(45);

/// A wall clock that is wrong by so much.
pub struct SimClock {
    started: Instant,
    /// In milliseconds.
    pub skew: AtomicI64,
}

impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        let began: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let passed = TimeDelta::from_std(self.started.elapsed()).unwrap();
        began + TimeDelta::milliseconds(passed.num_milliseconds() + self.skew.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// What all nodes share.
pub struct Cluster {
    pub disk: Arc<SimDisk>,
    pub vendor: Arc<FakeVendor>,
    pub random: Arc<SimRandom>,
    pub sandbox: Arc<Sandbox>,
    pub gate: Gate,
    pub folder: std::path::PathBuf,
    pub started: Instant,
    pub max_runs_per_host: u32,
}

pub struct Node {
    pub platform: Platform,
    pub switch: NodeSwitch,
    pub clock: Arc<SimClock>,
    /// For each instance.
    pub events: Vec<Listener>,
}

impl Node {
    pub async fn start(site: &Cluster, skew: i64, instances: &[Instance]) -> Self {
        let switch = NodeSwitch::default();
        let kv = NodeKv { disk: Arc::clone(&site.disk), switch: switch.clone() };
        let clock = Arc::new(SimClock { started: site.started, skew: AtomicI64::new(skew) });
        let parts = PlatformParts {
            store: Store::with_backends(Box::new(kv), Box::new(MemoryBlobs::default())),
            sandbox: Arc::clone(&site.sandbox),
            gate: site.gate.clone(),
            key: MasterKey::load(&site.folder.join("key")).unwrap().unwrap(),
            clock: Arc::clone(&clock) as _,
            config: Config {
                workers: 3,
                lease_ttl: LEASE_TTL,
                vendor_concurrency: site.max_runs_per_host,
                // All of it is looked at in the end.
                job_retention: JobRetention { max_per_trigger: usize::MAX, max_age: Duration::MAX },
                ..Config::new(site.folder.clone())
            },
        };
        let script = ScriptedRunner {
            vendor: Arc::clone(&site.vendor),
            random: Arc::clone(&site.random),
            switch: switch.clone(),
        };
        let platform = Platform::with_runner(parts, Arc::new(script), Arc::clone(&site.random) as _).await.unwrap();
        let events = instances.iter().map(|instance| platform.realtime().subscribe(&instance.id)).collect();
        platform.start().await.unwrap();
        Self { platform, switch, clock, events }
    }

    /// Cuts the node off: nothing of it has any effect any more.
    pub fn crash(self) {
        self.switch.kill();
        // Its tasks end, so that they do not fill the memory.
        self.platform.force_shutdown();
        tokio::spawn(async move { self.platform.stop().await });
    }
}
