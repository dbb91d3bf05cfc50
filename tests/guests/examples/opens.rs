//! Opens a file repeatedly, and keeps the handles.

use test_guests::prelude::*;
use types::Locator;

#[konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    let mut held = Vec::new();
    for _ in 0..100_000 {
        match files::open(&Locator::Id("bill.pdf".to_owned())) {
            Ok(content) => held.push(content),
            Err(error) => {
                log_info(format!("after {}: {error:?}", held.len()));
                break;
            }
        }
    }
    // Dropping one makes room for another.
    held.pop();
    log_info(format!("{:?}", files::open(&Locator::Id("bill.pdf".to_owned())).map(|content| content.size())));
    // The host drops the last ones.
    std::mem::forget(held);
    Ok(empty_report())
}
