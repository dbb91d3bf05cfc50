//! The quota of `/tmp`. Dropping the last reference to a file or directory releases its share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use konnector_manifest::Limit;

use super::ErrorCode;
use crate::capability::QuotaKind;

/// Reports a reached limit.
type QuotaReporter = Box<dyn Fn(QuotaKind) + Send + Sync>;

/// Space and number of nodes that one run has used of its limits.
pub(crate) struct ScratchQuota {
    bytes: AtomicU64,
    nodes: AtomicU64,
    /// Number of the next inode; inodes are never reused.
    next_inode: AtomicU64,
    bytes_limit: u64,
    nodes_limit: u64,
    report: QuotaReporter,
}

impl fmt::Debug for ScratchQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScratchQuota").field("bytes", &self.bytes).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl ScratchQuota {
    /// Creates a quota for `files_limit` files and directories besides the root.
    pub(crate) fn new(
        bytes_limit: u64,
        files_limit: u32,
        report: impl Fn(QuotaKind) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            bytes: 0.into(),
            nodes: 0.into(),
            next_inode: 0.into(),
            bytes_limit,
            nodes_limit: u64::from(files_limit).saturating_add(1),
            report: Box::new(report),
        })
    }

    fn reserve_bytes(&self, amount: u64) -> Result<(), ErrorCode> {
        reserve(&self.bytes, amount, self.bytes_limit)
            .ok_or_else(|| self.exceeded(QuotaKind::Limit { limit: Limit::Scratch, value: self.bytes_limit }))
    }

    fn reserve_node(&self) -> Result<(), ErrorCode> {
        let value = self.nodes_limit.saturating_sub(1);
        reserve(&self.nodes, 1, self.nodes_limit)
            .ok_or_else(|| self.exceeded(QuotaKind::Limit { limit: Limit::ScratchFiles, value }))
    }

    /// Reports a limit of the run; returns the code of all such limits.
    fn exceeded(&self, quota: QuotaKind) -> ErrorCode {
        (self.report)(quota);
        ErrorCode::Quota
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.nodes.load(Ordering::Relaxed))
    }
}

/// Adds an amount if the sum does not exceed the limit.
fn reserve(counter: &AtomicU64, amount: u64, limit: u64) -> Option<()> {
    let add = |used: u64| used.checked_add(amount).filter(|sum| *sum <= limit);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok().map(drop)
}

/// Reservation for one file or directory.
#[derive(Debug)]
pub(crate) struct NodeReservation(Arc<ScratchQuota>);

impl NodeReservation {
    pub(crate) fn reserve(quota: &Arc<ScratchQuota>) -> Result<Self, ErrorCode> {
        quota.reserve_node()?;
        Ok(Self(Arc::clone(quota)))
    }

    /// Returns a number that no other file or directory of the run has or had. It reveals nothing about other runs.
    pub(crate) fn new_inode(&self) -> u64 {
        self.0.next_inode.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn quota(&self) -> &Arc<ScratchQuota> {
        &self.0
    }
}

impl Drop for NodeReservation {
    fn drop(&mut self) {
        self.0.nodes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reservation of a number of bytes.
#[derive(Debug)]
pub(crate) struct ByteReservation {
    quota: Arc<ScratchQuota>,
    bytes: u64,
}

impl ByteReservation {
    pub(crate) fn empty(quota: Arc<ScratchQuota>) -> Self {
        Self { quota, bytes: 0 }
    }

    /// Changes the number of reserved bytes. Changes nothing if the quota is insufficient.
    pub(crate) fn resize(&mut self, bytes: u64) -> Result<(), ErrorCode> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.quota.reserve_bytes(more)?,
            None => drop(self.quota.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed)),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for ByteReservation {
    fn drop(&mut self) {
        self.quota.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
