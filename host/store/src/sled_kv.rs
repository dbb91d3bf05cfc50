//! The ordered map on sled 0.34.7.
//!
//! Unexpected behaviour of this version, and how this module deals with it:
//! - `flush` starts the write-back of the log but does not wait for the drive, so [`barrier`] adds the fsync;
//! - large pages become files that are never synced, so entries stay small ([`crate::Batch::validate`]);
//! - a failed write leaves memory ahead of the disk, so no further commit is accepted after a failure;
//! - sled may fail to read its state after a kill at the wrong moment, so [`crate::open`] removes the cause;
//! - transactions share one lock across all databases of a process, so the store uses batches from one thread instead.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::kv::{Batch, CommitOutcome, Kv};

mod barrier;
mod watchdog;
mod writer;

use barrier::{Barrier, FileBarrier};
use watchdog::Watchdog;
use writer::{DbWriter, WriterRequest};

/// Capacity of the writer's queue; further commits wait for a place in it.
const MAX_PENDING_COMMITS: usize = 1024;

/// A sled database with one thread that writes.
pub(crate) struct SledKv {
    db: sled::Db,
    /// `None` only while being dropped.
    requests: Option<mpsc::Sender<WriterRequest>>,
    closed: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    failure: watch::Receiver<Option<String>>,
    writer: Option<JoinHandle<()>>,
}

impl SledKv {
    /// Takes over a database that was opened in `dir`, and makes its data durable.
    pub(crate) fn new(db: sled::Db, dir: &Path) -> Result<Self> {
        let mut barrier = FileBarrier::new(db.clone(), dir)?;
        barrier.wait().map_err(Error::io("sync", dir))?;
        Self::with_barrier(db, Box::new(barrier)).map_err(Error::io("start the thread that writes to", dir))
    }

    fn with_barrier(db: sled::Db, barrier: Box<dyn Barrier>) -> std::io::Result<Self> {
        let (requests, incoming) = mpsc::channel(MAX_PENDING_COMMITS);
        let closed = Arc::new(AtomicBool::new(false));
        let writes = Arc::new(AtomicU64::new(0));
        let (failed, failure) = watch::channel(None);
        let watchdog = Watchdog::start(watchdog::WRITE_TIMEOUT, watchdog::abort_process)?;
        let status = writer::WriterStatus { closed: Arc::clone(&closed), writes: Arc::clone(&writes), failure: failed };
        let writer = DbWriter::new(db.clone(), barrier, incoming, status, watchdog);
        let writer = thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run())?;
        Ok(Self { db, requests: Some(requests), closed, writes, failure, writer: Some(writer) })
    }

    /// Returns why the writer does not respond. A writer that died may have written before.
    fn writer_error(&self) -> Error {
        if self.closed.load(Ordering::Acquire) { Error::Closed } else { Error::Poisoned }
    }

    async fn send(&self, request: WriterRequest) -> Result<()> {
        let requests = self.requests.as_ref().ok_or(Error::Closed)?;
        requests.send(request).await.map_err(|_| self.writer_error())
    }
}

#[async_trait]
impl Kv for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = self.db.range(from..to);
        let copy = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = entry?;
            Ok((key.to_vec(), value.to_vec()))
        };
        if reverse { entries.rev().take(limit).map(copy).collect() } else { entries.take(limit).map(copy).collect() }
    }

    fn write_count(&self) -> Option<u64> {
        Some(self.writes.load(Ordering::Acquire))
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome> {
        batch.validate()?;
        let (reply, result) = oneshot::channel();
        self.send(WriterRequest::Commit { batch, reply }).await?;
        result.await.unwrap_or_else(|_| Err(self.writer_error()))
    }

    async fn wait_for_failure(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(reason) => reason.unwrap_or_default(),
            Err(_) if self.closed.load(Ordering::Acquire) => std::future::pending().await,
            Err(_) => "the thread that writes to the database died".to_owned(),
        }
    }

    async fn close(&self) {
        let (reply, result) = oneshot::channel();
        if self.send(WriterRequest::Close { reply }).await.is_ok() {
            let _ = result.await;
        }
    }
}

/// Waits until all writes to a database in `dir` are durable.
pub(crate) fn make_durable(db: &sled::Db, dir: &Path) -> Result<()> {
    FileBarrier::new(db.clone(), dir)?.wait().map_err(Error::io("sync", dir))
}

impl Drop for SledKv {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes to the database had died");
        }
    }
}

#[cfg(test)]
mod tests;
