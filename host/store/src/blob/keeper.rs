//! Blobs that stay while a backup is made, although they were removed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{BlobId, BlobReader, BlobWriter, Blobs};
use crate::error::Result;

/// Passes everything on, and puts off removals while it is told to.
pub(crate) struct Keeper {
    blobs: Box<dyn Blobs>,
    removed: Mutex<Removed>,
}

#[derive(Default)]
struct Removed {
    /// Whether removals are put off.
    kept: bool,
    /// Those that were, and are not made up for.
    put_off: Vec<BlobId>,
}

/// Puts off removals. [`Kept::release`] catches up on them; when it is dropped instead, whatever is removed next does.
pub(crate) struct Kept<'a>(&'a Keeper);

impl Keeper {
    pub(crate) fn new(blobs: Box<dyn Blobs>) -> Self {
        Self { blobs, removed: Mutex::default() }
    }

    pub(crate) fn keep(&self) -> Kept<'_> {
        self.removed().kept = true;
        Kept(self)
    }

    fn removed(&self) -> MutexGuard<'_, Removed> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what was put off, unless it still is.
    async fn catch_up(&self) {
        let put_off = {
            let mut removed = self.removed();
            if removed.kept { Vec::new() } else { std::mem::take(&mut removed.put_off) }
        };
        for blob in put_off {
            if let Err(error) = self.blobs.remove(&blob).await {
                tracing::warn!(%error, "a content that nothing needs stays until the next sweep");
            }
        }
    }
}

impl Kept<'_> {
    pub(crate) async fn release(self) {
        let keeper = self.0;
        drop(self);
        keeper.catch_up().await;
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.removed().kept = false;
    }
}

#[async_trait]
impl Blobs for Keeper {
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
            let mut removed = self.removed();
            if removed.kept {
                removed.put_off.push(*id);
                return Ok(());
            }
        }
        self.catch_up().await;
        self.blobs.remove(id).await
    }

    async fn list(&self) -> Result<Vec<BlobId>> {
        self.blobs.list().await
    }
}
