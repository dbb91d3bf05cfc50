//! Verification of a blob against its checksum while it is read.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, ReadBuf};

use super::{BlobId, BlobReader, classify_read_error};
use crate::error::{Error, Result};
use crate::fsck::BlobLink;
use crate::store::Store;

/// Number of bytes read and hashed at a time, which takes some 0.1 ms of hashing between two polls.
const CHUNK_BYTES: usize = 64 * 1024;

/// Reader of a blob. It returns the last bytes only after the checksum of the whole matches; otherwise the read fails
/// with [`io::ErrorKind::InvalidData`], so no caller mistakes a damaged blob for a complete one.
///
/// A reader that skips a part cannot compute the checksum of the whole; it checks only the size. Seeking to the start
/// begins anew.
pub struct VerifiedReader {
    inner: Box<dyn BlobReader>,
    blob: BlobId,
    size: u64,
    sha256: Option<String>,
    /// `None` after a part was skipped.
    hash: Option<Sha256>,
    /// Number of bytes read from the blob.
    bytes_read: u64,
    /// Bytes that were read and hashed, and the number of them that were returned.
    chunk: Vec<u8>,
    consumed: usize,
    failed: bool,
}

impl VerifiedReader {
    /// Returns the size of the blob in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the position of the next byte.
    fn position(&self) -> u64 {
        self.bytes_read - (self.chunk.len() - self.consumed) as u64
    }

    fn fail(&mut self, reason: String) -> io::Error {
        self.failed = true;
        self.chunk.clear();
        self.consumed = 0;
        corrupt(self.blob, reason)
    }

    /// Verifies the checksum if the whole blob was read.
    fn verify_checksum(&mut self) -> io::Result<()> {
        let Some((hash, recorded)) = self.hash.take().zip(self.sha256.as_ref()) else { return Ok(()) };
        let found = hex::encode(hash.finalize());
        if found == *recorded {
            return Ok(());
        }
        let reason = format!("its SHA-256 is {found} instead of {recorded}");
        Err(self.fail(reason))
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.chunk.resize(CHUNK_BYTES, 0);
        self.consumed = CHUNK_BYTES;
        let mut part = ReadBuf::new(&mut self.chunk);
        let polled = Pin::new(&mut self.inner).poll_read(cx, &mut part);
        let length = part.filled().len();
        // While the read is pending, nothing of the chunk may be returned.
        let Poll::Ready(outcome) = polled else {
            self.chunk.clear();
            self.consumed = 0;
            return Poll::Pending;
        };
        self.chunk.truncate(length);
        self.consumed = 0;
        if let Err(error) = outcome {
            self.failed = true;
            self.chunk.clear();
            return Poll::Ready(Err(error));
        }
        self.bytes_read += length as u64;
        if (length == 0 && self.bytes_read < self.size) || self.bytes_read > self.size {
            let reason = format!("it is {} bytes long instead of {}", self.bytes_read, self.size);
            return Poll::Ready(Err(self.fail(reason)));
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&self.chunk);
        }
        Poll::Ready(if self.bytes_read == self.size { self.verify_checksum() } else { Ok(()) })
    }
}

fn corrupt(blob: BlobId, reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Error::Corrupt { what: format!("blob {blob}"), reason })
}

impl AsyncRead for VerifiedReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.failed {
            return Poll::Ready(Err(corrupt(this.blob, "an earlier read failed".to_owned())));
        }
        if this.consumed == this.chunk.len() && (this.bytes_read < this.size || this.hash.is_some()) {
            ready!(this.poll_chunk(cx))?;
        }
        let left = this.chunk.get(this.consumed..).unwrap_or_default();
        let some = left.get(..left.len().min(buf.remaining())).unwrap_or_default();
        buf.put_slice(some);
        this.consumed += some.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for VerifiedReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let this = &mut *self;
        let target = match to {
            SeekFrom::Start(target) => Some(target),
            SeekFrom::Current(by) => this.position().checked_add_signed(by),
            SeekFrom::End(by) => this.size.checked_add_signed(by),
        };
        let target = target.filter(|target| *target <= this.size);
        let target =
            target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the position is outside the blob"))?;
        if target == this.position() {
            return Ok(());
        }
        this.chunk.clear();
        this.consumed = 0;
        this.bytes_read = target;
        this.hash = (target == 0).then(Sha256::new);
        Pin::new(&mut this.inner).start_seek(SeekFrom::Start(target))
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        ready!(Pin::new(&mut self.inner).poll_complete(cx))?;
        Poll::Ready(Ok(self.position()))
    }
}

impl Store {
    /// Opens a blob at its start and verifies it against its document while it is read.
    ///
    /// # Errors
    ///
    /// [`Error::BlobNotFound`]; [`Error::Corrupt`] if its size differs from the written size; [`Error::Io`].
    pub async fn open_blob(&self, content: &BlobLink) -> Result<VerifiedReader> {
        let blob = content.blob;
        let size = self.blobs().size(&blob).await?;
        if let Some(recorded) = content.size.filter(|recorded| *recorded != size) {
            let reason = format!("it is {size} bytes long instead of {recorded}");
            return Err(Error::Corrupt { what: format!("blob {blob}"), reason });
        }
        let inner = self.blobs().open(&blob).await?;
        let (sha256, hash) = (content.sha256.clone(), Some(Sha256::new()));
        Ok(VerifiedReader {
            inner,
            blob,
            size,
            sha256,
            hash,
            bytes_read: 0,
            chunk: Vec::new(),
            consumed: 0,
            failed: false,
        })
    }

    /// Reads a whole blob.
    ///
    /// # Errors
    ///
    /// As [`Store::open_blob`], and [`Error::Corrupt`] if the bytes differ from the written ones.
    pub async fn read_blob(&self, content: &BlobLink) -> Result<Vec<u8>> {
        let mut reader = self.open_blob(content).await?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.map_err(|error| into_store_error(content.blob, error))?;
        Ok(bytes)
    }

    /// Reads a whole blob to verify it.
    ///
    /// # Errors
    ///
    /// As [`Store::read_blob`].
    pub async fn verify_blob(&self, content: &BlobLink) -> Result<()> {
        let mut reader = self.open_blob(content).await?;
        tokio::io::copy(&mut reader, &mut tokio::io::sink())
            .await
            .map_err(|error| into_store_error(content.blob, error))?;
        Ok(())
    }
}

/// Extracts the store error that a reader's error carries.
pub(crate) fn into_store_error(blob: BlobId, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => classify_read_error(blob, error).unwrap_or_else(Error::io("read blob", blob.to_string())),
    }
}
