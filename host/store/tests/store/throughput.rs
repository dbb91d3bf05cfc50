//! Group commit: many clients share the cost of an fsync.

use std::time::{Duration, Instant};

use konnector_store::Changes;
use serde_json::json;

use crate::support::{bill, body, open};

/// 64 clients wait for their commits at the same time. One fsync each would take 64 times as long as this allows: the
/// limit is measured in barriers, so it also holds on slow disks and busy machines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_share_barriers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let commit = |id: String| {
        let store = store.clone();
        async move {
            let mut changes = Changes::new();
            changes.create(bill(id), body(json!({ "amount": 12.5, "vendor": "Bank101" })));
            store.commit(changes).await.unwrap();
        }
    };
    let alone = 50;
    let started = Instant::now();
    for number in 0..alone {
        commit(format!("alone-{number}")).await;
    }
    let single = started.elapsed() / alone;

    let (clients, each) = (64, 40);
    let started = Instant::now();
    let tasks = (0..clients).map(|client| {
        let commits = (0..each).map(|number| commit(format!("{client}-{number}"))).collect::<Vec<_>>();
        tokio::spawn(async move {
            for commit in commits {
                commit.await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let (elapsed, commits) = (started.elapsed(), clients * each);
    let rate = f64::from(commits) / elapsed.as_secs_f64();
    println!("alone {single:?} per commit; {clients} clients: {rate:.0} commits per second");
    assert!(elapsed < (single * commits / 4).max(Duration::from_secs(1)), "{elapsed:?}, alone {single:?} per commit");
}
