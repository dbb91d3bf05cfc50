//! Survives a failed allocation: exceeding the memory limit is an error, not the end of the run.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    let mut allocations: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(1 << 20).is_err() {
            break;
        }
        piece.resize(1 << 20, 1);
        allocations.push(std::hint::black_box(piece));
    }
    let count = allocations.len();
    drop(allocations);
    log_info(format!("got {count} MiB, then did with less"));
    Ok(empty_report())
}
