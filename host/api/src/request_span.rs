//! Tracing spans of requests: every log line of a request carries its id, method, route and instance.

use axum::extract::{MatchedPath, Request};
use http::header::HOST;
use konnector_platform::stored::new_id;
use tracing::Span;

/// Returns the span of a request. It names the route, not the path, because paths contain secrets: those of webhooks and
/// of links to files.
pub fn request_span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let instance = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    tracing::info_span!("request", id = new_id(), method = %request.method(), route, instance)
}
