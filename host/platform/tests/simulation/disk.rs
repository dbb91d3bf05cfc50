//! A store that applies commits in memory, makes them durable a moment later, and forgets what was not durable when all power fails; and
//! one node's way to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use konnector_store::{Batch, CommitOutcome, Error, Kv, Result};
use tokio::sync::Notify;

use crate::dice::Dice;
use crate::mutation::{self, Mutation};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default)]
struct State {
    /// What reads see.
    entries: Entries,
    /// What the writes since the last barrier replaced, in order.
    undo: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// How often the power failed.
    failures: u64,
    /// The newest lease that a job's run wrote with.
    wrote: HashMap<String, u64>,
    faults: Vec<String>,
}

impl State {
    /// What runs write is named `<job>.<epoch>.<name>`.
    fn check_epoch(&mut self, key: &[u8]) {
        let name = String::from_utf8_lossy(key);
        let Some((_, id)) = name.split_once("io.cozy.bills\0") else { return };
        let mut parts = id.split('.');
        let (Some(job), Some(epoch)) = (parts.next(), parts.next().and_then(|epoch| epoch.parse().ok())) else {
            return;
        };
        let newest = self.wrote.entry(job.to_owned()).or_insert(epoch);
        if *newest > epoch {
            self.faults.push(format!("the job {job} was written to by lease {epoch} after lease {newest}"));
        }
        *newest = epoch;
    }
}

/// The one disk of all nodes.
pub struct Disk {
    state: Mutex<State>,
    dice: Arc<Dice>,
    commits: AtomicU64,
    applied: Notify,
}

impl Disk {
    pub fn new(dice: Arc<Dice>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), dice, commits: AtomicU64::new(0), applied: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub fn faults(&self) -> Vec<String> {
        self.state().faults.clone()
    }

    /// Returns a moment after some commit was applied, mostly before it is durable.
    pub async fn in_the_middle(&self) {
        self.applied.notified().await;
        tokio::time::sleep(self.dice.millis(0, 9)).await;
    }

    /// All power fails: what no barrier made durable is gone.
    pub fn fail(&self) -> usize {
        let mut state = self.state();
        state.failures += 1;
        state.wrote.clear();
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
            Ok(mutation::hides(key) || state.entries.get(key).map(Vec::as_slice) == expected)
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
        Some(state.failures)
    }

    /// Makes everything applied so far durable, unless the power failed since.
    fn barrier(&self, failures: u64) -> bool {
        let mut state = self.state();
        if state.failures != failures {
            return false;
        }
        state.undo.clear();
        true
    }
}

/// Whether a node goes on, stands still or is gone.
#[derive(Clone, Default)]
pub struct Switch(Arc<Position>);

#[derive(Default)]
struct Position {
    asleep: AtomicBool,
    dead: AtomicBool,
    /// Wakes in the order of waiting, which a watch channel does not.
    changed: Notify,
}

impl Switch {
    pub fn pause_for(&self, time: Duration) {
        self.0.asleep.store(true, Ordering::SeqCst);
        let switch = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            switch.resume();
        });
    }

    pub fn resume(&self) {
        self.0.asleep.store(false, Ordering::SeqCst);
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
    pub async fn moves(&self) -> bool {
        while self.0.asleep.load(Ordering::SeqCst) {
            self.0.changed.notified().await;
        }
        !self.is_dead()
    }
}

/// The disk as one node sees it.
pub struct NodeKv {
    pub disk: Arc<Disk>,
    pub switch: Switch,
}

impl NodeKv {
    fn alive(&self) -> Result<()> {
        if self.switch.is_dead() { Err(Error::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl Kv for NodeKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.alive()?;
        if mutation::hides(key) {
            return Ok(None);
        }
        Ok(self.disk.state().entries.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.alive()?;
        if from >= to {
            return Ok(Vec::new());
        }
        let state = self.disk.state();
        let range = state.entries.range(from.to_vec()..to.to_vec()).map(|(key, value)| (key.clone(), value.clone()));
        Ok(if reverse { range.rev().take(limit).collect() } else { range.take(limit).collect() })
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome> {
        batch.validate()?;
        self.alive()?;
        // What was handed over goes its way, whether or not somebody still waits for it.
        tokio::spawn(write(Arc::clone(&self.disk), self.switch.clone(), batch)).await.unwrap()
    }

    async fn close(&self) {
        self.switch.kill();
    }
}

async fn write(disk: Arc<Disk>, switch: Switch, batch: Batch) -> Result<CommitOutcome> {
    tokio::time::sleep(disk.dice.millis(0, 3)).await;
    if !switch.moves().await {
        return Err(Error::Closed);
    }
    let Some(failures) = disk.apply(&batch) else { return Ok(CommitOutcome::Rejected) };
    let hasty = mutation::is(Mutation::AnswerBeforeBarrier);
    if hasty {
        tokio::spawn(async move {
            tokio::time::sleep(disk.dice.millis(1, 8)).await;
            disk.barrier(failures);
        });
        return Ok(CommitOutcome::Applied);
    }
    tokio::time::sleep(disk.dice.millis(1, 8)).await;
    let durable = disk.barrier(failures);
    if switch.moves().await && durable { Ok(CommitOutcome::Applied) } else { Err(Error::Closed) }
}
