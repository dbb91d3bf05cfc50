//! Scripted runs: they contact a vendor that remembers, write through their lease, and end as chance has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use konnector_platform::Result;
use konnector_platform::instance::Instance;
use konnector_platform::job::{Assignment, JobFailure, JobTask, RunArtifacts, RunResult, Runner};
use konnector_platform::jobs::JobContext;
use konnector_sandbox::{Failure, Outcome};
use konnector_store::{Changes, DocRef, Lease};
use serde_json::json;
use tokio::time::Instant;

use crate::disk::NodeSwitch;
use crate::mutation::{self, Mutation};
use crate::random::SimRandom;

/// A run: a job and the epoch of its lease.
pub type RunId = (String, u64);

/// What the vendor saw of a run.
#[derive(Debug, Clone)]
pub struct Visit {
    pub run: RunId,
    pub account: String,
    pub host: String,
    pub first: Instant,
    pub last: Instant,
}

/// The vendor's memory, and what was written.
#[derive(Default)]
pub struct FakeVendor {
    log: Mutex<VendorLog>,
}

#[derive(Default)]
struct VendorLog {
    visits: BTreeMap<RunId, Visit>,
    /// The run that an account was last visited by.
    current: HashMap<String, RunId>,
    requests: u64,
    rejected_writes: u64,
    violations: Vec<String>,
}

impl FakeVendor {
    fn request(&self, run: &RunId, account: &str, host: &str) {
        let mut seen = self.log.lock().unwrap();
        seen.requests += 1;
        let now = Instant::now();
        if !seen.visits.contains_key(run) {
            seen.current.insert(account.to_owned(), run.clone());
        } else if seen.current.get(account) != Some(run) {
            let fault =
                format!("{run:?} still talks to the vendor about {account}, after {:?} began", seen.current[account]);
            seen.violations.push(fault);
        }
        let visit =
            || Visit { run: run.clone(), account: account.to_owned(), host: host.to_owned(), first: now, last: now };
        seen.visits.entry(run.clone()).or_insert_with(visit).last = now;
    }

    pub fn requests(&self) -> u64 {
        self.log.lock().unwrap().requests
    }

    /// Writes of runs that had lost their lease.
    pub fn rejected_writes(&self) -> u64 {
        self.log.lock().unwrap().rejected_writes
    }

    pub fn visits(&self) -> Vec<Visit> {
        self.log.lock().unwrap().visits.values().cloned().collect()
    }

    pub fn violations(&self) -> Vec<String> {
        self.log.lock().unwrap().violations.clone()
    }
}

/// One node's runs.
pub struct ScriptedRunner {
    pub vendor: Arc<FakeVendor>,
    pub random: Arc<SimRandom>,
    pub switch: NodeSwitch,
}

impl ScriptedRunner {
    async fn write(
        &self,
        context: &JobContext,
        instance: &Instance,
        lease: &Lease,
        run: &RunId,
        name: String,
    ) -> Result<()> {
        let mut changes = Changes::new();
        if !mutation::is_active(Mutation::NoFence) {
            changes.fence(lease);
        }
        let at = DocRef::new(&instance.id, &"io.cozy.bills".parse().unwrap(), format!("{}.{}.{name}", run.0, run.1));
        changes.create(at, json!({ "job": run.0 }).as_object().unwrap().clone());
        if self.random.once_in(150) {
            // Right between the hand-over of the write and the write, for longer than the lease.
            self.switch.pause_for(self.random.millis(50_000, 140_000));
        }
        // What a run that is dropped handed over goes its way all the same.
        let (store, vendor) = (context.core().store().clone(), Arc::clone(&self.vendor));
        let written = tokio::spawn(async move {
            let written = store.commit(changes).await;
            let refused = matches!(&written, Err(error) if error.is_stale_lease());
            vendor.log.lock().unwrap().rejected_writes += u64::from(refused);
            written
        });
        written.await.unwrap()?;
        Ok(())
    }

    fn failure(&self) -> Option<Failure> {
        let text = || "by chance".to_owned();
        match self.random.below(12) {
            0 | 1 => Some(Failure::VendorDown(text())),
            2 => Some(Failure::RateLimited(Some(400))),
            3 => Some(Failure::Bug(text())),
            4 => Some(Failure::BadCredentials(text())),
            5 => Some(Failure::LimitReached(text())),
            _ => None,
        }
    }
}

#[async_trait]
impl Runner for ScriptedRunner {
    fn spawn(&self, _: &JobContext, task: JobTask) {
        tokio::spawn(task);
    }

    async fn run(&self, context: &JobContext, assignment: Assignment) -> Result<RunResult> {
        let Assignment { instance, job, lease, cancel } = assignment;
        let text = |name: &str| job.argument(name).unwrap().to_owned();
        let (account, host) =
            (format!("{}/{}", instance.domain, text("account")), format!("{}.example", text("konnector")));
        let run = (job.id.clone(), lease.epoch);
        let finished = |failure: Option<Failure>| {
            let verdict = failure.and_then(|failure| JobFailure::from_outcome(&Outcome::Failed(failure)));
            Ok(RunResult { failure: verdict, artifacts: RunArtifacts::default() })
        };
        let hangs = self.random.once_in(20);
        for part in 0..=self.random.below(6) {
            let time = if hangs { Duration::from_secs(150) } else { self.random.millis(50, 5_000) };
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    tokio::time::sleep(self.random.millis(0, 2_000)).await;
                    return finished(Some(Failure::Cancelled));
                }
                () = tokio::time::sleep(time) => {}
            }
            if !self.switch.wait_until_running().await {
                std::future::pending::<()>().await;
            }
            self.vendor.request(&run, &account, &host);
            for number in 0..=self.random.below(4) {
                self.write(context, &instance, &lease, &run, format!("{part}-{number}")).await?;
            }
        }
        finished(self.failure())
    }
}
