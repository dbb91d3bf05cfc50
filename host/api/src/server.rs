//! The HTTP server: hyper, with limits that keep slow or many clients from taking it for themselves.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;

/// Connections at the same time; more wait in the system's queue.
const CONNECTIONS: usize = 4_096;
/// Time for the head of a request, and for which a connection may be idle between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the head of a request; hyper looks after each read, so that a head may have twice as many before it is refused.
const LARGEST_HEAD: usize = 64 << 10;
/// How long a client may take nothing of an answer that is there for it.
const STALLED: Duration = Duration::from_secs(60);
/// How long requests may go on once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, for example for want of file descriptors.
const REFUSED: Duration = Duration::from_millis(100);

/// The address on which a connection was accepted, as an extension of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress(pub SocketAddr);

/// A connection's place among [`CONNECTIONS`], as an extension of its requests: a connection that becomes a websocket keeps it.
#[derive(Debug, Clone)]
pub struct Place(#[expect(dead_code, reason = "held until the last clone is dropped")] Arc<OwnedSemaphorePermit>);

/// Serves HTTP/1.1 until `shutdown` resolves; then accepts no more, lets requests end for up to five seconds, and returns.
///
/// # Errors
///
/// When the listener has no address. That a single connection fails is no error of the server.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    let local = LocalAddress(listener.local_addr()?);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(LARGEST_HEAD);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, permit) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let place = permit.map(|permit| Place(Arc::new(permit)));
        let service = {
            let (router, place) = (router.clone(), place.clone());
            service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(local);
                if let Some(place) = &place {
                    request.extensions_mut().insert(place.clone());
                }
                tower_service(router.clone(), request)
            })
        };
        let connection = http.serve_connection_with_upgrades(TokioIo::new(guarded(stream)), service);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::info!("requests that did not end in time are cut off");
    }
    Ok(())
}

async fn tower_service(
    router: Router,
    request: Request<Incoming>,
) -> Result<axum::response::Response, std::convert::Infallible> {
    hyper::service::Service::call(&hyper_util::service::TowerToHyperService::new(router), request).await
}

/// The next connection. Cancel-safe: a connection that was accepted is returned at once.
async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there is always a permit.
    let permit = Arc::clone(connections).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REFUSED).await;
            }
        }
    }
}

/// A connection whose client must take what is written to it. Reading has no limit of its own: heads have theirs, and a client that follows
/// a stream of events sends nothing for as long as it likes.
fn guarded(stream: TcpStream) -> std::pin::Pin<Box<TimeoutStream<TcpStream>>> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALLED));
    Box::pin(stream)
}
