//! One story: what happens to the nodes, in an order that chance decides; then everything is repaired, and the accounts are settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use konnector_platform::doctype::{JOBS, PERMISSIONS};
use konnector_platform::instance::{Instance, InstancePatch};
use konnector_platform::job::{Cause, JobRequest, KONNECTOR_WORKER, TriggerPayload};
use konnector_platform::trigger::{NewTrigger, TriggerPolicy};
use konnector_store::Changes;
use serde_json::json;
use tokio::time::Instant;

use crate::TestBed;
use crate::disk::SimDisk;
use crate::node::{Cluster, LEASE_TTL, Node};
use crate::random::SimRandom;
use crate::vendor::FakeVendor;

/// What came of a story.
#[derive(Debug, Clone, Default)]
pub struct ScenarioReport {
    pub steps: u64,
    pub commits: u64,
    pub requests: u64,
    pub injected_faults: u64,
    /// Writes that a failure of all power took back.
    pub lost_writes: u64,
    /// Writes of runs that had lost their lease.
    pub rejected_writes: u64,
    pub jobs: u64,
    pub retried: u64,
    pub cancelled: u64,
    pub violations: Vec<String>,
}

impl ScenarioReport {
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.commits += other.commits;
        self.requests += other.requests;
        self.injected_faults += other.injected_faults;
        self.lost_writes += other.lost_writes;
        self.rejected_writes += other.rejected_writes;
        self.jobs += other.jobs;
        self.retried += other.retried;
        self.cancelled += other.cancelled;
    }
}

pub const KONNECTORS: [&str; 2] = ["bank", "shop"];

pub struct Scenario {
    pub site: Cluster,
    pub nodes: Vec<Option<Node>>,
    pub instances: Vec<Instance>,
    /// Jobs that were acknowledged.
    pub accepted: BTreeSet<String>,
    /// Jobs whose end was told after it was durable.
    pub ended: BTreeMap<String, String>,
    /// Trigger, with its first due instant and its period in seconds.
    pub triggers: Vec<(usize, String, i64, i64)>,
    pub outcome: ScenarioReport,
}

