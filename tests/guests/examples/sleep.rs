//! Sleeps.

use std::time::Duration;

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    std::thread::sleep(Duration::from_millis(parameters(&job)["ms"].as_u64().unwrap_or(60_000)));
    Ok(empty_report())
}
