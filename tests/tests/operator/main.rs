//! The operator's commands, as typed: the real binary against a real server.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

mod access;
mod accounts;
mod backup;
mod jobs;
mod maintenance;
mod registry;
mod unknown_names;

use std::path::Path;

use konnector_tests::server::run_command;
use serde_json::Value;

/// The JSON output of a command that succeeds.
fn run_ok(data: &Path, arguments: &[&str]) -> Value {
    let ran = run_command(data, arguments);
    assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
    ran.json
}

/// Exit code, message and advice of a command that fails.
fn run_error(data: &Path, arguments: &[&str]) -> String {
    let ran = run_command(data, arguments);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let text = |name: &str| error["error"][name].as_str().expect(name).to_owned();
    let advice = Some(text("advice")).filter(|advice| !advice.is_empty()).map(|advice| format!(" → {advice}"));
    format!("{} {}{}", ran.code.expect("a code"), text("message"), advice.unwrap_or_default())
}
