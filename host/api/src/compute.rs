//! Requests whose work grows with what clients send, or with what is stored, are handled on threads of their own, see [`Offload`]:
//! checking a body, looking through documents and writing the answer. The threads that serve connections stay free for everybody else.
//!
//! Who asks is known before a byte of the body is read.

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

use crate::bodies::{self, BodyError, Charged};
use crate::error::Failure;
use crate::extract::Caller;
use crate::limits::LARGEST_BODY;

/// Requests that are handled at the same time for each processor: some wait for the disk. The operating system divides the time among them.
const THREADS_PER_PROCESSOR: usize = 4;
/// Of the requests of konnectors that run here: they must not take the turns of people.
const THREADS_FOR_KONNECTORS: usize = 4;
/// Requests that wait for a turn. Each holds its body of at most 1 MiB.
const MAX_WAITING: usize = 256;
/// How long each waits; a request that begins later would not end within its 30 s.
const PATIENCE: Duration = Duration::from_secs(10);

static OF_PEOPLE: LazyLock<Offload> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(2, std::num::NonZero::get);
    Offload::shared("requests", processors * THREADS_PER_PROCESSOR, MAX_WAITING, PATIENCE)
});
static OF_KONNECTORS: LazyLock<Offload> =
    LazyLock::new(|| Offload::shared("requests of konnectors", THREADS_FOR_KONNECTORS, MAX_WAITING, PATIENCE));

/// Marks a request that a konnector makes from inside of this process.
#[derive(Debug, Clone, Copy)]
pub struct OfKonnector;

/// The threads for what is part of a request.
pub fn threads() -> &'static Offload {
    &OF_PEOPLE
}

/// Routes that are handled on threads of their own, for those who show a token. None of them waits for another server.
pub fn off_thread<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> ApiRouter<S> {
    routes.layer(middleware::from_fn(handle_known))
}

/// The same for routes without a token: a secret in their path authenticates the caller.
pub fn off_thread_without_token<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> ApiRouter<S> {
    routes.layer(middleware::from_fn(handle_any))
}

async fn handle_known(request: Request, next: Next) -> Response {
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

/// Strangers are one party among the instances.
async fn handle_any(request: Request, next: Next) -> Response {
    handle("", request, next).await
}

async fn caller(parts: &mut Parts) -> Result<Caller, Failure> {
    let missing = || Failure::server("a request has no platform to authenticate it");
    let platform = parts.extensions.get::<Platform>().cloned().ok_or_else(missing)?;
    Caller::from_request_parts(parts, &platform).await
}

async fn handle(party: &str, request: Request, next: Next) -> Response {
    let threads = if request.extensions().get::<OfKonnector>().is_some() { &OF_KONNECTORS } else { &OF_PEOPLE };
    let (mut parts, body) = request.into_parts();
    // Before it has a turn, which it would hold for as long as the client takes to send.
    let (body, charge) = match bodies::read(&parts.extensions, body).await {
        Ok((body, charge)) => (body, Some(charge)),
        Err(BodyError::TooLarge) => (Bytes::from_static(&TOO_LONG), None),
        Err(error) => return error.failure("").into_response(),
    };
    parts.extensions.insert(Charged);
    // A run pays for what its requests cost here as for what it computes itself.
    let bill = parts.extensions.get::<RequestCpuMeter>().cloned();
    let work = next.run(Request::from_parts(parts, Body::from(body)));
    let billed = async move {
        let _charge = charge;
        match bill {
            Some(bill) => {
                bill.meter(work).await.unwrap_or_else(|_used_up| Failure::unavailable(USED_UP).into_response())
            }
            None => work.await,
        }
    };
    match threads.drive_for(party, billed).await {
        Ok(response) => response,
        Err(error) => Failure::from(error).into_response(),
    }
}

/// What a konnector is answered whose request costs too much.
const USED_UP: &str = "the request took more processor time than a run may use; ask for less at a time";

/// Stands for a body that is too long: each handler has its own words for that, and refuses this one.
static TOO_LONG: [u8; LARGEST_BODY + 1] = [0; LARGEST_BODY + 1];
