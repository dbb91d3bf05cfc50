//! Passes more in one call than the host accepts.

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    log_info("x".repeat(parameters(&job)["bytes"].as_u64().unwrap_or(0) as usize));
    Ok(empty_report())
}
