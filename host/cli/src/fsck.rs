//! `konnector fsck`: looks through the store of a stopped server, and repairs what follows from something else.

use std::process::ExitCode;

use konnector_platform::Schema;
use konnector_store::{FsckOptions, FsckProblem, FsckProgress, FsckSummary, Store};
use serde_json::{Value, json};

use crate::client::Connection;
use crate::error::Result;
use crate::offline::{self, Spinner};
use crate::output::{Output, done, warning};

const EXAMPLES: &str = "Examples:
  konnector fsck                       look at ./data; changes nothing
  konnector fsck --deep                read every file and job log too, and compare it with its checksum
  konnector fsck --repair              write indexes and queues anew where they are wrong, remove what belongs to nothing

Documents and files are never changed. A server that was not stopped in order does this by itself at its next start, without --deep.
Exit codes: 0 nothing is wrong any more, 1 something is left, 2 wrong usage.";

/// How many findings are listed in JSON.
const MAX_LISTED_PROBLEMS: usize = 1000;

/// Flags of `konnector fsck`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Read every file and job log, and compare it with its checksum.
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
    let going = Spinner::new(output);
    let mut findings = Vec::new();
    let summary = store
        .fsck(&Schema, options, &mut |event| {
            let (problem, repaired) = match event {
                FsckProgress::Read(entries) => return going.set_message(format!("{entries} entries")),
                FsckProgress::Found(problem) => (problem, false),
                FsckProgress::Repaired(problem) => (problem, true),
            };
            if !output.json {
                going.suspend(|| print_problem(problem, repaired));
            } else if findings.len() < MAX_LISTED_PROBLEMS {
                findings.push(problem_json(problem, repaired));
            }
        })
        .await?;
    drop(going);
    store.close().await?;
    let FsckSummary { entries, blobs, problems, repaired } = summary;
    let result =
        json!({ "entries": entries, "blobs": blobs, "problems": problems, "repaired": repaired, "findings": findings });
    output.show(&result, || match (problems, repaired) {
        (0, 0) => done(&format!("nothing is wrong with {entries} entries and {blobs} contents")),
        (0, _) => done(&format!("{repaired} repaired; nothing is wrong any more")),
        (_, 0) => warning(&format!("{problems} found in {entries} entries and {blobs} contents")),
        _ => warning(&format!("{repaired} repaired, {problems} left")),
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
    tracing::info!("the server was not stopped in order the last time: looking through the store");
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
    tracing::info!(entries, blobs, problems, repaired, "looked through the store");
    Ok(())
}
