//! Survives a failed allocation: exceeding the memory limit is an error, not the end of the run.

use test_guests::prelude::*;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(1 << 20).is_err() {
            break;
        }
        piece.resize(1 << 20, 1);
        hoard.push(std::hint::black_box(piece));
    }
    let got = hoard.len();
    drop(hoard);
    log_info(format!("got {got} MiB, then did with less"));
    Ok(empty_report())
}
