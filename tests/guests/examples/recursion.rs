//! Calls itself until the stack overflows.

use test_guests::prelude::*;

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn dig(depth: u64) -> u64 {
    let floor = std::hint::black_box([depth; 64]);
    dig(std::hint::black_box(depth + 1)) + floor.iter().sum::<u64>()
}

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    log_info(dig(0).to_string());
    Ok(empty_report())
}
