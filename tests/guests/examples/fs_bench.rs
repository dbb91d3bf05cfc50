//! Writes 10 MiB to a new file repeatedly, and logs the microseconds of each repetition.

use std::time::Instant;

use test_guests::prelude::*;

#[konnector]
fn run(_: Job) -> Result<Report, Failure> {
    let content: Vec<u8> = (0..10_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for number in 0..20 {
        let start = Instant::now();
        std::fs::write(format!("/files/{number}.bin"), &content).expect("written");
        log_info(start.elapsed().as_micros().to_string());
    }
    Ok(empty_report())
}
