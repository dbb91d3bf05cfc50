//! Tests the network budget of a run.

use konnector_egress::{HttpError, Request};

use super::fixture::{Fixture, get, record};
use super::server::{Server, ok, redirect, response};

fn is_quota_exceeded(error: &HttpError, expected: &str) -> bool {
    matches!(error, HttpError::QuotaExceeded(text) if text.contains(expected))
}

#[tokio::test]
async fn rejected_attempts_and_redirects_count_as_requests() {
    let server = Server::start(|request| if request.target == "/r" { redirect(302, "/") } else { ok("") }).await;
    let session = Fixture::new().allow(server.url("a.example", "")).budget(|budget| budget.requests = 5).session();
    get(&session, server.url("a.example", "/")).await.unwrap();
    get(&session, server.url("b.example", "/")).await.unwrap_err();
    get(&session, "nonsense".to_owned()).await.unwrap_err();
    get(&session, server.url("a.example", "/r")).await.unwrap();
    let error = get(&session, server.url("a.example", "/")).await.unwrap_err();
    assert!(is_quota_exceeded(&error, "5 requests"), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn bytes_are_counted_in_both_directions() {
    let server = Server::start(|_| response(200, &[], vec![b'x'; 60_000])).await;
    let url = server.url("a.example", "/");
    let fixture = Fixture::new().allow(server.url("a.example", "")).budget(|budget| {
        budget.bytes_up = 1_000;
        budget.bytes_down = 100_000;
    });
    let session = fixture.session();
    let error = session.send(Request::post(url.clone(), "text/plain", "x".repeat(1_000))).await.unwrap_err();
    assert!(is_quota_exceeded(&error, "1000 bytes to send"), "{error}");
    assert_eq!(server.connections(), 0);
    get(&session, url.clone()).await.unwrap();
    let error = get(&session, url.clone()).await.unwrap_err();
    assert!(is_quota_exceeded(&error, "100000 bytes to receive"), "{error}");
    let record = record(&session, &url);
    assert!(record.bytes_up < 1_000 && record.bytes_down > 60_000, "{record:?}");
}

#[tokio::test]
async fn a_stream_has_the_runs_budget_and_no_other_limit() {
    let server = Server::start(|_| response(200, &[], vec![b'x'; 100_000])).await;
    let fixture = Fixture::new().allow(server.url("a.example", "")).budget(|budget| {
        budget.body_limit = 10;
        budget.bytes_down = 150_000;
    });
    let session = fixture.session();
    let read = async || -> Result<usize, HttpError> {
        let mut stream = session.open(Request::get(server.url("a.example", "/"))).await?;
        let mut length = 0;
        while let Some(chunk) = stream.chunk().await? {
            length += chunk.len();
        }
        Ok(length)
    };
    assert_eq!(read().await.unwrap(), 100_000);
    let error = read().await.unwrap_err();
    assert!(is_quota_exceeded(&error, "150000 bytes to receive"), "{error}");
}
