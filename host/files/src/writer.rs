//! Content on its way into the store: limited by the user's quota, with its media type detected from the stream.

use std::ops::Deref;

use bytes::Bytes;
use konnector_store::{BlobInfo, BlobWriter};

use super::usage::Reservation;
use crate::Files;
use crate::Result;
use konnector_documents::instance::Instance;

/// Number of leading bytes that are buffered to detect the media type.
const SNIFF_SIZE: usize = 8 << 10;

/// Reason why a part of the content was rejected.
pub enum ContentWriteError {
    /// The user's quota is exceeded.
    QuotaExceeded,
    /// The store failed.
    Failed(crate::Error),
}

/// Content that is being written.
pub struct ContentWriter {
    writer: Box<dyn BlobWriter>,
    reservation: Reservation,
    head: Vec<u8>,
    size: u64,
}

/// Written content that no file refers to yet. The bytes count against the quota while this value is held, so keep the
/// value until a file refers to the content.
#[derive(Debug)]
pub struct WrittenContent {
    pub(super) info: BlobInfo,
    #[expect(dead_code, reason = "released when it is dropped")]
    pub(super) reservation: Reservation,
}

impl Deref for WrittenContent {
    type Target = BlobInfo;

    fn deref(&self) -> &BlobInfo {
        &self.info
    }
}

impl Files {
    /// Starts to write content, up to the remaining quota of the instance. Written bytes are reserved until a file has
    /// them, so concurrent uploads cannot exceed the quota together.
    pub async fn create_content_writer(&self, instance: &Instance) -> Result<ContentWriter> {
        let reservation = self.begin_reservation(instance).await?;
        let writer = self.core.store().blobs().create().await?;
        Ok(ContentWriter { writer, reservation, head: Vec::new(), size: 0 })
    }
}

impl ContentWriter {
    /// Reserves the expected number of bytes; more may still be written.
    ///
    /// # Errors
    ///
    /// [`ContentWriteError::QuotaExceeded`] if the quota does not leave that many bytes.
    pub fn reserve(&mut self, size: u64) -> Result<(), ContentWriteError> {
        if self.reservation.reserve(size) { Ok(()) } else { Err(ContentWriteError::QuotaExceeded) }
    }

    /// Writes a part. Not cancel-safe: after a dropped call, all further calls fail.
    ///
    /// # Errors
    ///
    /// See [`ContentWriteError`].
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), ContentWriteError> {
        self.size += chunk.len() as u64;
        self.reserve(self.size)?;
        let missing = SNIFF_SIZE.saturating_sub(self.head.len()).min(chunk.len());
        self.head.extend_from_slice(chunk.get(..missing).unwrap_or_default());
        self.writer.write(chunk).await.map_err(|error| ContentWriteError::Failed(error.into()))
    }

    /// Returns the media type detected from the content, else from the name.
    pub fn mime(&self, name: &str) -> String {
        konnector_media_type::detect_with_name(&self.head, name).to_owned()
    }

    /// Makes the content durable; a file may then refer to it.
    pub async fn finish(self) -> Result<WrittenContent> {
        Ok(WrittenContent { info: self.writer.finish().await?, reservation: self.reservation })
    }
}
