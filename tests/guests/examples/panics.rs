//! Panics with the secret in its message.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    let password = reveal::reveal("password").unwrap_or_default();
    panic!("cannot read the page of {password}");
}
