use std::io;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

use super::*;

/// Counts barriers, waits for permission to pass each one, and fails or panics on command.
struct ControlledBarrier {
    reached: Arc<AtomicUsize>,
    passed: Arc<AtomicUsize>,
    commands: Mutex<mpsc::Receiver<BarrierCommand>>,
}

enum BarrierCommand {
    Pass,
    Fail,
    Die,
}

impl Barrier for ControlledBarrier {
    fn wait(&mut self) -> io::Result<()> {
        self.reached.fetch_add(1, Ordering::SeqCst);
        match self.commands.get_mut().unwrap().recv() {
            Ok(BarrierCommand::Pass) => {
                self.passed.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            Ok(BarrierCommand::Fail) => Err(io::Error::other("no space left on device")),
            Ok(BarrierCommand::Die) | Err(_) => panic!("the writer dies"),
        }
    }
}

struct KvFixture {
    kv: Arc<SledKv>,
    reached: Arc<AtomicUsize>,
    passed: Arc<AtomicUsize>,
    commands: mpsc::Sender<BarrierCommand>,
    _dir: tempfile::TempDir,
}

fn fixture() -> KvFixture {
    let dir = tempfile::tempdir().unwrap();
    let db = sled::Config::new().path(dir.path()).flush_every_ms(None).open().unwrap();
    let (orders, received) = mpsc::channel();
    let passed = Arc::new(AtomicUsize::new(0));
    let reached = Arc::new(AtomicUsize::new(0));
    let gate = ControlledBarrier {
        reached: Arc::clone(&reached),
        passed: Arc::clone(&passed),
        commands: Mutex::new(received),
    };
    let kv = Arc::new(SledKv::with_barrier(db, Box::new(gate)).unwrap());
    KvFixture { kv, reached, passed, commands: orders, _dir: dir }
}

fn put(key: &str, expected: Option<&str>) -> Batch {
    let mut batch = Batch::default();
    batch.check(key.into(), expected.map(Into::into)).put(key.into(), b"value".to_vec());
    batch
}

fn commit(fixture: &KvFixture, batch: Batch) -> tokio::task::JoinHandle<Result<CommitOutcome>> {
    let kv = Arc::clone(&fixture.kv);
    tokio::spawn(async move { kv.commit(batch).await })
}

impl KvFixture {
    /// Returns once the writer waits at its barrier and this many requests wait for the writer.
    async fn until_waiting(&self, requests: usize) {
        let at_barrier = || self.reached.load(Ordering::SeqCst) > self.passed.load(Ordering::SeqCst);
        let sender = self.kv.requests.as_ref().unwrap();
        while !at_barrier() || sender.max_capacity() - sender.capacity() < requests {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_barrier() {
    let fixture = fixture();
    let first = commit(&fixture, put("a", None));
    fixture.until_waiting(0).await;
    assert!(!first.is_finished());
    fixture.commands.send(BarrierCommand::Pass).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), CommitOutcome::Applied);
}

#[tokio::test]
async fn waiting_commits_share_a_barrier_and_are_checked_in_order() {
    let fixture = fixture();
    let first = commit(&fixture, put("first", None));
    fixture.until_waiting(0).await;
    // These wait behind the first barrier. Of those for the same key, only the first finds it absent.
    let same: Vec<_> = (0..10).map(|_| commit(&fixture, put("same", None))).collect();
    let others: Vec<_> = (0..10).map(|number| commit(&fixture, put(&format!("other-{number}"), None))).collect();
    let after = commit(&fixture, put("same", Some("value")));
    fixture.until_waiting(21).await;
    fixture.commands.send(BarrierCommand::Pass).unwrap();
    fixture.commands.send(BarrierCommand::Pass).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), CommitOutcome::Applied);
    let mut applied = 0;
    for commit in same {
        applied += usize::from(commit.await.unwrap().unwrap() == CommitOutcome::Applied);
    }
    assert_eq!(applied, 1, "a refused batch fails alone");
    for commit in others {
        assert_eq!(commit.await.unwrap().unwrap(), CommitOutcome::Applied);
    }
    assert_eq!(after.await.unwrap().unwrap(), CommitOutcome::Applied, "a check sees earlier batches of its group");
    assert_eq!(fixture.passed.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn after_a_failed_barrier_nothing_is_accepted() {
    let fixture = fixture();
    fixture.commands.send(BarrierCommand::Pass).unwrap();
    assert_eq!(fixture.kv.commit(put("before", None)).await.unwrap(), CommitOutcome::Applied);
    fixture.commands.send(BarrierCommand::Fail).unwrap();
    assert!(matches!(fixture.kv.commit(put("failed", None)).await, Err(Error::Poisoned)));
    for _ in 0..3 {
        assert!(matches!(fixture.kv.commit(put("later", None)).await, Err(Error::Poisoned)));
        assert!(matches!(fixture.kv.commit(Batch::default()).await, Err(Error::Poisoned)), "not even an empty one");
    }
    assert_eq!(fixture.kv.get(b"before").unwrap().as_deref(), Some(b"value".as_slice()));
    assert_eq!(fixture.kv.get(b"later").unwrap(), None);
    insta::assert_snapshot!(Error::Poisoned, @"an earlier write to the disk failed, so no change is accepted; check the disk, then restart the server");
}

#[tokio::test]
async fn after_the_writer_died_nothing_is_accepted() {
    let fixture = fixture();
    fixture.commands.send(BarrierCommand::Die).unwrap();
    assert!(matches!(fixture.kv.commit(put("a", None)).await, Err(Error::Poisoned)));
    assert!(matches!(fixture.kv.commit(put("b", None)).await, Err(Error::Poisoned)));
}

#[tokio::test]
async fn closing_finishes_accepted_commits() {
    let fixture = fixture();
    let accepted = commit(&fixture, put("a", None));
    fixture.until_waiting(0).await;
    fixture.commands.send(BarrierCommand::Pass).unwrap();
    fixture.kv.close().await;
    assert_eq!(accepted.await.unwrap().unwrap(), CommitOutcome::Applied);
    assert!(matches!(fixture.kv.commit(put("b", None)).await, Err(Error::Closed)));
    fixture.kv.close().await;
}

#[tokio::test]
async fn oversized_batches_are_rejected_before_they_reach_the_disk() {
    let fixture = fixture();
    let mut large = Batch::default();
    large.put(b"key".to_vec(), vec![0; 9 * 1024]);
    insta::assert_snapshot!(fixture.kv.commit(large).await.unwrap_err(), @"the value of an entry is 9216 bytes long, but the limit is 8192 bytes; shorten it");
    let mut long = Batch::default();
    long.put(vec![b'k'; 257], vec![]);
    assert!(matches!(fixture.kv.commit(long).await, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn scans_are_bounded_and_go_both_ways() {
    let fixture = fixture();
    let mut batch = Batch::default();
    for key in ["a", "b", "c", "d"] {
        batch.put(key.into(), vec![]);
    }
    fixture.commands.send(BarrierCommand::Pass).unwrap();
    assert_eq!(fixture.kv.commit(batch).await.unwrap(), CommitOutcome::Applied);
    let keys = |from: &str, to: &str, limit, reverse| {
        let entries = fixture.kv.scan(from.as_bytes(), to.as_bytes(), limit, reverse).unwrap();
        entries.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<String>()
    };
    assert_eq!(keys("a", "d", 10, false), "abc");
    assert_eq!(keys("b", "z", 2, false), "bc");
    assert_eq!(keys("a", "z", 3, true), "dcb");
    assert_eq!(keys("c", "a", 3, false), "");
    assert_eq!(keys("a", "a", 3, true), "");
}
