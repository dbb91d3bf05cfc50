//! A process that is killed at any moment has lost nothing that it was told is stored.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use konnector_store::{Changes, Direction, IndexRange, Store};
use serde_json::json;

use crate::support::{assert_no_sled_blobs, bill, body, job, later, open};

const DIR: &str = "KONNECTOR_STORE_CRASH_DIR";
const ROUND: &str = "KONNECTOR_STORE_CRASH_ROUND";

/// Not a test by itself: what the killed process does. Each commit writes a bill, sometimes a large one, and a job that is
/// queued, and says so once it is acknowledged.
#[tokio::test]
async fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let round = std::env::var(ROUND).unwrap();
    let store = open(Path::new(&dir));
    println!("open");
    // Built, dropped and built again while others write, so that kills fall into all of it.
    let indexer = store.clone();
    tokio::spawn(async move {
        let (instance, doctype) = (bill("").instance, bill("").doctype);
        loop {
            indexer.index(&instance, &doctype, &["size".to_owned()]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            indexer.drop_index(&instance, &doctype, &["size".to_owned()]).await.unwrap();
        }
    });
    let writers = (0..4).map(|writer| {
        let (store, round) = (store.clone(), round.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let id = format!("{round}-{writer}-{number}");
                let size = if number % 10 == 9 { 20_000 } else { number * 97 % 6_000 };
                let mut changes = Changes::new();
                changes.create(bill(&id), body(json!({ "text": "x".repeat(size), "size": size })));
                changes.create(job(&id), body(json!({}))).enqueue(job(&id), later(number as i64));
                store.commit(changes).await.unwrap();
                println!("stored {id}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

fn start(dir: &Path, round: usize) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "crash::child", "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir).env(ROUND, round.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Reads what the child acknowledged, up to its death.
fn acknowledged(child: &mut Child) -> std::thread::JoinHandle<Vec<String>> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::spawn(move || {
        let whole_lines = lines.map_while(Result::ok);
        whole_lines.filter_map(|line| line.split_once("stored ").map(|(_, id)| id.to_owned())).collect()
    })
}

async fn check(store: &Store, acknowledged: &HashSet<String>) {
    for id in acknowledged {
        let document = store.get(&bill(id)).unwrap().unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
        let size = document.body["size"].as_u64().unwrap() as usize;
        assert_eq!(document.body["text"].as_str().unwrap().len(), size);
    }
    // A commit that was not acknowledged may be there, but never in part.
    let bills = store.list(&bill("").instance, &bill("").doctype, None, usize::MAX).unwrap();
    let jobs = store.list(&job("").instance, &job("").doctype, None, usize::MAX).unwrap();
    let queued = store.queued(usize::MAX).unwrap();
    let queued: HashSet<&str> = queued.iter().map(|queued| queued.job.id.as_str()).collect();
    let names =
        |documents: &[konnector_store::Document]| documents.iter().map(|d| d.id.clone()).collect::<HashSet<_>>();
    assert_eq!(names(&bills), names(&jobs));
    assert_eq!(bills.len(), queued.len());
    assert!(bills.iter().all(|bill| queued.contains(bill.id.as_str())));
    let index = store.index(&bill("").instance, &bill("").doctype, &["size".to_owned()]).await.unwrap();
    let hits = store.scan(&index, &IndexRange::equal(&[]), Direction::Forward, None, usize::MAX).unwrap();
    let mut expected: Vec<_> = bills.iter().map(|bill| (bill.body["size"].as_u64(), bill.id.as_str())).collect();
    expected.sort_unstable();
    assert!(hits.iter().map(|hit| hit.id.as_str()).eq(expected.into_iter().map(|(_, id)| id)));
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut all = HashSet::new();
    for round in 0..24_usize {
        let mut child = start(dir.path(), round);
        let reader = acknowledged(&mut child);
        // Some rounds end while the store opens, which is when sled writes its state, most while it writes.
        std::thread::sleep(Duration::from_millis(if round % 4 == 0 {
            round as u64 * 2
        } else {
            80 + round as u64 * 13 % 150
        }));
        child.kill().unwrap();
        child.wait().unwrap();
        all.extend(reader.join().unwrap());
        let store = open(dir.path());
        runtime.block_on(check(&store, &all));
        drop(store);
        assert_no_sled_blobs(dir.path());
    }
    assert!(all.len() > 100, "only {} commits in all rounds: the test shows little", all.len());
}
