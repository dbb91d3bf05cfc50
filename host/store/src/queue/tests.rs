use serde_json::json;

use super::*;
use crate::kv::{Batch, CommitOutcome};
use crate::{Changes, InstanceId, Store};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn job(id: &str) -> DocRef {
    DocRef::new(&InstanceId::global(), &"io.cozy.jobs".parse().unwrap(), id)
}

async fn damage(store: &Store, key: Vec<u8>) {
    let mut bytes = store.kv().get(&key).unwrap().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    batch.put(key, bytes);
    assert_eq!(store.kv().commit(batch).await.unwrap(), CommitOutcome::Applied);
}

#[tokio::test]
async fn a_damaged_entry_does_not_stop_the_others() {
    let store = Store::in_memory();
    for (second, id) in ["place", "document", "standing", "lock", "whole"].into_iter().enumerate() {
        let mut changes = Changes::new();
        let serde_json::Value::Object(body) = json!({ "id": id }) else { unreachable!() };
        let lock = (id == "lock").then(|| id.to_owned());
        let second = at(second.try_into().unwrap());
        changes
            .create(job(id), body)
            .enqueue(job(id), QueueEntry::new(second, at(-1)).lock(lock))
            .schedule(job(id), Some(second));
        store.commit(changes).await.unwrap();
    }
    damage(&store, key::of_timeline(Timeline::Delayed, at(0), &job("place"))).await;
    damage(&store, key::of_timeline(Timeline::Due, at(0), &job("place"))).await;
    damage(&store, key::of_document(Keyspace::Document, &job("document")).unwrap()).await;
    damage(&store, key::of_document(Keyspace::Job, &job("standing")).unwrap()).await;
    let mut batch = Batch::default();
    batch.put(key::of_lock(&InstanceId::global(), "lock"), vec![9]);
    assert_eq!(store.kv().commit(batch).await.unwrap(), CommitOutcome::Applied);

    assert_eq!(store.next_run_at().unwrap(), Some(at(1)));
    assert_eq!(store.next_due_at().unwrap(), Some(at(1)));
    assert_eq!(store.due_triggers(at(9), 2).unwrap().len(), 2, "the limit counts readable ones");
    let leases = store.claim("w", at(9), 9, &|_, _| Vec::new(), &|_| {}).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.job.id.as_str()).collect::<Vec<_>>(), ["whole"]);

    damage(&store, key::of_lease(&job("whole"))).await;
    assert_eq!(store.leases().unwrap(), []);
}

/// Counts the reads of the map below.
#[derive(Default)]
struct CountingKv {
    inner: crate::kv::MemoryKv,
    reads: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

#[async_trait::async_trait]
impl Kv for CountingKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let found = self.inner.scan(from, to, limit, reverse)?;
        self.reads.fetch_add(1 + found.len(), std::sync::atomic::Ordering::Relaxed);
        Ok(found)
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome> {
        self.inner.commit(batch).await
    }

    async fn close(&self) {}
}

/// Ten thousand jobs of a hundred instances and five classes are waiting, most of them for an account that is busy.
#[tokio::test]
async fn a_claim_reads_no_more_when_many_jobs_wait() {
    let kv = CountingKv::default();
    let reads = std::sync::Arc::clone(&kv.reads);
    let store = Store::with_backends(Box::new(kv), Box::new(crate::MemoryBlobs::default()));
    for part in 0..100_u64 {
        let instance: InstanceId = format!("{:032x}", part + 1).parse().unwrap();
        let mut changes = Changes::new();
        for number in 0..100 {
            let job = DocRef { instance: instance.clone(), ..job(&format!("{number:04}")) };
            changes.create(job.clone(), crate::Map::new());
            let lock = Some(format!("account/{}", number % 20));
            changes.enqueue(job, QueueEntry::new(at(0), at(0)).lock(lock).class(format!("class-{}", number % 5)));
        }
        store.commit(changes).await.unwrap();
    }
    let (mut claimed, mut instances) = (0, std::collections::HashSet::new());
    reads.store(0, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..200 {
        for lease in store.claim("w", at(1), 4, &|_, _| Vec::new(), &|_| {}).await.unwrap() {
            instances.insert(lease.job.instance.clone());
            claimed += 1;
            // Some jobs keep running, as many as a busy server has workers.
            if claimed > 64 {
                let mut ended = Changes::new();
                ended.complete(&lease);
                store.commit(ended).await.unwrap();
            }
        }
    }
    let each = reads.load(std::sync::atomic::Ordering::Relaxed) / claimed;
    assert_eq!((claimed, instances.len()), (800, 100));
    assert!(each < 80, "{each} reads for each claim");
}
