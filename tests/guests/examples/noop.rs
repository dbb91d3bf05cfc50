//! Does nothing: what a run costs at least.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    Ok(empty_report())
}