impl Scenario {
    pub async fn new(bench: &TestBed, seed: u64) -> Self {
        let dice = Arc::new(SimRandom::new(seed));
        let site = Cluster {
            disk: SimDisk::new(Arc::clone(&dice)),
            vendor: Arc::new(FakeVendor::default()),
            sandbox: Arc::clone(&bench.sandbox),
            gate: bench.gate.clone(),
            folder: bench.folder.path().to_owned(),
            started: Instant::now(),
            max_runs_per_host: 1 + u32::try_from(dice.below(2)).unwrap(),
            random: dice,
        };
        let count = 2 + site.random.below(2);
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Some(Node::start(&site, 0, &[]).await));
        }
        let mut story = Self {
            site,
            nodes,
            instances: Vec::new(),
            accepted: BTreeSet::new(),
            ended: BTreeMap::new(),
            triggers: Vec::new(),
            outcome: ScenarioReport::default(),
        };
        for number in 0..2 {
            story.create_instance(number).await;
        }
        story
    }

    /// An instance with its konnectors and its schedules.
    async fn create_instance(&mut self, number: usize) {
        let platform = self.nodes[0].as_ref().unwrap().platform.clone();
        let domain = format!("person{number}.example");
        let instance = platform.instances().create(&domain, &InstancePatch::default()).await.unwrap();
        let mut changes = Changes::new();
        for slug in KONNECTORS {
            let rules = json!({ "vendor": { "type": "http", "values": [format!("https://{slug}.example")] } });
            let body =
                json!({ "type": "konnector", "source_id": format!("io.cozy.konnectors/{slug}"), "permissions": rules });
            changes.create(instance.doc(&PERMISSIONS, format!("konnector-{slug}")), body.as_object().unwrap().clone());
        }
        platform.raw_store().commit(changes).await.unwrap();
        for node in self.nodes.iter_mut().flatten() {
            node.events.push(node.platform.realtime().subscribe(&instance.id));
        }
        self.instances.push(instance);
        for (account, (slug, minutes)) in KONNECTORS.iter().zip([1, 7]).enumerate() {
            let new = NewTrigger {
                kind: "@every".to_owned(),
                arguments: format!("{minutes}m"),
                worker: KONNECTOR_WORKER.to_owned(),
                message: json!({ "konnector": slug, "account": format!("a{account}") }),
                debounce: None,
                options: None,
                time_zone: None,
                policy: TriggerPolicy::default(),
                created_by: "simulation".to_owned(),
                created_by_konnector: None,
            };
            let instance = &self.instances[number];
            let trigger = platform.triggers().create(instance, new).await.unwrap();
            let due = platform.triggers().due(instance, &trigger.id).unwrap().unwrap();
            self.triggers.push((number, trigger.id, due.timestamp(), minutes * 60));
        }
    }

    fn alive_nodes(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].is_some()).collect()
    }

    pub async fn run(mut self) -> ScenarioReport {
        let mishaps = 200 + self.site.random.below(200);
        for _ in 0..mishaps {
            tokio::time::sleep(self.site.random.millis(5, 3_000)).await;
            if self.site.random.once_in(2) {
                // Soon enough there is a heartbeat, or the next mishap begins without.
                let _ = tokio::time::timeout(Duration::from_secs(5), self.site.disk.mid_commit()).await;
            }
            self.inject_fault().await;
            self.outcome.injected_faults += 1;
            self.collect_events();
            if !self.outcome.violations.is_empty() {
                break;
            }
        }
        if self.outcome.violations.is_empty() {
            self.recover_and_drain().await;
            self.check_jobs();
        }
        self.outcome.commits = self.site.disk.commits();
        self.outcome.requests = self.site.vendor.requests();
        self.outcome.rejected_writes = self.site.vendor.rejected_writes();
        self.outcome.steps = self.outcome.commits + self.outcome.requests + self.outcome.injected_faults;
        self.outcome
    }

    async fn inject_fault(&mut self) {
        let dice = Arc::clone(&self.site.random);
        let living = self.alive_nodes();
        let chosen = living.get(usize::try_from(dice.below(living.len().max(1) as u64)).unwrap()).copied();
        let Some(number) = chosen else { return self.restart().await };
        match dice.below(22) {
            0..=5 => self.push(number).await,
            6 => {
                // What was just acknowledged must be there, whatever happens now.
                self.push(number).await;
                self.collect_events();
                self.fail_power();
            }
            7 => self.launch(number).await,
            8 | 9 => self.cancel(number).await,
            10 => self.nodes[number].take().unwrap().crash(),
            11 => self.fail_power(),
            12..=14 => {
                let node = self.nodes[number].as_ref().unwrap();
                node.switch.pause_for(dice.millis(10, 3 * LEASE_TTL.as_millis() as u64));
            }
            15 => {
                let node = self.nodes[number].as_ref().unwrap();
                let size = *dice.pick(&[1, 60, 3_600, 86_400, 10 * 365 * 86_400]) * 1_000;
                let jump = i64::try_from(dice.below(2 * size + 1)).unwrap() - i64::try_from(size).unwrap();
                // Seldom far ahead: what waits then would wait for the rest of the story.
                let jump = if jump > 60_000 && !dice.once_in(8) { -jump } else { jump };
                node.clock.skew.fetch_add(jump, Ordering::SeqCst);
            }
            16 => {
                let node = self.nodes[number].take().unwrap();
                tokio::spawn(async move { node.platform.stop().await });
            }
            _ => self.restart().await,
        }
    }

    fn fail_power(&mut self) {
        for node in &mut self.nodes {
            if let Some(node) = node.take() {
                node.crash();
            }
        }
        self.outcome.lost_writes += self.site.disk.fail_power() as u64;
    }

    /// Starts a node that is gone, if there is one.
    async fn restart(&mut self) {
        if let Some(number) = (0..self.nodes.len()).find(|number| self.nodes[*number].is_none()) {
            self.nodes[number] = Some(Node::start(&self.site, 0, &self.instances).await);
        }
    }

    /// A client waits for so long at most: its node may stand still, or go away.
    async fn with_timeout<T>(&self, request: impl Future<Output = T> + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
    {
        let task = tokio::spawn(request);
        tokio::time::timeout(Duration::from_secs(1), task).await.ok().map(|joined| joined.unwrap())
    }

    async fn push(&mut self, number: usize) {
        let dice = &self.site.random;
        let instance = dice.pick(&self.instances).clone();
        let request = JobRequest {
            worker: KONNECTOR_WORKER.to_owned(),
            message: json!({ "konnector": dice.pick(&KONNECTORS), "account": format!("a{}", dice.below(3)) }),
            options: None,
            cause: Cause::Manual,
            trigger: None,
            payload: TriggerPayload::default(),
        };
        let platform = self.nodes[number].as_ref().unwrap().platform.clone();
        let pushed = self.with_timeout(async move { platform.jobs().push(&instance, request).await }).await;
        if let Some(Ok(job)) = pushed {
            self.accepted.insert(job.id);
        }
    }

    async fn launch(&mut self, number: usize) {
        let (instance, trigger, ..) = self.site.random.pick(&self.triggers).clone();
        let instance = self.instances[instance].clone();
        let platform = self.nodes[number].as_ref().unwrap().platform.clone();
        let launched = self.with_timeout(async move { platform.triggers().launch(&instance, &trigger).await }).await;
        if let Some(Ok(job)) = launched {
            self.accepted.insert(job.id);
        }
    }

    async fn cancel(&mut self, number: usize) {
        let instance = self.site.random.pick(&self.instances).clone();
        let platform = self.nodes[number].as_ref().unwrap().platform.clone();
        let live = platform.jobs().list_live(&instance, KONNECTOR_WORKER).unwrap();
        if live.is_empty() {
            return;
        }
        let id = self.site.random.pick(&live).id.clone();
        let cancelled = self.with_timeout(async move { platform.jobs().cancel(&instance, &id).await }).await;
        if let Some(Ok(_)) = cancelled {
            self.outcome.cancelled += 1;
        }
    }

    /// Takes in what the nodes told about jobs: that one has ended is told once its end is durable.
    pub fn collect_events(&mut self) {
        let mut told = Vec::new();
        for node in self.nodes.iter_mut().flatten() {
            for events in &mut node.events {
                while let Some(event) = events.try_recv() {
                    let event = event.expect("no listener is that slow");
                    if event.doctype == *JOBS {
                        told.push((event.id.clone(), event.doc["state"].as_str().unwrap().to_owned()));
                    }
                }
            }
        }
        for (id, state) in told {
            if matches!(state.as_str(), "done" | "errored") {
                self.ended.insert(id, state);
            }
        }
        self.outcome.violations.extend(self.site.vendor.violations());
        self.outcome.violations.extend(self.site.disk.violations());
    }

    /// Every node works again, and every clock shows a time by which all is due.
    async fn recover_and_drain(&mut self) {
        for number in 0..self.nodes.len() {
            if self.nodes[number].is_none() {
                self.nodes[number] = Some(Node::start(&self.site, 0, &self.instances).await);
            }
            self.nodes[number].as_ref().unwrap().switch.resume();
        }
        // Schedules end, so that there is an end.
        let platform = self.nodes[0].as_ref().unwrap().platform.clone();
        tokio::time::sleep(Duration::from_secs(200)).await;
        self.check_instants();
        for (instance, trigger, ..) in &self.triggers {
            while let Err(error) = platform.triggers().delete(&self.instances[*instance], trigger).await {
                assert!(error.is_conflict(), "{error}");
            }
        }
        for node in self.nodes.iter().flatten() {
            node.clock.skew.store(400 * 365 * 86_400_000 / 10, Ordering::SeqCst);
        }
        let store = &platform.raw_store();
        for _ in 0..20_000 {
            self.collect_events();
            if store.leases().unwrap().is_empty() && store.list_queued(1).unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let (leases, queued) = (store.leases().unwrap(), store.list_queued(5).unwrap());
        self.outcome.violations.push(format!("jobs do not come to an end: leases {leases:?}, waiting {queued:?}"));
    }
}
