//! Standard output and error of a guest. The streams of `wasmtime-wasi` either trap when they are full or take empty writes without end
//! (advisory 5m8g), so the guest is given this one: it splits lines, never fails, and never holds more than one line.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::capability::Level;
use crate::logs::Logs;

/// How much the guest is told that it may write at a time.
const PERMIT: usize = 64 << 10;
/// Bytes of a line that are kept until it is cleaned, masked and cut; the rest of the line is thrown away.
const LINE: usize = 64 << 10;

/// One of the two streams. Clones write to the same lines.
#[derive(Clone)]
pub(crate) struct LineStream(Arc<Mutex<Lines>>);

struct Lines {
    logs: Logs,
    source: Source,
    unfinished: Vec<u8>,
}

/// Which stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Output,
    Error,
}

impl LineStream {
    pub(crate) fn new(logs: Logs, source: Source) -> Self {
        Self(Arc::new(Mutex::new(Lines { logs, source, unfinished: Vec::new() })))
    }

    /// Hands on a last line that no line feed ended.
    pub(crate) fn finish(&self) {
        self.lines().end_line(true);
    }

    fn push(&self, bytes: &[u8]) {
        let mut lines = self.lines();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            lines.append(line);
            lines.end_line(false);
            rest = after.get(1..).unwrap_or_default();
        }
        lines.append(rest);
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn append(&mut self, bytes: &[u8]) {
        let room = LINE.saturating_sub(self.unfinished.len());
        self.unfinished.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn end_line(&mut self, at_end: bool) {
        let line = std::mem::take(&mut self.unfinished);
        if at_end && line.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&line);
        match self.source {
            Source::Output => self.logs.line(Level::Info, &line, Vec::new()),
            Source::Error => self.logs.error_line(&line),
        }
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
