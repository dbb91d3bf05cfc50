//! The writer thread. Commits that wait together share one barrier.

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
use crate::kv::{Batch, CommitOutcome};

/// A group with this many writes admits no further batch.
const MAX_GROUP_WRITES: usize = 1024;
/// Maximum time during which a group admits waiting batches.
const MAX_GROUP_DURATION: Duration = Duration::from_millis(2);
/// A barrier that takes longer is logged.
const SLOW_COMMIT_THRESHOLD: Duration = Duration::from_secs(1);

pub(super) enum WriterRequest {
    Commit { batch: Batch, reply: oneshot::Sender<Result<CommitOutcome>> },
    Close { reply: oneshot::Sender<()> },
}

/// The status that the writer publishes.
pub(super) struct WriterStatus {
    /// Set when the writer ends on request, but not when it dies.
    pub(super) closed: Arc<AtomicBool>,
    /// Incremented with each group of writes, once they can be read.
    pub(super) writes: Arc<AtomicU64>,
    /// Why commits are no longer accepted.
    pub(super) failure: watch::Sender<Option<String>>,
}

pub(super) struct DbWriter {
    db: sled::Db,
    barrier: Box<dyn Barrier>,
    incoming: mpsc::Receiver<WriterRequest>,
    status: WriterStatus,
    /// After a failed write, memory may be ahead of the disk, so no further commit is accepted.
    poisoned: bool,
    watchdog: Watchdog,
}

impl DbWriter {
    pub(super) fn new(
        db: sled::Db,
        barrier: Box<dyn Barrier>,
        incoming: mpsc::Receiver<WriterRequest>,
        status: WriterStatus,
        watchdog: Watchdog,
    ) -> Self {
        Self { db, barrier, incoming, status, poisoned: false, watchdog }
    }

    /// Runs until it receives a close request, or until all senders are dropped.
    pub(super) fn run(mut self) {
        while let Some(first) = self.incoming.blocking_recv() {
            if let ControlFlow::Break(reply) = self.process_group(first) {
                self.status.closed.store(true, Ordering::Release);
                drop(self);
                let _ = reply.send(());
                return;
            }
        }
    }

    /// Processes the waiting requests as one group. It does not wait for more, so a single commit goes to the disk at
    /// once, and requests that arrive in the meantime form the next group.
    fn process_group(&mut self, first: WriterRequest) -> ControlFlow<oneshot::Sender<()>> {
        let mut group = CommitGroup::default();
        let started = Instant::now();
        let mut next = Some(first);
        while let Some(request) = next {
            let (batch, reply) = match request {
                WriterRequest::Commit { batch, reply } => (batch, reply),
                WriterRequest::Close { reply } => {
                    self.finish_group(group);
                    return ControlFlow::Break(reply);
                }
            };
            let result = if self.poisoned { Err(Error::Poisoned) } else { group.admit(&self.db, &batch) };
            group.replies.push((reply, result));
            let full = group.writes.len() >= MAX_GROUP_WRITES || started.elapsed() >= MAX_GROUP_DURATION;
            next = if full { None } else { self.incoming.try_recv().ok() };
        }
        self.finish_group(group);
        ControlFlow::Continue(())
    }

    fn finish_group(&mut self, group: CommitGroup) {
        let CommitGroup { writes, replies: results } = group;
        if let Err(error) = self.make_durable(writes) {
            tracing::error!(%error, "a write to the disk failed; no change is accepted until a restart");
            self.poisoned = true;
            self.status.failure.send_replace(Some(error.to_string()));
        }
        for (reply, result) in results {
            let result = if self.poisoned { Err(Error::Poisoned) } else { result };
            // A dropped receiver has abandoned the reply, not the commit.
            let _ = reply.send(result);
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
        let (db, barrier, writes, started) = (&self.db, &mut self.barrier, &self.status.writes, Instant::now());
        self.watchdog.watch(|| {
            let applied = db.apply_batch(batch);
            // Increment even after a failure, because a part of the batch may be visible.
            writes.fetch_add(1, Ordering::Release);
            applied?;
            failpoint::hit("commit.applied")?;
            barrier.wait()?;
            failpoint::hit("commit.durable")?;
            Ok::<_, WriteError>(())
        })?;
        let elapsed = started.elapsed();
        if elapsed > SLOW_COMMIT_THRESHOLD {
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
struct CommitGroup {
    /// The combined writes of the batches so far, `None` for a removal.
    writes: HashMap<Vec<u8>, Option<Vec<u8>>>,
    replies: Vec<(oneshot::Sender<Result<CommitOutcome>>, Result<CommitOutcome>)>,
}

impl CommitGroup {
    /// Admits a batch if its checks hold after the earlier ones.
    fn admit(&mut self, db: &sled::Db, batch: &Batch) -> Result<CommitOutcome> {
        let matches = |key: &[u8], expected: Option<&[u8]>| match self.writes.get(key) {
            Some(value) => Ok(value.as_deref() == expected),
            None => Ok(db.get(key)?.as_deref() == expected),
        };
        if !batch.checks_hold(matches)? {
            return Ok(CommitOutcome::Rejected);
        }
        let read = |key: &[u8]| match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => Ok(db.get(key)?.map(|value| value.to_vec())),
        };
        let writes = batch.resolve_writes(read)?;
        self.writes.extend(writes);
        Ok(CommitOutcome::Applied)
    }
}
