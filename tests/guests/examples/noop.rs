//! Does nothing: the minimum cost of a run.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    Ok(empty_report())
}
