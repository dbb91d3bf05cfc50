//! Processing of every request of the site before and after its page: counting, logging, delay, maintenance.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::page;
use super::translations::Translations;
use super::visitor::Visitor;
use crate::control::Control;

/// The value of `Retry-After` during maintenance, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("120");

/// Counts and logs the request; delays or rejects it as the switches require.
pub async fn handle_request(
    State(control): State<Control>,
    matched: Option<MatchedPath>,
    visitor: Visitor,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let session = visitor.session_number();
    let (delay, maintenance) = {
        let mut site = control.site();
        // Unknown paths share one count, so that a scan cannot fill the memory.
        let counted = if matched.is_some() { path.as_str() } else { "other" };
        site.counters.count_request(counted, session);
        (site.switches.delay(), site.switches.maintenance)
    };
    tokio::time::sleep(delay).await;

    let response = if maintenance {
        let text = Translations::for_language(visitor.language).maintenance;
        let mut response = page::notice(StatusCode::SERVICE_UNAVAILABLE, visitor.language, "maintenance", text);
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        response
    } else {
        next.run(request).await
    };
    if method != Method::HEAD {
        count_answer(&control, &response);
    }
    let (status, took) = (response.status().as_u16(), started.elapsed());
    tracing::info!(%method, path, status, session, ?took, "request");
    response
}

fn count_answer(control: &Control, response: &Response) {
    if response.status() != StatusCode::OK {
        return;
    }
    let kind = response.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let mut site = control.site();
    if kind.starts_with(b"text/html") {
        site.counters.pages += 1;
    } else if kind.starts_with(b"application/pdf") {
        site.counters.pdfs += 1;
    }
}
