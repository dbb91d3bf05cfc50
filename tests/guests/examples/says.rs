//! Writes one log line, first of all: by that, a host sees when a guest begins.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    log_info("begun");
    Ok(empty_report())
}
