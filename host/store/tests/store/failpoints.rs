//! Between every two durable steps, the process ends or the step fails. Afterwards, everything acknowledged exists, and
//! the store opens and is consistent.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt as _;

use crate::child::{WriterProcess, check};
use crate::support::open;

const SIGABRT: i32 = 6;
/// Number of commits of each of the four writers.
const COMMITS: usize = 30;

/// Ends the process or fails the step when a failpoint is reached for the `times`th time; returns the number of
/// acknowledged commits and the error.
fn run_failpoint(place: &str, action: &str, time: usize) -> (usize, Option<String>) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = WriterProcess::start(dir.path(), 0, Some(5), None).wait();
    assert!(before.closed && before.status.success(), "{:?}", before.failed);
    let mut all: HashSet<String> = before.acknowledged.into_iter().collect();
    let ended = WriterProcess::start(dir.path(), 1, Some(COMMITS), Some(&format!("{place}={action}#{time}"))).wait();
    match action {
        "abort" => assert_eq!(ended.status.signal(), Some(SIGABRT), "{place} was not reached: {:?}", ended.failed),
        _ => assert_eq!(ended.status.code(), Some(9), "{place} did not fail"),
    }
    let acknowledged = ended.acknowledged.len();
    all.extend(ended.acknowledged);
    for _ in 0..2 {
        let store = open(dir.path());
        runtime.block_on(check(&store, &all));
        runtime.block_on(store.close()).unwrap();
    }
    (acknowledged, ended.failed)
}

macro_rules! places {
    ($($name:ident: $place:literal #$time:literal, $acknowledged:expr;)+) => {
        $(#[test] fn $name() {
            let expected: std::ops::RangeInclusive<usize> = $acknowledged;
            for action in ["abort", "error"] {
                let (acknowledged, failed) = run_failpoint($place, action, $time);
                assert!(expected.contains(&acknowledged), "{} {action}: {acknowledged} acknowledged", $place);
                assert_eq!(failed.is_some(), action == "error");
            }
        })+
    };
}

// The number after `#` is the hit at which the failpoint triggers; the range is how many commits may be acknowledged
// before.
places! {
    folder_marked: "open.marked" #1, 0..=0;
    database_opened: "open.database" #1, 0..=0;
    folder_synced: "open.synced" #1, 0..=0;
    commit_applied: "commit.applied" #20, 1..=119;
    commit_durable: "commit.durable" #20, 1..=119;
    blob_synced: "blob.synced" #3, 1..=119;
    blob_renamed: "blob.renamed" #3, 1..=119;
    blob_published: "blob.published" #3, 1..=119;
    store_closed: "close.closed" #1, 120..=120;
}

#[test]
fn a_failed_write_is_reported_and_nothing_is_acknowledged_afterwards() {
    let (_, failed) = run_failpoint("commit.durable", "error", 20);
    insta::assert_snapshot!(failed.unwrap(), @"an earlier write to the disk failed, so no change is accepted; check the disk, then restart the server");
}
