//! Blobs that stay while a backup is made, although they were removed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{BlobId, BlobReader, BlobWriter, Blobs};
use crate::error::Result;

/// Passes everything on, and puts off removals while it is told to.
pub(crate) struct Keeper {
    blobs: Box<dyn Blobs>,
    removed: Mutex<Option<Vec<BlobId>>>,
}

/// Puts off removals. [`Kept::release`] catches up on them; when it is dropped instead, the blobs stay until the next sweep.
pub(crate) struct Kept<'a>(&'a Keeper);

impl Keeper {
    pub(crate) fn new(blobs: Box<dyn Blobs>) -> Self {
        Self { blobs, removed: Mutex::new(None) }
    }

    pub(crate) fn keep(&self) -> Kept<'_> {
        *self.removed() = Some(Vec::new());
        Kept(self)
    }

    fn removed(&self) -> MutexGuard<'_, Option<Vec<BlobId>>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept<'_> {
    pub(crate) async fn release(self) {
        let removed = self.0.removed().take().unwrap_or_default();
        for blob in removed {
            if let Err(error) = self.0.blobs.remove(&blob).await {
                tracing::warn!(%error, "a content that nothing needs stays until the next sweep");
            }
        }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        *self.0.removed() = None;
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
        if let Some(removed) = self.removed().as_mut() {
            removed.push(*id);
            return Ok(());
        }
        self.blobs.remove(id).await
    }

    async fn list(&self) -> Result<Vec<BlobId>> {
        self.blobs.list().await
    }
}
