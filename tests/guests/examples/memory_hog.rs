//! Allocates memory until there is none left.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    let mut allocations = Vec::new();
    loop {
        allocations.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}
