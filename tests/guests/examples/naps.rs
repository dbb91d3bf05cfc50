//! Waits briefly and repeatedly: `rounds` times for `ms` milliseconds, or for the response of `url`.

use std::time::Duration;

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    let rounds = parameters["rounds"].as_u64().unwrap_or(20);
    let nap = Duration::from_millis(parameters["ms"].as_u64().unwrap_or(10));
    for _ in 0..rounds {
        match parameters["url"].as_str() {
            None => std::thread::sleep(nap),
            Some(url) => ask(url),
        }
    }
    Ok(empty_report())
}

fn ask(url: &str) {
    let request = http::Request {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: None,
        response_format: http::BodyFormat::Bytes,
        follow_redirects: false,
        timeout_ms: None,
        form_charset: None,
    };
    let response = http::send(&request).expect("an answer");
    assert_eq!(response.status, 200);
}
