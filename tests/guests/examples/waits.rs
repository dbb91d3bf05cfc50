//! Sends one request and waits for its answer: what a run costs that does nothing but wait for its vendor.

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let request = http::Request {
        method: "GET".to_owned(),
        url: parameters(&job)["url"].as_str().unwrap_or_default().to_owned(),
        headers: Vec::new(),
        body: None,
        expect: http::Expect::Auto,
        follow_redirects: true,
        timeout_ms: Some(120_000),
    };
    http::send(&request).map(|_| done()).map_err(|error| Failure::Bug(format!("{error:?}")))
}
