//! A store that applies commits in memory, makes them durable a moment later, and forgets what was not durable when all power fails; and
//! one node's way to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use konnector_store::{Batch, CommitOutcome, Error, Kv, Result};
use tokio::sync::Notify;

use crate::mutation::{self, Mutation};
use crate::random::SimRandom;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default)]
struct DiskState {
    /// What reads see.
    entries: Entries,
    /// What the writes since the last barrier replaced, in order.
    undo: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// How often the power failed.
    power_failures: u64,
    /// The newest lease that a job's run wrote with.
    newest_epochs: HashMap<String, u64>,
    violations: Vec<String>,
}

impl DiskState {
    /// What runs write is named `<job>.<epoch>.<name>`.
    fn check_epoch(&mut self, key: &[u8]) {
        let name = String::from_utf8_lossy(key);
        let Some((_, id)) = name.split_once("io.cozy.bills\0") else { return };
        let mut parts = id.split('.');
        let (Some(job), Some(epoch)) = (parts.next(), parts.next().and_then(|epoch| epoch.parse().ok())) else {
            return;
        };
        let newest = self.newest_epochs.entry(job.to_owned()).or_insert(epoch);
        if *newest > epoch {
            self.violations.push(format!("the job {job} was written to by lease {epoch} after lease {newest}"));
        }
        *newest = epoch;
    }
}

/// The one disk of all nodes.
pub struct SimDisk {
    state: Mutex<DiskState>,
    random: Arc<SimRandom>,
    commits: AtomicU64,
    applied: Notify,
}

impl SimDisk {
    pub fn new(dice: Arc<SimRandom>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), random: dice, commits: AtomicU64::new(0), applied: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap()
    }

    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Returns a moment after some commit was applied, mostly before it is durable.
    pub async fn mid_commit(&self) {
        self.applied.notified().await;
        tokio::time::sleep(self.random.millis(0, 9)).await;
    }

    /// All power fails: what no barrier made durable is gone.
    pub fn fail_power(&self) -> usize {
        let mut state = self.state();
        state.power_failures += 1;
        state.newest_epochs.clear();
        let lost = std::mem::take(&mut state.undo);
        let count = lost.len();
        for (key, before) in lost.into_iter().rev() {
            match before {
                Some(value) => state.entries.insert(key, value),
                None => state.entries.remove(&key),
            };
        }
        count
    }

    /// Applies a batch; `None` when a check fails, else how often the power had failed by then.
    fn apply(&self, batch: &Batch) -> Option<u64> {
        let mut state = self.state();
        let stands = |key: &[u8], expected: Option<&[u8]>| {
            Ok(mutation::is_hidden(key) || state.entries.get(key).map(Vec::as_slice) == expected)
        };
        let holds = batch.checks_hold(stands).unwrap();
        if !holds {
            return None;
        }
        let writes = batch.resolve_writes(|key| Ok(state.entries.get(key).cloned())).unwrap();
        for (key, value) in writes {
            let before = match value {
                Some(value) => state.entries.insert(key.clone(), value),
                None => state.entries.remove(&key),
            };
            state.check_epoch(&key);
            state.undo.push((key, before));
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.applied.notify_waiters();
        Some(state.power_failures)
    }

    /// Makes everything applied so far durable, unless the power failed since.
    fn barrier(&self, failures: u64) -> bool {
        let mut state = self.state();
        if state.power_failures != failures {
            return false;
        }
        state.undo.clear();
        true
    }
}

/// Whether a node goes on, stands still or is gone.
#[derive(Clone, Default)]
pub struct NodeSwitch(Arc<SwitchState>);

#[derive(Default)]
struct SwitchState {
    paused: AtomicBool,
    dead: AtomicBool,
    /// Wakes in the order of waiting, which a watch channel does not.
    changed: Notify,
}

impl NodeSwitch {
    pub fn pause_for(&self, time: Duration) {
        self.0.paused.store(true, Ordering::SeqCst);
        let switch = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            switch.resume();
        });
    }

    pub fn resume(&self) {
        self.0.paused.store(false, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    pub fn kill(&self) {
        self.0.dead.store(true, Ordering::SeqCst);
        self.resume();
    }

    pub fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::SeqCst)
    }

    /// Returns when the node moves; answers whether it is alive.
    pub async fn wait_until_running(&self) -> bool {
        while self.0.paused.load(Ordering::SeqCst) {
            self.0.changed.notified().await;
        }
        !self.is_dead()
    }
}

/// The disk as one node sees it.
pub struct NodeKv {
    pub disk: Arc<SimDisk>,
    pub switch: NodeSwitch,
}

impl NodeKv {
    fn check_alive(&self) -> Result<()> {
        if self.switch.is_dead() { Err(Error::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl Kv for NodeKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check_alive()?;
        if mutation::is_hidden(key) {
            return Ok(None);
        }
        Ok(self.disk.state().entries.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.check_alive()?;
        if from >= to {
            return Ok(Vec::new());
        }
        let state = self.disk.state();
        let range = state.entries.range(from.to_vec()..to.to_vec()).map(|(key, value)| (key.clone(), value.clone()));
        Ok(if reverse { range.rev().take(limit).collect() } else { range.take(limit).collect() })
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome> {
        batch.validate()?;
        self.check_alive()?;
        // What was handed over goes its way, whether or not somebody still waits for it.
        tokio::spawn(write(Arc::clone(&self.disk), self.switch.clone(), batch)).await.unwrap()
    }

    async fn close(&self) {
        self.switch.kill();
    }
}

async fn write(disk: Arc<SimDisk>, switch: NodeSwitch, batch: Batch) -> Result<CommitOutcome> {
    tokio::time::sleep(disk.random.millis(0, 3)).await;
    if !switch.wait_until_running().await {
        return Err(Error::Closed);
    }
    let Some(failures) = disk.apply(&batch) else { return Ok(CommitOutcome::Rejected) };
    let hasty = mutation::is_active(Mutation::AnswerBeforeBarrier);
    if hasty {
        tokio::spawn(async move {
            tokio::time::sleep(disk.random.millis(1, 8)).await;
            disk.barrier(failures);
        });
        return Ok(CommitOutcome::Applied);
    }
    tokio::time::sleep(disk.random.millis(1, 8)).await;
    let durable = disk.barrier(failures);
    if switch.wait_until_running().await && durable { Ok(CommitOutcome::Applied) } else { Err(Error::Closed) }
}
