//! Blobs, which are too large for the map: files, and documents over a few KiB.

use std::fmt;
use std::io;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncSeek};
use uuid::Uuid;

use crate::error::{Error, Result};

mod deferred_deletes;
mod digests;
mod disk;
mod memory;
mod verified;

pub(crate) use deferred_deletes::DeferredDeletes;
pub(crate) use disk::DiskBlobs;
pub use memory::MemoryBlobs;
pub use verified::VerifiedReader;
pub(crate) use verified::into_store_error;

/// The name of a blob: 32 lower-case hexadecimal digits (UUID version 7). A blob never changes and has one owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId(Uuid);

impl BlobId {
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7())
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Returns when the writer of the blob was created, to the millisecond.
    #[must_use]
    pub fn created_at(&self) -> DateTime<Utc> {
        let made = self.0.get_timestamp().map(|timestamp| timestamp.to_unix());
        made.and_then(|(seconds, nanos)| DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos))
            .unwrap_or_default()
    }
}

impl FromStr for BlobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 16];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if !text.contains(|c: char| c.is_ascii_uppercase()) => Ok(Self(Uuid::from_bytes(bytes))),
            _ => Err(Error::Invalid {
                field: "blob id",
                reason: format!("{text:?} is not 32 lower-case hexadecimal digits"),
            }),
        }
    }
}

impl TryFrom<String> for BlobId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Uuid> for BlobId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Classifies a failed read of a blob. Only an error of the blob itself makes it unreadable.
pub(crate) fn classify_read_error(blob: BlobId, source: io::Error) -> Result<Error, io::Error> {
    let is_of_disk = source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    match source.kind() {
        io::ErrorKind::NotFound => Ok(Error::BlobNotFound { blob }),
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied => {
            Ok(Error::BlobUnreadable { blob, source })
        }
        _ if is_of_disk => Ok(Error::BlobUnreadable { blob, source }),
        _ => Err(source),
    }
}

/// Metadata of a written blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Name under which the blob is stored.
    pub id: BlobId,
    /// Size in bytes.
    pub size: u64,
    /// The MD5 of the content (what the Cozy API shows as `md5sum`).
    pub md5: [u8; 16],
    /// The SHA-256 of the content.
    pub sha256: [u8; 32],
}

/// Reader of a blob that can start at any position.
pub trait BlobReader: AsyncRead + AsyncSeek + Send + Unpin {}

impl<T: AsyncRead + AsyncSeek + Send + Unpin> BlobReader for T {}

/// Storage of blobs.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Starts a new blob, which exists once its writer has finished.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the disk fails.
    async fn create(&self) -> Result<Box<dyn BlobWriter>> {
        self.create_as(BlobId::new()).await
    }

    /// Like `create`, with a name from a backup.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the disk fails.
    async fn create_as(&self, id: BlobId) -> Result<Box<dyn BlobWriter>>;

    /// Duplicates a blob; the two are independent, so removing one does not affect the other.
    ///
    /// # Errors
    ///
    /// [`Error::BlobNotFound`] if it does not exist; [`Error::Io`] if the disk fails.
    async fn duplicate(&self, id: &BlobId) -> Result<BlobId>;

    /// Opens a blob at its start.
    ///
    /// # Errors
    ///
    /// [`Error::BlobNotFound`] if it does not exist; [`Error::Io`] if the disk fails.
    async fn open(&self, id: &BlobId) -> Result<Box<dyn BlobReader>>;

    /// Reads a whole blob on the calling thread. For documents, which are small.
    ///
    /// # Errors
    ///
    /// [`Error::BlobNotFound`] if it does not exist; [`Error::Io`] if the disk fails.
    fn read(&self, id: &BlobId) -> Result<Vec<u8>>;

    /// Returns the size of a blob in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::BlobNotFound`] if it does not exist; [`Error::Io`] if the disk fails.
    async fn size(&self, id: &BlobId) -> Result<u64>;

    /// Removes a blob; does nothing if it does not exist. A reader that has already opened it can read it to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the disk fails.
    async fn remove(&self, id: &BlobId) -> Result<()>;

    /// Returns the names of all blobs, in no particular order.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the disk fails.
    async fn list(&self) -> Result<Vec<BlobId>>;
}

/// Writer of one blob. If it is dropped before the end, nothing remains.
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends to the blob.
    ///
    /// Not cancel-safe: after a dropped call, every later call fails.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the disk fails.
    async fn write(&mut self, chunk: Bytes) -> Result<()>;

    /// Makes the blob durable. Only then may anything refer to it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; nothing may refer to the blob then.
    async fn finish(self: Box<Self>) -> Result<BlobInfo>;
}
