//! `konnector fsck`: checks the store of a stopped server, and repairs derived data.

use std::process::ExitCode;

use konnector_platform::Schema;
use konnector_store::{FsckOptions, FsckProblem, FsckProgress, FsckSummary, Store};
use serde_json::{Value, json};

use crate::client::Connection;
use crate::error::Result;
use crate::offline::{self, Spinner};
use crate::output::{Output, done, warning};

const EXAMPLES: &str = "Examples:
  konnector fsck                       check ./data without changing anything
  konnector fsck --deep                also compare every file and job log with its checksum
  konnector fsck --repair              rebuild damaged indexes and queues, delete orphaned data

Documents and files are never changed. After an unclean stop, the server checks and repairs its store when it starts,
without --deep.
Exit codes: 0 no problems left, 1 problems left, 2 usage error.";

/// Maximum number of findings in the JSON output.
const MAX_LISTED_PROBLEMS: usize = 1000;

/// Flags of `konnector fsck`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Also compare every file and job log with its checksum.
    #[arg(long)]
    deep: bool,
    /// Repair what can be repaired.
    #[arg(long)]
    repair: bool,
}

/// Runs the command.
pub async fn run(connection: &Connection, output: Output, arguments: &Arguments) -> Result<ExitCode> {
    let store = offline::open(connection.data().store()).await?;
    let options = FsckOptions { deep: arguments.deep, repair: arguments.repair };
    let spinner = Spinner::new(output);
    let mut findings = Vec::new();
    let summary = store
        .fsck(&Schema, options, &mut |event| {
            let (problem, repaired) = match event {
                FsckProgress::Read(entries) => return spinner.set_message(format!("{entries} entries")),
                FsckProgress::Found(problem) => (problem, false),
                FsckProgress::Repaired(problem) => (problem, true),
            };
            if !output.json {
                spinner.suspend(|| print_problem(problem, repaired));
            } else if findings.len() < MAX_LISTED_PROBLEMS {
                findings.push(problem_json(problem, repaired));
            }
        })
        .await?;
    drop(spinner);
    store.close().await?;
    let FsckSummary { entries, blobs, problems, repaired } = summary;
    let result =
        json!({ "entries": entries, "blobs": blobs, "problems": problems, "repaired": repaired, "findings": findings });
    output.show(&result, || match (problems, repaired) {
        (0, 0) => done(&format!("no problems in {entries} entries and {blobs} blobs")),
        (0, _) => done(&format!("repaired {repaired} problems; none left")),
        (_, 0) => warning(&format!("found {problems} problems in {entries} entries and {blobs} blobs")),
        _ => warning(&format!("repaired {repaired} problems; {problems} left")),
    });
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_problem(problem: &FsckProblem, repaired: bool) {
    match problem.repair_hint().filter(|_| repaired) {
        Some(repair) => say!("{problem}: {repair}"),
        None => say!("{problem}\n    → {}", problem.advice()),
    }
}

fn problem_json(problem: &FsckProblem, repaired: bool) -> Value {
    let mut value = serde_json::to_value(problem).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.insert("message".to_owned(), json!(problem.to_string()));
        members.insert("repaired".to_owned(), json!(repaired));
        members.insert("advice".to_owned(), json!((!repaired).then(|| problem.advice())));
    }
    value
}

/// Checks a store that was not closed cleanly, and repairs it as far as possible. Called when the server starts.
pub async fn repair_after_crash(store: &Store) -> Result<()> {
    let mut options = FsckOptions { deep: false, repair: false };
    tracing::info!("the server did not stop cleanly the last time; checking the store");
    let mut log = |event: FsckProgress<'_>| match event {
        FsckProgress::Read(_) => {}
        FsckProgress::Found(problem) => tracing::error!("{problem}"),
        FsckProgress::Repaired(problem) => tracing::warn!("{problem}: {}", problem.repair_hint().unwrap_or_default()),
    };
    let mut summary = store.fsck(&Schema, options, &mut |_| {}).await?;
    if summary.problems > 0 {
        options.repair = true;
        summary = store.fsck(&Schema, options, &mut log).await?;
    }
    let FsckSummary { entries, blobs, problems, repaired } = summary;
    tracing::info!(entries, blobs, problems, repaired, "checked the store");
    Ok(())
}
