//! Limits of all requests, and headers of all responses.

use std::time::{Duration, Instant};

use aide::axum::ApiRouter;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use konnector_platform::Platform;
use percent_encoding::percent_decode_str;
use tower::ServiceBuilder;
use tracing::Instrument as _;

use crate::error::{self, ApiError, couch};
use crate::request_span::request_span;

/// Maximum size of a JSON body in bytes.
pub const MAX_BODY_SIZE: usize = 1 << 20;
/// Maximum time until the response to a request begins. Bodies of responses, such as event streams, are not included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Like [`REQUEST_TIMEOUT`], for requests that wait for another server.
const UPSTREAM_REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Applies the timeout of thirty seconds.
pub fn with_request_timeout<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> ApiRouter<S> {
    routes.layer(middleware::from_fn(|request, next| time_out(REQUEST_TIMEOUT, request, next)))
}

/// Applies the timeout of routes that wait for another server before they respond.
pub fn with_upstream_timeout<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> ApiRouter<S> {
    routes.layer(middleware::from_fn(|request, next| time_out(UPSTREAM_REQUEST_TIMEOUT, request, next)))
}

async fn time_out(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("the request took longer than {} s and was abandoned", limit.as_secs());
            ApiError::request(StatusCode::SERVICE_UNAVAILABLE, message).into_response()
        }
    }
}

/// Headers that keep browsers from misinterpreting a response, unless the response sets them itself.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Returns a duplicate header among those that select the instance or authenticate the caller. A proxy may use a
/// different value than this server (RFC 9112 §3.2 for `Host`).
fn find_duplicate_header(headers: &HeaderMap) -> Option<HeaderName> {
    [HOST, AUTHORIZATION].into_iter().find(|name| headers.get_all(name).iter().nth(1).is_some())
}

async fn common_middleware(platform: State<Option<Platform>>, request: Request, next: Next) -> Response {
    let span = request_span(&request);
    complete_request(platform, request, next).instrument(span).await
}

/// Returns why no route can process a request.
fn find_malformation(request: &Request) -> Option<String> {
    if let Some(name) = find_duplicate_header(request.headers()) {
        return Some(format!("the request has multiple {name} headers; send only one"));
    }
    let is_text = percent_decode_str(request.uri().path()).decode_utf8().is_ok();
    (!is_text).then(|| "path: the path of the request is not valid UTF-8; encode it as UTF-8".to_owned())
}

/// Logs a request without its query string, which may hold a token, and completes its response.
async fn complete_request(State(platform): State<Option<Platform>>, mut request: Request, next: Next) -> Response {
    if let Some(platform) = platform {
        request.extensions_mut().insert(platform);
    }
    let wants_json = error::plain_text::wants_json(request.headers());
    let is_logged = tracing::enabled!(tracing::Level::DEBUG);
    let log_fields = is_logged.then(|| (request.method().clone(), request.uri().path().to_owned(), Instant::now()));
    let response = match find_malformation(&request) {
        Some(message) if couch::is_couch_path(request.uri().path()) => couch::response(ApiError::bad_request(message)),
        Some(message) => ApiError::bad_request(message).into_response(),
        None => next.run(request).await,
    };
    let mut response = error::plain_text::render(response, wants_json);
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    if let Some((method, path, started)) = log_fields {
        let (status, milliseconds) = (response.status().as_u16(), started.elapsed().as_millis());
        tracing::debug!(%method, path, status, milliseconds, "request completed");
    }
    response
}

/// Wraps all routes: limits the bodies of requests, completes responses, and writes errors in the format that clients
/// request. It is a single layer, because each layer of a router costs every request a copy of all layers below it. The
/// platform, if known, becomes an extension of each request, for the layers that authenticate it.
pub fn with_common_middleware<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    platform: Option<Platform>,
) -> Router<S> {
    let guard = middleware::from_fn_with_state(platform, common_middleware);
    routes.layer(ServiceBuilder::new().layer(guard).layer(DefaultBodyLimit::max(MAX_BODY_SIZE)))
}

/// Responds to an unknown path.
pub async fn no_such_route(request: Request) -> ApiError {
    ApiError::request(StatusCode::NOT_FOUND, format!("there is no route {}", request.uri().path()))
}

/// Responds to a method that a route does not support.
pub async fn no_such_method(request: Request) -> ApiError {
    let message = format!("{} is not supported on {}", request.method(), request.uri().path());
    ApiError::request(StatusCode::METHOD_NOT_ALLOWED, message)
}
