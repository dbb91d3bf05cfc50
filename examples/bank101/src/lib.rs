//! stub
use konnector_sdk::bindings::exports::konnector::host::run::{Failure, Job, Report};

#[konnector_sdk_macros::konnector]
fn run(_job: Job) -> Result<Report, Failure> {
    konnector_sdk::bindings::konnector::host::log::emit(konnector_sdk::bindings::konnector::host::log::Level::Info, "hello", &[]);
    Ok(Report { problems: vec![] })
}
