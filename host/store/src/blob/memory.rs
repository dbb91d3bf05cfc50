//! Blobs in memory, for tests.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::digests::Digests;
use super::{BlobId, BlobInfo, BlobReader, BlobWriter, Blobs};
use crate::error::{Error, Result};

/// Blobs that exist as long as the process. Clones share them.
#[derive(Default, Clone)]
pub struct MemoryBlobs {
    blobs: Arc<Mutex<HashMap<BlobId, Bytes>>>,
}

impl MemoryBlobs {
    fn blobs(&self) -> MutexGuard<'_, HashMap<BlobId, Bytes>> {
        self.blobs.lock()
    }

    fn get(&self, id: &BlobId) -> Result<Bytes> {
        self.blobs().get(id).cloned().ok_or(Error::BlobNotFound { blob: *id })
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn create_as(&self, id: BlobId) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(MemoryBlobWriter { id, blobs: self.clone(), content: Vec::new(), digests: Digests::default() }))
    }

    async fn duplicate(&self, id: &BlobId) -> Result<BlobId> {
        let (content, copy) = (self.get(id)?, BlobId::new());
        self.blobs().insert(copy, content);
        Ok(copy)
    }

    async fn open(&self, id: &BlobId) -> Result<Box<dyn BlobReader>> {
        Ok(Box::new(Cursor::new(self.get(id)?)))
    }

    fn read(&self, id: &BlobId) -> Result<Vec<u8>> {
        self.get(id).map(Vec::from)
    }

    async fn size(&self, id: &BlobId) -> Result<u64> {
        self.get(id).map(|content| content.len() as u64)
    }

    async fn remove(&self, id: &BlobId) -> Result<()> {
        self.blobs().remove(id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<BlobId>> {
        Ok(self.blobs().keys().copied().collect())
    }
}

struct MemoryBlobWriter {
    id: BlobId,
    blobs: MemoryBlobs,
    content: Vec<u8>,
    digests: Digests,
}

#[async_trait]
impl BlobWriter for MemoryBlobWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.digests.update(&chunk);
        self.content.extend_from_slice(&chunk);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<BlobInfo> {
        let info = self.digests.finish(self.id);
        self.blobs.blobs().insert(info.id, self.content.into());
        Ok(info)
    }
}
