//! HTTP server (hyper), with limits that keep slow or numerous clients from monopolising it.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Extensions, Request};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connections::{ConnectionLimits, ConnectionUse, Connections, client_prefix};

/// How long a client may take to send the head of a request, and how long a connection may be idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a request's head in bytes. hyper checks it after each read, so that a head may be twice as large
/// before it is rejected.
const MAX_HEAD_SIZE: usize = 64 << 10;
/// How long a client may accept no byte of a response that is ready.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long requests may continue after the shutdown has begun.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(5);
/// Pause after the operating system failed to accept a connection, for example for lack of file descriptors.
const ACCEPT_ERROR_DELAY: Duration = Duration::from_millis(100);
/// Minimum time between two log lines about such failures.
const ACCEPT_ERROR_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Number of idle connections to close after such a failure.
const EVICTION_BATCH_SIZE: usize = 16;
/// Response to a connection that exceeds the limits.
const OVERLOADED_RESPONSE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The address on which a connection was accepted, as an extension of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress(pub SocketAddr);

/// Origin of a request, as its extension: an IPv4 address, or the /64 prefix of an IPv6 address, which is what one
/// household has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Creates the address of a connection.
    #[must_use]
    pub fn from_ip(address: IpAddr) -> Self {
        Self(client_prefix(address))
    }

    /// Returns the address of a request.
    #[must_use]
    pub fn for_request(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_else(Self::unknown)
    }

    /// Returns the address for requests without a connection.
    #[must_use]
    pub const fn unknown() -> Self {
        Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// Use of a connection, as an extension of its requests. A connection that becomes a websocket counts as used until
/// this value is dropped.
#[derive(Debug, Clone)]
pub struct SharedConnectionUse(
    #[expect(dead_code, reason = "held until the last clone is dropped")] Arc<ConnectionUse>,
);

/// Serves HTTP/1.1 until `shutdown` resolves; then accepts no more connections, lets requests finish for up to five
/// seconds, and returns. Uses the default limits for connections.
///
/// # Errors
///
/// If the listener has no local address. The failure of a single connection is not an error of the server.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    serve_with_limits(ConnectionLimits::default(), listener, router, shutdown).await
}

/// Like [`serve`], with other limits.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_with_limits(
    limits: ConnectionLimits,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let local = LocalAddress(listener.local_addr()?);
    let connections = Connections::new(limits);
    let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
    // Not hyper-util's `auto`, which waits indefinitely for the first byte of a connection, to detect the version.
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_SIZE);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut accept_errors = AcceptErrorLog::default();
    loop {
        let (stream, address) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &connections, &mut accept_errors) => accepted,
        };
        let Some(connection) = connections.admit(address.ip()).map(Arc::new) else {
            // The send buffer is normally empty, so the write succeeds; otherwise only the reason is lost.
            drop(stream.try_write(OVERLOADED_RESPONSE));
            continue;
        };
        let service = {
            let (router, connection) = (router.clone(), Arc::clone(&connection));
            let client = ClientAddress::from_ip(address.ip());
            service_fn(move |mut request: Request<Incoming>| {
                let connection_use = SharedConnectionUse(Arc::new(connection.begin_use()));
                request.extensions_mut().insert(local);
                request.extensions_mut().insert(client);
                request.extensions_mut().insert(connection_use.clone());
                handle(router.clone(), request, connection_use)
            })
        };
        let served = http.serve_connection(TokioIo::new(with_write_timeout(stream)), service).with_upgrades();
        let stopping = stopping.clone();
        tasks.spawn(async move {
            let mut served = std::pin::pin!(served);
            let mut finishing = false;
            loop {
                tokio::select! {
                    ended = &mut served => {
                        if let Err(error) = ended {
                            tracing::debug!(%error, "a connection ended with an error");
                        }
                        return;
                    }
                    () = stopping.cancelled(), if !finishing => {
                        finishing = true;
                        served.as_mut().graceful_shutdown();
                    }
                    () = connection.wait_until_evicted() => {
                        tracing::debug!("closed an idle connection to make room for another one");
                        return;
                    }
                }
            }
        });
    }
    drop(listener);
    stopping.cancel();
    tasks.close();
    if tokio::time::timeout(SHUTDOWN_GRACE_PERIOD, tasks.wait()).await.is_err() {
        tracing::info!("aborting requests that did not finish within the grace period");
    }
    Ok(())
}

/// Handles a request; the connection counts as used until the whole response has been sent.
async fn handle(
    router: Router,
    request: Request<Incoming>,
    connection_use: SharedConnectionUse,
) -> Result<Response<Body>, Infallible> {
    let response =
        hyper::service::Service::call(&hyper_util::service::TowerToHyperService::new(router), request).await?;
    Ok(response.map(|body| Body::new(TrackedBody { body, _use: connection_use })))
}

/// Body of a response; while it is being sent, the connection counts as used.
struct TrackedBody {
    body: Body,
    _use: SharedConnectionUse,
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Failures to accept connections since the last log line about them.
#[derive(Debug, Default)]
struct AcceptErrorLog {
    last_logged: Option<Instant>,
    count: u64,
}

impl AcceptErrorLog {
    fn record(&mut self, error: &io::Error) {
        self.count += 1;
        if self.last_logged.is_none_or(|last| last.elapsed() >= ACCEPT_ERROR_LOG_INTERVAL) {
            tracing::warn!(%error, count = self.count, "cannot accept connections; closing idle ones");
            *self = Self { last_logged: Some(Instant::now()), count: 0 };
        }
    }
}

/// Accepts the next connection. Cancel-safe: an accepted connection is returned at once.
async fn accept(
    listener: &TcpListener,
    connections: &Connections,
    accept_errors: &mut AcceptErrorLog,
) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client has disconnected already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                accept_errors.record(&error);
                connections.evict_idle(EVICTION_BATCH_SIZE);
                tokio::time::sleep(ACCEPT_ERROR_DELAY).await;
            }
        }
    }
}

/// Wraps a connection so that its client must accept data in time. Reading has no limit of its own, because request
/// heads have one, and a client that follows an event stream may send nothing indefinitely.
fn with_write_timeout(stream: TcpStream) -> Pin<Box<TimeoutStream<TcpStream>>> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(stream)
}
