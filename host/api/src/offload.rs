//! Handles requests on separate threads (see [`Offload`]) if their work grows with the request or the stored data:
//! checking a body, scanning documents and serialising the response. The threads that serve connections remain free
//! for all others.
//!
//! Callers are authenticated before any byte of the body is read.

use std::sync::LazyLock;
use std::thread::available_parallelism;
use std::time::Duration;

use aide::axum::ApiRouter;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts as _, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use konnector_platform::Platform;
use konnector_platform::offload::Offload;
use konnector_sandbox::capability::RequestCpuMeter;

use crate::bodies::{self, BodyCharged, BodyError};
use crate::error::ApiError;
use crate::extract::Caller;
use crate::limits::MAX_BODY_SIZE;

/// Requests that are handled concurrently per processor; more than one, because some wait for the disk. The operating
/// system divides the CPU time among them.
const THREADS_PER_PROCESSOR: usize = 4;
/// Concurrent requests of the konnectors that run here; limited, so that they do not delay the requests of people.
const THREADS_FOR_KONNECTORS: usize = 4;
/// Maximum number of waiting requests. Each holds its body of at most 1 MiB in memory.
const MAX_WAITING: usize = 256;
/// Maximum time that a request waits for a thread. A request that starts later would not finish within its 30 s.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

static CLIENT_THREADS: LazyLock<Offload> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(2, std::num::NonZero::get);
    Offload::fair("requests", processors * THREADS_PER_PROCESSOR, MAX_WAITING, QUEUE_TIMEOUT)
});
static KONNECTOR_THREADS: LazyLock<Offload> =
    LazyLock::new(|| Offload::fair("requests of konnectors", THREADS_FOR_KONNECTORS, MAX_WAITING, QUEUE_TIMEOUT));

/// Marks a request of a konnector that runs in this process.
#[derive(Debug, Clone, Copy)]
pub struct KonnectorRequest;

/// Returns the threads for the requests of clients.
pub fn client_threads() -> &'static Offload {
    &CLIENT_THREADS
}

/// Handles routes on separate threads, for callers with a token. None of them waits for another server.
pub fn offload_routes<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> ApiRouter<S> {
    routes.layer(middleware::from_fn(handle_authenticated))
}

/// Like [`offload_routes`], for routes without a token: a secret in their path authenticates the caller.
pub fn offload_routes_without_token<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> ApiRouter<S> {
    routes.layer(middleware::from_fn(handle_unauthenticated))
}

async fn handle_authenticated(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match caller(&mut parts).await {
        Ok(caller) => {
            let instance = caller.instance.id.clone();
            parts.extensions.insert(caller);
            handle(instance.as_str(), Request::from_parts(parts, body), next).await
        }
        Err(failure) => failure.into_response(),
    }
}

/// Handles a request without a token. All unauthenticated callers count as one instance.
async fn handle_unauthenticated(request: Request, next: Next) -> Response {
    handle("", request, next).await
}

async fn caller(parts: &mut Parts) -> Result<Caller, ApiError> {
    let missing = || ApiError::server("the request has no platform to authenticate its caller");
    let platform = parts.extensions.get::<Platform>().cloned().ok_or_else(missing)?;
    Caller::from_request_parts(parts, &platform).await
}

async fn handle(party: &str, request: Request, next: Next) -> Response {
    let threads =
        if request.extensions().get::<KonnectorRequest>().is_some() { &KONNECTOR_THREADS } else { &CLIENT_THREADS };
    let (mut parts, body) = request.into_parts();
    // Read the body before acquiring a thread, which would otherwise be held for as long as the client takes to send.
    let (body, charge) = match bodies::read(&parts.extensions, body).await {
        Ok((body, charge)) => (body, Some(charge)),
        Err(BodyError::TooLarge) => (Bytes::from_static(&OVERSIZED_BODY), None),
        Err(error) => return error.into_error("").into_response(),
    };
    parts.extensions.insert(BodyCharged);
    // A run is charged for its requests here as for its own computation.
    let cpu_meter = parts.extensions.get::<RequestCpuMeter>().cloned();
    let work = next.run(Request::from_parts(parts, Body::from(body)));
    let metered = async move {
        let _charge = charge;
        match cpu_meter {
            Some(cpu_meter) => cpu_meter
                .meter(work)
                .await
                .unwrap_or_else(|_exhausted| ApiError::unavailable(CPU_BUDGET_EXCEEDED).into_response()),
            None => work.await,
        }
    };
    match threads.run_future_for(party, metered).await {
        Ok(response) => response,
        Err(error) => ApiError::from(error).into_response(),
    }
}

/// Error of a konnector's request that uses too much CPU time.
const CPU_BUDGET_EXCEEDED: &str = "the request used more CPU time than a run may use; request less data at a time";

/// Stands for a body that is too large; each handler rejects the body with its own message.
static OVERSIZED_BODY: [u8; MAX_BODY_SIZE + 1] = [0; MAX_BODY_SIZE + 1];
