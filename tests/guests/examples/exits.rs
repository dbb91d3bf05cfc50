//! Exits with `std::process::exit`.

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    std::process::exit(parameters(&job)["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(3))
}
