use serde_json::json;

use super::*;
use crate::kv::{Batch, Committed};
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
    assert_eq!(store.kv().commit(batch).await.unwrap(), Committed::Applied);
}

#[tokio::test]
async fn a_damaged_entry_does_not_stop_the_others() {
    let store = Store::in_memory();
    for (second, id) in ["place", "document", "standing", "lock", "whole"].into_iter().enumerate() {
        let mut changes = Changes::new();
        let serde_json::Value::Object(body) = json!({ "id": id }) else { unreachable!() };
        let lock = (id == "lock").then(|| id.to_owned());
        let second = at(second.try_into().unwrap());
        changes.create(job(id), body).enqueue(job(id), second, lock).schedule(job(id), Some(second));
        store.commit(changes).await.unwrap();
    }
    damage(&store, key::on_timeline(Timeline::Ready, at(0), &job("place"))).await;
    damage(&store, key::on_timeline(Timeline::Due, at(0), &job("place"))).await;
    damage(&store, key::of_document(Space::Document, &job("document")).unwrap()).await;
    damage(&store, key::of_document(Space::Job, &job("standing")).unwrap()).await;
    let mut batch = Batch::default();
    batch.put(key::of_lock(&InstanceId::global(), "lock"), vec![9]);
    assert_eq!(store.kv().commit(batch).await.unwrap(), Committed::Applied);

    assert_eq!(store.next_ready().unwrap(), Some(at(1)));
    assert_eq!(store.next_due().unwrap(), Some(at(1)));
    assert_eq!(store.due(at(9), 2).unwrap().len(), 2, "the limit counts readable ones");
    let ttl = std::time::Duration::from_secs(1);
    let leases = store.claim("w", at(9), ttl, 9, &|_, _| true, &|_| {}).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.job.id.as_str()).collect::<Vec<_>>(), ["whole"]);

    damage(&store, key::of_lease(&job("whole"))).await;
    assert_eq!(store.leases().unwrap(), []);
}

#[tokio::test]
async fn a_lease_beyond_the_calendar_is_refused() {
    let store = Store::in_memory();
    let claim = store.claim("w", at(0), std::time::Duration::MAX, 1, &|_, _| true, &|_| {}).await;
    assert!(matches!(claim, Err(Error::Invalid { field: "lease time", .. })));
}
