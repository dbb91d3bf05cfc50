//! Opens a file repeatedly, and keeps the handles.

use test_guests::prelude::*;
use types::Locator;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    let mut handles = Vec::new();
    for _ in 0..100_000 {
        match files::open(&Locator::Id("bill.pdf".to_owned())) {
            Ok(content) => handles.push(content),
            Err(error) => {
                log_info(format!("after {}: {error:?}", handles.len()));
                break;
            }
        }
    }
    // Dropping one makes room for another.
    handles.pop();
    log_info(format!("{:?}", files::open(&Locator::Id("bill.pdf".to_owned())).map(|content| content.size())));
    // The host drops the last ones.
    std::mem::forget(handles);
    Ok(empty_report())
}
