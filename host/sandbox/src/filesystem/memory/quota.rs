//! The quota of `/tmp`. Dropping the last reference to a file or directory releases its share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ErrorCode;

/// Space and number of nodes that one run has used of its limits.
#[derive(Debug)]
pub(crate) struct ScratchQuota {
    bytes: AtomicU64,
    nodes: AtomicU64,
    /// Number of the next inode; inodes are never reused.
    next_inode: AtomicU64,
    bytes_limit: u64,
    nodes_limit: u64,
}

impl ScratchQuota {
    pub(crate) fn new(bytes_limit: u64, nodes_limit: u32) -> Arc<Self> {
        Arc::new(Self {
            bytes: 0.into(),
            nodes: 0.into(),
            next_inode: 0.into(),
            bytes_limit,
            nodes_limit: nodes_limit.into(),
        })
    }

    fn reserve(counter: &AtomicU64, amount: u64, limit: u64) -> Result<(), ErrorCode> {
        let add = |used: u64| used.checked_add(amount).filter(|sum| *sum <= limit);
        let result = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        result.map(drop).map_err(|_| ErrorCode::InsufficientSpace)
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.nodes.load(Ordering::Relaxed))
    }
}

/// Reservation for one file or directory.
#[derive(Debug)]
pub(crate) struct NodeReservation(Arc<ScratchQuota>);

impl NodeReservation {
    pub(crate) fn reserve(quota: &Arc<ScratchQuota>) -> Result<Self, ErrorCode> {
        ScratchQuota::reserve(&quota.nodes, 1, quota.nodes_limit)?;
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
            Some(more) => ScratchQuota::reserve(&self.quota.bytes, more, self.quota.bytes_limit)?,
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
