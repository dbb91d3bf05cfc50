//! The streams of files. They hold no more than one part of the content at a time, however many of them a guest opens.

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::bindings::wasi::filesystem::types::ErrorCode;
use super::descriptor::File;
use super::failure::{Failure, Result};
use crate::capability::Level;
use crate::logs::Logs;

/// How much a guest may write at a time.
const PERMIT: usize = 1 << 20;
/// Bytes that are fetched before a guest says how many it wants.
const AHEAD: usize = 32 << 10;
/// The most that one read answers.
pub(super) const LARGEST_READ: usize = 1 << 20;

/// Reads a file from some place on.
pub(super) struct Reader {
    file: Option<File>,
    position: u64,
    ahead: Bytes,
    state: State,
}

/// Whether a stream goes on.
enum State {
    Open,
    Failed(Failure),
    Closed,
}

impl State {
    /// Tells a failure once; then the stream is closed.
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

impl File {
    pub(super) async fn read(&self, offset: u64, max: usize) -> Result<Bytes> {
        let max = max.min(LARGEST_READ);
        match self {
            Self::Memory(file) => Ok(file.read(offset, max).into()),
            Self::User(file) => file.read(offset, max).await,
        }
    }

    /// Lets go of it, see [`user::File::close`](super::user::File::close).
    pub(super) async fn close(self) -> Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::User(file) => file.close().await,
        }
    }
}

impl Reader {
    pub(super) const fn new(file: File, position: u64) -> Self {
        Self { file: Some(file), position, ahead: Bytes::new(), state: State::Open }
    }

    async fn fetch(&mut self, max: usize) {
        let Some(file) = self.file.as_ref().filter(|_| matches!(self.state, State::Open) && self.ahead.is_empty())
        else {
            return;
        };
        match file.read(self.position, max).await {
            Ok(part) if part.is_empty() => self.state = State::Closed,
            Ok(part) => self.ahead = part,
            Err(failure) => self.state = State::Failed(failure),
        }
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.fetch(AHEAD).await;
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.ahead.is_empty() {
            self.state.check()?;
        }
        let part = self.ahead.split_to(size.min(self.ahead.len()));
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
            // It is noted where it cannot be told.
            drop(file.close().await);
        }
    }
}

/// Writes a file from some place on.
pub(super) struct Writer {
    file: Option<File>,
    /// `None` appends.
    position: Option<u64>,
    state: State,
    logs: Logs,
}

impl Writer {
    pub(super) const fn new(file: File, position: Option<u64>, logs: Logs) -> Self {
        Self { file: Some(file), position, state: State::Open, logs }
    }

    /// Some standard libraries tell every failure of a stream as the same "I/O error", so the log says which it was.
    fn fail(&mut self, failure: Failure) {
        if let (Failure::Code(ErrorCode::InsufficientSpace), Some(File::Memory(_))) = (&failure, &self.file) {
            self.logs.line(Level::Warn, "/tmp is full: all files there together are longer than a run may keep");
        }
        self.state = State::Failed(failure);
    }

    fn begin(&mut self, bytes: Bytes) -> Result<()> {
        let size = bytes.len() as u64;
        match (&self.file, self.position) {
            (Some(File::Memory(file)), Some(position)) => file.write(position, &bytes)?,
            (Some(File::Memory(file)), None) => file.append(&bytes)?,
            (Some(File::User(file)), position) => file.begin_write(position, bytes)?,
            (None, _) => {}
        }
        self.position = self.position.map(|position| position.saturating_add(size));
        Ok(())
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if let Some(File::User(file)) = &self.file
            && let Err(failure) = file.settle().await
        {
            self.fail(failure);
        }
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.state.check()?;
        if bytes.len() > PERMIT {
            return Err(StreamError::trap("more was written than `check-write` allowed"));
        }
        if !bytes.is_empty()
            && let Err(failure) = self.begin(bytes)
        {
            self.fail(failure);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.state.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.state.check()?;
        match &self.file {
            Some(File::User(file)) if !file.is_idle() => Ok(0),
            _ => Ok(PERMIT),
        }
    }

    async fn cancel(&mut self) {
        if let Some(file) = self.file.take() {
            // It is noted where it cannot be told.
            drop(file.close().await);
        }
    }
}
