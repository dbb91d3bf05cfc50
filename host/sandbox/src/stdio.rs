//! Standard output and error of a guest. The streams of `wasmtime-wasi` either trap when they are full or accept
//! endless empty writes (advisory 5m8g). The guest gets this stream instead. It splits lines, never fails, and buffers
//! at most one line.

use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::capability::Level;
use crate::logs::RunLog;

/// Maximum size of one write in bytes. A write of only line feeds consists of as many lines, and a write cannot yield.
const MAX_WRITE: usize = 8 << 10;
/// Bytes of a line that are buffered until it is sanitised, masked and cut; the rest of the line is discarded.
const MAX_PARTIAL_LINE: usize = 64 << 10;

/// Maximum size of a command's standard error in bytes; the rest is discarded (Cozy API, konnector run-time contract,
/// §6.3).
const MAX_COMMAND_STDERR: usize = 256 << 10;

/// One of the two streams. Clones write to the same lines.
#[derive(Clone)]
pub(crate) struct LineStream(Arc<Mutex<dyn OutputSink>>);

/// Consumes the bytes of a stream. Neither blocks nor fails, and buffers at most one line.
pub(crate) trait OutputSink: Send {
    /// Consumes written bytes.
    fn push(&mut self, bytes: &[u8]);
    /// Emits a last line without a line feed.
    fn finish(&mut self);
}

impl LineStream {
    pub(crate) fn new(sink: impl OutputSink + 'static) -> Self {
        Self(Arc::new(Mutex::new(sink)))
    }

    /// Emits a last line without a line feed.
    pub(crate) fn finish(&self) {
        self.sink().finish();
    }

    fn push(&self, bytes: &[u8]) {
        self.sink().push(bytes);
    }

    fn sink(&self) -> parking_lot::MutexGuard<'_, dyn OutputSink + 'static> {
        self.0.lock()
    }
}

/// Writes lines to the log.
pub(crate) struct LogLineSink {
    logs: RunLog,
    source: StdioSource,
    partial_line: Vec<u8>,
    /// Whether part of the line was discarded.
    is_cut: bool,
    /// Number of bytes that are still accepted.
    remaining_bytes: usize,
}

/// Which stream of which component kind the bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StdioSource {
    Output,
    Error,
    CommandError,
}

impl LogLineSink {
    pub(crate) fn new(logs: RunLog, source: StdioSource) -> Self {
        let remaining_bytes = if source == StdioSource::CommandError { MAX_COMMAND_STDERR } else { usize::MAX };
        Self { logs, source, partial_line: Vec::new(), is_cut: false, remaining_bytes }
    }

    fn append(&mut self, bytes: &[u8]) {
        let available = MAX_PARTIAL_LINE.saturating_sub(self.partial_line.len());
        self.is_cut |= bytes.len() > available;
        self.partial_line.extend_from_slice(bytes.get(..available).unwrap_or(bytes));
    }

    fn end_line(&mut self, at_end: bool) {
        let line = std::mem::take(&mut self.partial_line);
        let is_cut = std::mem::take(&mut self.is_cut);
        if at_end && line.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&line);
        let level = match self.source {
            StdioSource::Output => Level::Info,
            StdioSource::Error => Level::Warn,
            StdioSource::CommandError => Level::Error,
        };
        if self.source != StdioSource::Output {
            self.logs.detect_panic(&line);
        }
        if is_cut {
            self.logs.write_truncated_line(level, &line);
        } else {
            self.logs.write_line(level, &line);
        }
    }
}

impl OutputSink for LogLineSink {
    fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes.get(..self.remaining_bytes).unwrap_or(bytes);
        self.remaining_bytes -= rest.len();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.append(line);
            self.end_line(false);
            rest = after.get(1..).unwrap_or_default();
        }
        self.append(rest);
    }

    fn finish(&mut self) {
        self.end_line(true);
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
        if bytes.len() > MAX_WRITE {
            return Err(StreamError::trap("the guest wrote more than `check-write` allowed"));
        }
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::Limits;
    use crate::logs::tests::recorded_logs;

    fn lines_of(writes: &[&[u8]]) -> Vec<String> {
        let (logs, recorder, _) = recorded_logs(&Limits::default());
        let stream = LineStream::new(LogLineSink::new(logs, StdioSource::Output));
        for bytes in writes {
            stream.push(bytes);
        }
        stream.finish();
        recorder.messages()
    }

    #[test]
    fn writes_are_put_together_into_lines() {
        assert_eq!(lines_of(&[b"a", b"b\nc", b"\n", b"", b"\nlast"]), ["ab", "c", "", "last"]);
        assert_eq!(lines_of(&["é".as_bytes().get(..1).unwrap(), "é".as_bytes().get(1..).unwrap()]), ["é"]);
        assert_eq!(lines_of(&[b"a\n"]), ["a"]);
        assert!(lines_of(&[b"", b""]).is_empty());
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let (logs, recorder, _) = recorded_logs(&Limits::default());
        let mut lines = LogLineSink::new(logs, StdioSource::Output);
        for _ in 0..1_000 {
            lines.push(&[b'x'; 4_096]);
        }
        assert!(lines.partial_line.len() <= MAX_PARTIAL_LINE);
        lines.finish();
        assert_eq!(recorder.messages().len(), 1);
        assert!(recorder.messages()[0].len() <= Limits::default().log_line_bytes);
    }

    #[test]
    fn of_the_errors_of_a_command_256_kib_are_kept() {
        let (logs, recorder, _) = recorded_logs(&Limits::default());
        let mut lines = LogLineSink::new(logs, StdioSource::CommandError);
        for _ in 0..10_000 {
            lines.push(&[[b'x'; 99].as_slice(), b"\n"].concat());
        }
        lines.finish();
        assert_eq!(recorder.messages().len(), MAX_COMMAND_STDERR.div_ceil(100));
    }

    /// The streams of `wasmtime-wasi` reject this too; a host function that takes everything at once cannot yield.
    #[test]
    fn a_write_of_more_than_is_permitted_traps() {
        let (logs, recorder, _) = recorded_logs(&Limits::default());
        let mut stream = LineStream::new(LogLineSink::new(logs, StdioSource::Output));
        let max = stream.check_write().unwrap();
        assert!(stream.write(vec![b'\n'; max].into()).is_ok());
        assert!(matches!(stream.write(vec![b'\n'; max + 1].into()), Err(StreamError::Trap(_))));
        assert_eq!(recorder.messages().len(), max);
    }

    #[test]
    fn a_line_that_was_cut_shows_no_part_of_a_secret() {
        let (logs, recorder, _) = recorded_logs(&Limits { log_line_bytes: MAX_PARTIAL_LINE, ..Limits::default() });
        let mut lines = LogLineSink::new(logs, StdioSource::Output);
        for _ in 0..MAX_PARTIAL_LINE / 8 - 1 {
            lines.push(b"--------");
        }
        lines.push(b"----hunter22\n");
        assert!(recorder.messages()[0].len() > MAX_PARTIAL_LINE / 2 && !recorder.messages()[0].contains("hunt"));
    }

    proptest! {
        /// The lines do not depend on how a text is split into writes.
        #[test]
        fn lines_do_not_depend_on_writes(text in "[ab\n]{0,40}", cut in 0_usize..40) {
            let (one, two) = text.as_bytes().split_at(cut.min(text.len()));
            prop_assert_eq!(lines_of(&[one, two]), lines_of(&[text.as_bytes()]));
        }
    }
}
