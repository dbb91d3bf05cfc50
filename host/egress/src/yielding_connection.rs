//! A connection that yields to the other tasks of its runtime.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

/// Maximum number of consecutive reads without a yield.
///
/// The task that reads an HTTP/2 connection queues what arrives for the tasks that wait for it. A server that sends
/// endless small frames keeps that task reading, and the queue grows until the task yields. Without this limit, tokio
/// yields after 128 reads, which are tens of MiB of frames.
const MAX_READS_BEFORE_YIELD: u8 = 4;

/// A connection that is read in short bursts.
pub(super) struct YieldingConnection<C> {
    connection: C,
    /// Number of reads since the last yield.
    reads: u8,
}

impl<C> YieldingConnection<C> {
    pub(super) fn new(connection: C) -> Self {
        Self { connection, reads: 0 }
    }
}

impl<C: Read + Unpin> Read for YieldingConnection<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.reads == MAX_READS_BEFORE_YIELD {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.connection).poll_read(cx, into);
        self.reads = if read.is_pending() { 0 } else { self.reads + 1 };
        read
    }
}

impl<C: Write + Unpin> Write for YieldingConnection<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

impl<C: Connection> Connection for YieldingConnection<C> {
    fn connected(&self) -> Connected {
        self.connection.connected()
    }
}
