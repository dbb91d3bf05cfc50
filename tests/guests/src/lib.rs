//! Guest programs for the tests of the sandbox: each example does one thing, usually one that a konnector should not
//! do. They use the contract directly, without the SDK, because they test the host.

use konnector_sdk::bindings::exports::konnector::host::run::Job;
use konnector_sdk::bindings::konnector::host::documents::{Order, Query, Range};
use konnector_sdk::bindings::konnector::host::files::Target;
use konnector_sdk::bindings::konnector::host::log;

/// The contract's types that nearly every guest needs.
pub mod prelude {
    pub use konnector_sdk::bindings::exports::konnector::host::run::{Failure, Job, Problem, Report};
    pub use konnector_sdk::bindings::konnector::host::{
        account, documents, files, http, progress, reveal, secrets, types,
    };
    pub use konnector_sdk_macros::konnector;
    pub use serde_json::Value;

    pub use crate::{empty_report, log_info, parameters, query, target};
}

/// The manifest's parameters, with which a test controls the guest.
pub fn parameters(job: &Job) -> serde_json::Value {
    serde_json::from_str(&job.parameters).unwrap_or_default()
}

/// Writes a line to the log.
pub fn log_info(line: impl AsRef<str>) {
    log::emit(log::Level::Info, line.as_ref(), &[]);
}

/// A report without problems.
pub fn empty_report() -> konnector_sdk::bindings::exports::konnector::host::run::Report {
    konnector_sdk::bindings::exports::konnector::host::run::Report { problems: Vec::new() }
}

/// A query for ten documents in the order of an index.
pub fn query(index: &[&str], equal: &[&str], range: Range) -> Query {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Query { index_fields: texts(index), equals: texts(equal), range, order: Order::Ascending, limit: 10, cursor: None }
}

/// A file in the account's folder; its name is also its key.
pub fn target(name: &str) -> Target {
    Target {
        folder: String::new(),
        name: name.to_owned(),
        key: Some(name.to_owned()),
        mime: None,
        created_at: None,
        metadata: "{}".to_owned(),
        references: Vec::new(),
    }
}
