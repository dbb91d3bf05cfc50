//! What no request may exceed, and what no answer goes without.

use std::time::{Duration, Instant};

use aide::axum::ApiRouter;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::error::Failure;

/// Bytes of a JSON body.
pub const LARGEST_BODY: usize = 1 << 20;
/// How long a request may take until its answer begins. Bodies of answers, streams among them, are not counted.
const USUAL: Duration = Duration::from_secs(30);
/// The same for requests that wait for another server.
const PATIENT: Duration = Duration::from_secs(120);

/// Routes that answer within thirty seconds.
pub fn usual<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> ApiRouter<S> {
    routes.layer(middleware::from_fn(|request, next| within(USUAL, request, next)))
}

/// Routes that fetch something from elsewhere before they answer.
pub fn patient<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> ApiRouter<S> {
    routes.layer(middleware::from_fn(|request, next| within(PATIENT, request, next)))
}

async fn within(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("the request took longer than {} s and was given up", limit.as_secs());
            Failure::request(StatusCode::SERVICE_UNAVAILABLE, message).into_response()
        }
    }
}

/// Notes each request for the log, without its query string, which may hold a token.
async fn note(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = Instant::now();
    let response = next.run(request).await;
    let (status, milliseconds) = (response.status().as_u16(), begun.elapsed().as_millis());
    tracing::debug!(%method, path, status, milliseconds, "answered");
    response
}

/// Limits the bodies of requests, and gives each answer the headers that keep browsers from making something else of it.
pub fn guarded<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    let unless_set = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    routes
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(unless_set(CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
        .layer(unless_set(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(unless_set(X_FRAME_OPTIONS, "DENY"))
        .layer(unless_set(REFERRER_POLICY, "no-referrer"))
        .layer(unless_set(CACHE_CONTROL, "no-store"))
        .layer(middleware::from_fn(note))
}

/// The answer to a path that no route has.
pub async fn no_such_route(request: Request) -> Failure {
    Failure::request(StatusCode::NOT_FOUND, format!("there is no route {}", request.uri().path()))
}

/// The answer to a method that a route does not have.
pub async fn no_such_method(request: Request) -> Failure {
    let message = format!("{} is not possible on {}", request.method(), request.uri().path());
    Failure::request(StatusCode::METHOD_NOT_ALLOWED, message)
}
