//! Logs more than the host accepts.

use konnector_sdk::bindings::konnector::host::log;
use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    let line = "x".repeat(parameters["length"].as_u64().unwrap_or(10) as usize);
    for number in 0..parameters["lines"].as_u64().unwrap_or(0) {
        log::emit(log::Level::Debug, &line, &[("number".to_owned(), number.to_string())]);
    }
    Ok(empty_report())
}
