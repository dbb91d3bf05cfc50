//! The thread that writes. Commits that wait together share one barrier.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::barrier::Barrier;
use super::watchdog::Watchdog;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::kv::{Batch, Committed};

/// A group with this many writes takes in no further batch.
const GROUP_WRITES: usize = 1024;
/// How long a group takes in what waits.
const GROUP_TIME: Duration = Duration::from_millis(2);
/// A barrier that takes longer is worth a line in the log.
const SLOW: Duration = Duration::from_secs(1);

pub(super) enum Request {
    Commit { batch: Batch, reply: oneshot::Sender<Result<Committed>> },
    Close { reply: oneshot::Sender<()> },
}

/// What the writer tells everybody.
pub(super) struct Told {
    /// Set when the writer ends because it was told to, and not when it dies.
    pub(super) closed: Arc<AtomicBool>,
    /// Grows with each group of writes, once they can be read.
    pub(super) writes: Arc<AtomicU64>,
    /// Why nothing more is accepted.
    pub(super) failed: watch::Sender<Option<String>>,
}

pub(super) struct Writer {
    db: sled::Db,
    barrier: Box<dyn Barrier>,
    incoming: mpsc::Receiver<Request>,
    told: Told,
    /// After a failed write, memory may be ahead of the disk: nothing more is accepted.
    poisoned: bool,
    watchdog: Watchdog,
}

impl Writer {
    pub(super) fn new(
        db: sled::Db,
        barrier: Box<dyn Barrier>,
        incoming: mpsc::Receiver<Request>,
        told: Told,
        watchdog: Watchdog,
    ) -> Self {
        Self { db, barrier, incoming, told, poisoned: false, watchdog }
    }

    /// Serves until it is told to close, or until nobody is left to ask.
    pub(super) fn run(mut self) {
        while let Some(first) = self.incoming.blocking_recv() {
            if let ControlFlow::Break(reply) = self.serve(first) {
                self.told.closed.store(true, Ordering::Release);
                drop(self);
                let _ = reply.send(());
                return;
            }
        }
    }

    /// Handles what waits now as one group. Nothing is waited for: a commit alone goes to the disk at once, and what arrives
    /// meanwhile is the next group.
    fn serve(&mut self, first: Request) -> ControlFlow<oneshot::Sender<()>> {
        let mut group = Group::default();
        let started = Instant::now();
        let mut next = Some(first);
        while let Some(request) = next {
            let (batch, reply) = match request {
                Request::Commit { batch, reply } => (batch, reply),
                Request::Close { reply } => {
                    self.finish(group);
                    return ControlFlow::Break(reply);
                }
            };
            let answer = if self.poisoned { Err(Error::Poisoned) } else { group.admit(&self.db, &batch) };
            group.answers.push((reply, answer));
            let full = group.writes.len() >= GROUP_WRITES || started.elapsed() >= GROUP_TIME;
            next = if full { None } else { self.incoming.try_recv().ok() };
        }
        self.finish(group);
        ControlFlow::Continue(())
    }

    fn finish(&mut self, group: Group) {
        let Group { writes, answers } = group;
        if let Err(error) = self.make_durable(writes) {
            tracing::error!(%error, "the disk failed a write: nothing more is accepted until a restart");
            self.poisoned = true;
            self.told.failed.send_replace(Some(error.to_string()));
        }
        for (reply, answer) in answers {
            let answer = if self.poisoned { Err(Error::Poisoned) } else { answer };
            // Who no longer waits has given up on the answer, not on the commit.
            let _ = reply.send(answer);
        }
    }

    fn make_durable(&mut self, writes: HashMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), WriteError> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let (db, barrier, writes, started) = (&self.db, &mut self.barrier, &self.told.writes, Instant::now());
        self.watchdog.watch(|| {
            let applied = db.apply_batch(batch);
            // Also when it failed: part of it may be seen.
            writes.fetch_add(1, Ordering::Release);
            applied?;
            failpoint::hit("commit.applied")?;
            barrier.wait()?;
            failpoint::hit("commit.durable")?;
            Ok::<_, WriteError>(())
        })?;
        let elapsed = started.elapsed();
        if elapsed > SLOW {
            tracing::warn!(?elapsed, "the disk is slow to make a commit durable");
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Apply(#[from] sled::Error),
    #[error("the barrier failed: {0}")]
    Barrier(#[from] std::io::Error),
}

/// Batches that become durable together.
#[derive(Default)]
struct Group {
    /// What the batches so far leave, `None` for a removal.
    writes: HashMap<Vec<u8>, Option<Vec<u8>>>,
    answers: Vec<(oneshot::Sender<Result<Committed>>, Result<Committed>)>,
}

impl Group {
    /// Takes a batch in if its checks hold after those before it.
    fn admit(&mut self, db: &sled::Db, batch: &Batch) -> Result<Committed> {
        let matches = |key: &[u8], expected: Option<&[u8]>| match self.writes.get(key) {
            Some(value) => Ok(value.as_deref() == expected),
            None => Ok(db.get(key)?.as_deref() == expected),
        };
        if !batch.holds(matches)? {
            return Ok(Committed::Refused);
        }
        let read = |key: &[u8]| match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => Ok(db.get(key)?.map(|value| value.to_vec())),
        };
        let writes = batch.writes(read)?;
        self.writes.extend(writes);
        Ok(Committed::Applied)
    }
}
