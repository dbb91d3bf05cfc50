//! A process that writes to a store and prints the acknowledged commits, until it is killed or aborts itself.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use konnector_query::{Direction, IndexRange};
use konnector_store::{Changes, Store, StoreOptions};
use serde_json::json;

use crate::support::{assert_clean_after_a_crash, bill, body, delayed, job};

const DIR: &str = "KONNECTOR_STORE_CRASH_DIR";
const ROUND: &str = "KONNECTOR_STORE_CRASH_ROUND";
/// Number of commits that each writer makes before the store is closed; without it, the writers never stop.
const COMMITS: &str = "KONNECTOR_STORE_CRASH_COMMITS";

/// Not a test but the body of the child process. Each commit writes a bill, sometimes a large one, and a queued job,
/// and is printed once it is acknowledged. A failing commit ends the process with the error.
#[tokio::test]
#[ignore = "the body of the child process of the crash tests"]
async fn child() {
    let dir = std::env::var(DIR).expect("a folder from the parent process");
    let round = std::env::var(ROUND).unwrap();
    let commits = std::env::var(COMMITS).map_or(usize::MAX, |text| text.parse().unwrap());
    if let Err(error) = write(Path::new(&dir), &round, commits).await {
        println!("failed {error}");
        std::process::exit(9);
    }
}

async fn write(dir: &Path, round: &str, commits: usize) -> konnector_store::Result<()> {
    let store = Store::open(dir, StoreOptions { cache_bytes: 4 << 20, ..StoreOptions::default() })?;
    println!("open");
    // Built, dropped and built again during the writes, so the process may end in any of these phases.
    let indexer = store.clone();
    let indexing = tokio::spawn(async move {
        let (instance, doctype) = (bill("").instance, bill("").doctype);
        loop {
            indexer.ensure_index(&instance, &doctype, &["size".to_owned()]).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            indexer.drop_index(&instance, &doctype, &["size".to_owned()]).await?;
        }
        #[expect(unreachable_code, reason = "gives the block its type")]
        Ok::<(), konnector_store::Error>(())
    });
    let writers = (0..4).map(|writer| {
        let (store, round) = (store.clone(), round.to_owned());
        tokio::spawn(async move {
            for number in 0..commits {
                let id = format!("{round}-{writer}-{number}");
                let size = if number % 10 == 9 { 20_000 } else { number * 97 % 6_000 };
                let mut changes = Changes::new();
                changes.create(bill(&id), body(json!({ "text": "x".repeat(size), "size": size })));
                changes.create(job(&id), body(json!({}))).enqueue(job(&id), delayed(number as i64));
                store.commit(changes).await?;
                println!("stored {id}");
            }
            Ok::<(), konnector_store::Error>(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap()?;
    }
    indexing.abort();
    drop(indexing.await);
    store.close().await?;
    println!("closed");
    Ok(())
}

/// Handle of the child process.
pub struct WriterProcess {
    child: Child,
    lines: JoinHandle<Vec<String>>,
}

/// Result of the child process.
pub struct WriterExit {
    pub status: ExitStatus,
    pub acknowledged: Vec<String>,
    /// The error that ended the process.
    pub failed: Option<String>,
    pub closed: bool,
}

impl WriterProcess {
    pub fn start(dir: &Path, round: usize, commits: Option<usize>, failpoint: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child::child", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(DIR, dir).env(ROUND, round.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.envs(commits.map(|commits| (COMMITS, commits.to_string())));
        command.envs(failpoint.map(|failpoint| ("KONNECTOR_FAILPOINT", failpoint)));
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Self { child, lines }
    }

    pub fn kill(mut self) -> WriterExit {
        self.child.kill().unwrap();
        self.wait()
    }

    pub fn wait(mut self) -> WriterExit {
        let status = self.child.wait().unwrap();
        let lines = self.lines.join().unwrap();
        let after = |word: &str| {
            lines.iter().filter_map(|line| line.split_once(word)).map(|(_, rest)| rest.to_owned()).collect::<Vec<_>>()
        };
        WriterExit {
            status,
            acknowledged: after("stored "),
            failed: after("failed ").pop(),
            closed: lines.iter().any(|line| line.ends_with("closed")),
        }
    }
}

/// Checks that everything acknowledged exists, nothing exists in part, and the store is consistent.
pub async fn check(store: &Store, acknowledged: &HashSet<String>) {
    assert_clean_after_a_crash(store).await;
    for id in acknowledged {
        let document = store.get(&bill(id)).unwrap().unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
        let size = document.body["size"].as_u64().unwrap() as usize;
        assert_eq!(document.body["text"].as_str().unwrap().len(), size);
    }
    // A commit that was not acknowledged may exist, but never in part.
    let bills = store.list(&bill("").instance, &bill("").doctype, None, usize::MAX).unwrap();
    let jobs = store.list(&job("").instance, &job("").doctype, None, usize::MAX).unwrap();
    let queued = store.list_queued(usize::MAX).unwrap();
    let queued: HashSet<&str> = queued.iter().map(|queued| queued.job.id.as_str()).collect();
    let names =
        |documents: &[konnector_store::Document]| documents.iter().map(|d| d.id.clone()).collect::<HashSet<_>>();
    assert_eq!(names(&bills), names(&jobs));
    assert_eq!(bills.len(), queued.len());
    assert!(bills.iter().all(|bill| queued.contains(bill.id.as_str())));
    let index = store.ensure_index(&bill("").instance, &bill("").doctype, &["size".to_owned()]).await.unwrap();
    let hits = store.scan_index(&index, &IndexRange::equal(&[]), Direction::Forward, None, usize::MAX).unwrap();
    let mut expected: Vec<_> = bills.iter().map(|bill| (bill.body["size"].as_u64(), bill.id.as_str())).collect();
    expected.sort_unstable();
    assert!(hits.iter().map(|hit| hit.id.as_str()).eq(expected.into_iter().map(|(_, id)| id)));
}
