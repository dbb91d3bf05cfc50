//! Blobs whose deletion is deferred while a backup is made.

use parking_lot::{Mutex, MutexGuard};

use async_trait::async_trait;

use super::{BlobId, BlobReader, BlobWriter, Blobs};
use crate::error::Result;

/// Forwards all operations, but defers removals while a pin exists.
pub(crate) struct DeferredDeletes {
    blobs: Box<dyn Blobs>,
    state: Mutex<DeferredState>,
}

#[derive(Default)]
struct DeferredState {
    /// Whether removals are deferred.
    pinned: bool,
    /// Deferred removals that are still to be done.
    pending: Vec<BlobId>,
}

/// Defers removals. [`PinGuard::release`] executes them; if the guard is dropped instead, the next removal does.
pub(crate) struct PinGuard<'a>(&'a DeferredDeletes);

impl DeferredDeletes {
    pub(crate) fn new(blobs: Box<dyn Blobs>) -> Self {
        Self { blobs, state: Mutex::default() }
    }

    pub(crate) fn pin(&self) -> PinGuard<'_> {
        self.state().pinned = true;
        PinGuard(self)
    }

    fn state(&self) -> MutexGuard<'_, DeferredState> {
        self.state.lock()
    }

    /// Executes the deferred removals, unless a pin exists.
    async fn delete_pending(&self) {
        let put_off = {
            let mut removed = self.state();
            if removed.pinned { Vec::new() } else { std::mem::take(&mut removed.pending) }
        };
        for blob in put_off {
            if let Err(error) = self.blobs.remove(&blob).await {
                tracing::warn!(%error, "an unreferenced blob stays until the next sweep");
            }
        }
    }
}

impl PinGuard<'_> {
    pub(crate) async fn release(self) {
        let keeper = self.0;
        drop(self);
        keeper.delete_pending().await;
    }
}

impl Drop for PinGuard<'_> {
    fn drop(&mut self) {
        self.0.state().pinned = false;
    }
}

#[async_trait]
impl Blobs for DeferredDeletes {
    async fn create_as(&self, id: BlobId) -> Result<Box<dyn BlobWriter>> {
        self.blobs.create_as(id).await
    }

    async fn duplicate(&self, id: &BlobId) -> Result<BlobId> {
        self.blobs.duplicate(id).await
    }

    async fn open(&self, id: &BlobId) -> Result<Box<dyn BlobReader>> {
        self.blobs.open(id).await
    }

    fn read(&self, id: &BlobId) -> Result<Vec<u8>> {
        self.blobs.read(id)
    }

    async fn size(&self, id: &BlobId) -> Result<u64> {
        self.blobs.size(id).await
    }

    async fn remove(&self, id: &BlobId) -> Result<()> {
        {
            let mut removed = self.state();
            if removed.pinned {
                removed.pending.push(*id);
                return Ok(());
            }
        }
        self.delete_pending().await;
        self.blobs.remove(id).await
    }

    async fn list(&self) -> Result<Vec<BlobId>> {
        self.blobs.list().await
    }
}
