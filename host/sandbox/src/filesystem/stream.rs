//! The streams of files. Each stream holds only one part of the content at a time, regardless of how many streams a
//! guest opens.

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::descriptor::AnyFile;
use super::error::{FilesystemError, Result};

/// Maximum size of one write in bytes.
const MAX_WRITE: usize = 1 << 20;
/// Bytes that are fetched before a guest requests a number of bytes.
const READ_AHEAD_BYTES: usize = 32 << 10;
/// Maximum size of one read in bytes.
pub(super) const MAX_READ: usize = 1 << 20;

/// Reads a file from a position on.
pub(super) struct FileInputStream {
    file: Option<AnyFile>,
    position: u64,
    read_ahead: Bytes,
    state: StreamState,
}

/// Whether a stream is open, failed or closed.
enum StreamState {
    Open,
    Failed(FilesystemError),
    Closed,
}

impl StreamState {
    /// Returns a failure once; then the stream is closed.
    fn check(&mut self) -> StreamResult<()> {
        match std::mem::replace(self, Self::Closed) {
            Self::Open => {
                *self = Self::Open;
                Ok(())
            }
            Self::Failed(failure) => Err(failure.into()),
            Self::Closed => Err(StreamError::Closed),
        }
    }
}

impl AnyFile {
    pub(super) async fn read(&self, offset: u64, max: usize) -> Result<Bytes> {
        let max = max.min(MAX_READ);
        match self {
            Self::Memory(file) => Ok(file.read(offset, max).into()),
            Self::User(file) => file.read(offset, max).await,
        }
    }

    /// Closes the file, see [`UserFile::close`](super::user::UserFile::close).
    pub(super) async fn close(self) -> Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::User(file) => file.close().await,
        }
    }
}

impl FileInputStream {
    pub(super) const fn new(file: AnyFile, position: u64) -> Self {
        Self { file: Some(file), position, read_ahead: Bytes::new(), state: StreamState::Open }
    }

    async fn fetch(&mut self, max: usize) {
        let Some(file) =
            self.file.as_ref().filter(|_| matches!(self.state, StreamState::Open) && self.read_ahead.is_empty())
        else {
            return;
        };
        match file.read(self.position, max).await {
            Ok(part) if part.is_empty() => self.state = StreamState::Closed,
            Ok(part) => self.read_ahead = part,
            Err(failure) => self.state = StreamState::Failed(failure),
        }
    }
}

#[async_trait]
impl Pollable for FileInputStream {
    async fn ready(&mut self) {
        self.fetch(READ_AHEAD_BYTES).await;
    }
}

#[async_trait]
impl InputStream for FileInputStream {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.read_ahead.is_empty() {
            self.state.check()?;
        }
        let part = self.read_ahead.split_to(size.min(self.read_ahead.len()));
        self.position += part.len() as u64;
        Ok(part)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size > 0 {
            self.fetch(size).await;
        }
        self.read(size)
    }

    async fn cancel(&mut self) {
        if let Some(file) = self.file.take() {
            // `close` records a failure that cannot be returned here.
            drop(file.close().await);
        }
    }
}

/// Writes a file from a position on.
pub(super) struct FileOutputStream {
    file: Option<AnyFile>,
    /// `None` appends.
    position: Option<u64>,
    state: StreamState,
}

impl FileOutputStream {
    pub(super) const fn new(file: AnyFile, position: Option<u64>) -> Self {
        Self { file: Some(file), position, state: StreamState::Open }
    }

    fn begin_write(&mut self, bytes: Bytes) -> Result<()> {
        let size = bytes.len() as u64;
        match (&self.file, self.position) {
            (Some(AnyFile::Memory(file)), Some(position)) => file.write(position, &bytes)?,
            (Some(AnyFile::Memory(file)), None) => file.append(&bytes)?,
            (Some(AnyFile::User(file)), position) => file.begin_write(position, bytes)?,
            (None, _) => {}
        }
        self.position = self.position.map(|position| position.saturating_add(size));
        Ok(())
    }
}

#[async_trait]
impl Pollable for FileOutputStream {
    async fn ready(&mut self) {
        if let Some(AnyFile::User(file)) = &self.file
            && let Err(failure) = file.wait_for_write().await
        {
            self.state = StreamState::Failed(failure);
        }
    }
}

#[async_trait]
impl OutputStream for FileOutputStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.state.check()?;
        if bytes.len() > MAX_WRITE {
            return Err(StreamError::trap("the guest wrote more than `check-write` allowed"));
        }
        if !bytes.is_empty()
            && let Err(failure) = self.begin_write(bytes)
        {
            self.state = StreamState::Failed(failure);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.state.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.state.check()?;
        match &self.file {
            Some(AnyFile::User(file)) if !file.is_idle() => Ok(0),
            _ => Ok(MAX_WRITE),
        }
    }

    async fn cancel(&mut self) {
        if let Some(file) = self.file.take() {
            // `close` records a failure that cannot be returned here.
            drop(file.close().await);
        }
    }
}
