//! Writes one log line before anything else, which shows the host when a guest begins.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    log_info("begun");
    Ok(empty_report())
}
