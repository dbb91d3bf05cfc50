//! Fills `/tmp` in every way until writes are rejected, and cleans up in between.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};

use test_guests::prelude::*;

#[konnector]
fn run(_: Job) -> Result<Report, Failure> {
    let part = vec![7; 1 << 20];
    let mut file = File::create("/tmp/large").expect("a file");
    let mut error = None;
    for _ in 0..1_024 {
        if let Err(write_error) = file.write_all(&part) {
            error = Some(write_error);
            break;
        }
    }
    log_info(format!("1 GiB: {error:?} after {} bytes", fs::metadata("/tmp/large").expect("there").len()));
    log_info(format!("reading goes on: {:?}", fs::read("/tmp/large").map(|bytes| bytes.len())));
    drop(file);
    fs::remove_file("/tmp/large").expect("removed");

    let mut sparse = File::create("/tmp/sparse").expect("a file");
    sparse.seek(SeekFrom::Start(1 << 40)).expect("a place");
    log_info(format!("a hole of 1 TiB: {:?}", sparse.write_all(b"x")));
    log_info(format!("a length of 1 TiB: {:?}", sparse.set_len(1 << 40)));
    sparse.seek(SeekFrom::Start(30 << 20)).expect("a place");
    log_info(format!("a hole of 30 MiB: {:?}", sparse.write_all(b"x")));
    drop(sparse);
    fs::remove_file("/tmp/sparse").expect("removed");

    let mut count = 0;
    let error = (0..1_000_000).find_map(|number| {
        let created = File::create(format!("/tmp/{number}"));
        count += usize::from(created.is_ok());
        created.err()
    });
    log_info(format!("10^6 files: {error:?} after {count}"));
    fs::remove_file("/tmp/1").expect("removed");
    log_info(format!("room for one more: {:?}", fs::create_dir("/tmp/one").map_err(|error| error.kind())));

    let mut open = Vec::new();
    for _ in 0..100_000 {
        match File::open("/tmp/2") {
            Ok(file) => open.push(file),
            Err(error) => {
                log_info(format!("open: {error}"));
                break;
            }
        }
    }
    Ok(empty_report())
}
