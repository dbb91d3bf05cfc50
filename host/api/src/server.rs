//! The HTTP server: hyper, with limits that keep slow or many clients from taking it for themselves.

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

/// Time for the head of a request, and for which a connection may be idle between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the head of a request; hyper looks after each read, so that a head may have twice as many before it is refused.
const MAX_HEAD_SIZE: usize = 64 << 10;
/// How long a client may take nothing of an answer that is there for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long requests may go on once the server is told to stop.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, for example for want of file descriptors.
const ACCEPT_ERROR_DELAY: Duration = Duration::from_millis(100);
/// Between two lines in the log about such refusals.
const ACCEPT_ERROR_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Idle connections that are closed then.
const EVICTION_BATCH_SIZE: usize = 16;
/// The answer to a connection that is one too many.
const OVERLOADED_RESPONSE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The address on which a connection was accepted, as an extension of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress(pub SocketAddr);

/// Where a request comes from, as its extension: an address of IPv4, or the /64 of one of IPv6, which is what one household has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// The address of a connection.
    #[must_use]
    pub fn from_ip(address: IpAddr) -> Self {
        Self(client_prefix(address))
    }

    /// The address of a request.
    #[must_use]
    pub fn for_request(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_else(Self::unknown)
    }

    /// The address for requests without a connection.
    #[must_use]
    pub const fn unknown() -> Self {
        Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// A use of a connection, as an extension of its requests: a connection that becomes a websocket keeps its place as long as this is kept.
#[derive(Debug, Clone)]
pub struct SharedConnectionUse(
    #[expect(dead_code, reason = "held until the last clone is dropped")] Arc<ConnectionUse>,
);

/// Serves HTTP/1.1 until `shutdown` resolves; then accepts no more connections, lets requests finish for up to five
/// seconds, and returns. Uses the default limits for connections.
///
/// # Errors
///
/// If the listener has no address. The failure of a single connection is not an error of the server.
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
    // Not hyper-util's `auto`: it waits indefinitely for the first byte of a connection, to detect the version.
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_SIZE);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut refusals = AcceptErrorLog::default();
    loop {
        let (stream, address) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &connections, &mut refusals) => accepted,
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
                let place = SharedConnectionUse(Arc::new(connection.begin_use()));
                request.extensions_mut().insert(local);
                request.extensions_mut().insert(client);
                request.extensions_mut().insert(place.clone());
                handle(router.clone(), request, place)
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
                            tracing::debug!(%error, "a connection ended early");
                        }
                        return;
                    }
                    () = stopping.cancelled(), if !finishing => {
                        finishing = true;
                        served.as_mut().graceful_shutdown();
                    }
                    () = connection.wait_until_evicted() => {
                        tracing::debug!("an idle connection gave way to another one");
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
        tracing::info!("requests that did not end in time are cut off");
    }
    Ok(())
}

/// The response to a request; the connection is in use until the whole response was sent.
async fn handle(
    router: Router,
    request: Request<Incoming>,
    place: SharedConnectionUse,
) -> Result<Response<Body>, Infallible> {
    let response =
        hyper::service::Service::call(&hyper_util::service::TowerToHyperService::new(router), request).await?;
    Ok(response.map(|body| Body::new(TrackedBody { body, _use: place })))
}

/// The body of a response; while it is sent, the connection is in use.
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

/// Refusals of the system since the last line about them in the log.
#[derive(Debug, Default)]
struct AcceptErrorLog {
    last_logged: Option<Instant>,
    count: u64,
}

impl AcceptErrorLog {
    fn record(&mut self, error: &io::Error) {
        self.count += 1;
        if self.last_logged.is_none_or(|told| told.elapsed() >= ACCEPT_ERROR_LOG_INTERVAL) {
            tracing::warn!(%error, count = self.count, "connections could not be accepted; idle ones are closed");
            *self = Self { last_logged: Some(Instant::now()), count: 0 };
        }
    }
}

/// The next connection. Cancel-safe: an accepted connection is returned at once.
async fn accept(
    listener: &TcpListener,
    connections: &Connections,
    refusals: &mut AcceptErrorLog,
) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client has disconnected already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                refusals.record(&error);
                connections.evict_idle(EVICTION_BATCH_SIZE);
                tokio::time::sleep(ACCEPT_ERROR_DELAY).await;
            }
        }
    }
}

/// Wraps a connection so that its client must accept data in time. Reading has no limit of its own: request heads
/// have theirs, and a client that follows an event stream may send nothing indefinitely.
fn with_write_timeout(stream: TcpStream) -> Pin<Box<TimeoutStream<TcpStream>>> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(stream)
}
