//! Content on its way into the store: held to the user's quota, its media type found out while it passes by.

use bytes::Bytes;
use konnector_sandbox::sniff::media_type;
use konnector_store::{BlobInfo, BlobWriter};

use crate::instance::Instance;
use crate::{Platform, Result};

/// How much of the beginning is kept to find out the media type.
const HEAD: usize = 8 << 10;

/// Why a part of the content was not taken.
pub enum NotWritten {
    /// The user's quota.
    Full,
    /// The store.
    Failed(crate::Error),
}

/// Content that is being written.
pub struct ContentWriter {
    writer: Box<dyn BlobWriter>,
    platform: Platform,
    instance: Instance,
    head: Vec<u8>,
    size: u64,
}

impl Platform {
    /// Begins to take content, of as many bytes as the instance's quota leaves: others may take of them at any time.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn begin_content(&self, instance: &Instance) -> Result<ContentWriter> {
        let writer = self.store.blobs().create().await?;
        let (platform, instance) = (self.clone(), instance.clone());
        Ok(ContentWriter { writer, platform, instance, head: Vec::new(), size: 0 })
    }
}

impl ContentWriter {
    /// Takes a part. Cancel safety: none; after a dropped call every further one fails.
    ///
    /// # Errors
    ///
    /// See [`NotWritten`].
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), NotWritten> {
        self.size += chunk.len() as u64;
        if self.size > self.platform.space_left(&self.instance).await.map_err(NotWritten::Failed)? {
            return Err(NotWritten::Full);
        }
        let missing = HEAD.saturating_sub(self.head.len()).min(chunk.len());
        self.head.extend_from_slice(chunk.get(..missing).unwrap_or_default());
        self.writer.write(chunk).await.map_err(|error| NotWritten::Failed(error.into()))
    }

    /// What the content shows, else what the name promises.
    pub fn mime(&self, name: &str) -> String {
        media_type(&self.head, name).to_owned()
    }

    /// Makes the content durable; a file may refer to it now.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn finish(self) -> Result<BlobInfo> {
        Ok(self.writer.finish().await?)
    }
}
