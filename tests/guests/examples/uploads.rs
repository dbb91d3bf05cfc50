//! Handles uploads in every way that leaves no file, then holds as many as it can get.

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let abandoned = files::begin_upload(&target("abandoned.txt")).expect("an upload");
    abandoned.write(b"half of it").expect("written");
    drop(abandoned);

    let large = files::begin_upload(&target("large.bin")).expect("an upload");
    log_info(format!("{:?}", large.write(&vec![0; (1 << 20) + 1])));
    drop(large);

    let failing = files::begin_upload(&target("failing.bin")).expect("an upload");
    log_info(format!("{:?}", failing.write(b"fail")));
    log_info(format!("{:?}", failing.write(b"more")));
    log_info(format!("{:?}", files::Upload::commit(failing).map(|stored| stored.file.path)));

    let mut uploads = Vec::new();
    for number in 0..parameters(&job)["uploads"].as_u64().unwrap_or(0) {
        match files::begin_upload(&target(&format!("{number}.bin"))) {
            Ok(upload) => uploads.push(upload),
            Err(error) => {
                log_info(format!("after {} uploads: {error:?}", uploads.len()));
                break;
            }
        }
    }
    // The host drops the last ones.
    std::mem::forget(uploads);
    Ok(empty_report())
}
