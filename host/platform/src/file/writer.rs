//! Content on its way into the store: held to the user's quota, its media type found out while it passes by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use konnector_store::{BlobInfo, BlobWriter};

use crate::instance::Instance;
use crate::{Platform, Result};

/// How much of the beginning is kept to find out the media type.
const HEAD: usize = 8 << 10;

/// Bytes that the user's quota still leaves to a run.
#[derive(Clone)]
pub struct Room(Arc<AtomicU64>);

impl Room {
    /// What the quota leaves now.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn of(platform: &Platform, instance: &Instance) -> Result<Self> {
        Ok(Self(Arc::new(AtomicU64::new(platform.space_left(instance)?))))
    }

    fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Content of `new` bytes is kept now, in place of `old` bytes.
    pub fn account(&self, old: u64, new: u64) {
        // The closure always answers a value.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_add(old).saturating_sub(new))
        });
    }
}

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
    room: Room,
    head: Vec<u8>,
    size: u64,
}

impl ContentWriter {
    /// Begins to take content.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn begin(platform: &Platform, room: Room) -> Result<Self> {
        Ok(Self { writer: platform.store.blobs().create().await?, room, head: Vec::new(), size: 0 })
    }

    /// Takes a part. Cancel safety: none; after a dropped call every further one fails.
    ///
    /// # Errors
    ///
    /// See [`NotWritten`].
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), NotWritten> {
        self.size += chunk.len() as u64;
        if self.size > self.room.left() {
            return Err(NotWritten::Full);
        }
        let missing = HEAD.saturating_sub(self.head.len());
        self.head.extend(chunk.iter().take(missing));
        self.writer.write(chunk).await.map_err(|error| NotWritten::Failed(error.into()))
    }

    /// What the content shows, else what the name promises.
    pub fn mime(&self, name: &str) -> String {
        match infer::get(&self.head) {
            Some(kind) => kind.mime_type().to_owned(),
            None => mime_guess::from_path(name).first_or_octet_stream().to_string(),
        }
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
