//! Names, bodies and backends for the tests.

use chrono::{DateTime, Utc};
use konnector_store::{Changes, DocRef, Fsck, InstanceId, Lease, Map, NoSchema, Options, Progress, Rev, Store, Turn};
use serde_json::{Value, json};

/// Runs each named test on the store in memory and on the one on disk.
macro_rules! on_every_backend {
    ($($test:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test] async fn $test() { super::$test(konnector_store::Store::in_memory()).await })+
        }
        mod on_disk {
            $(#[tokio::test] async fn $test() {
                let dir = tempfile::tempdir().unwrap();
                super::$test(crate::support::open(dir.path())).await;
                crate::support::assert_no_sled_blobs(dir.path());
            })+
        }
    };
}

pub(crate) use on_every_backend;

pub fn open(dir: &std::path::Path) -> Store {
    Store::open(dir, Options { cache_bytes: 4 * 1024 * 1024, ..Options::default() }).unwrap()
}

/// Nothing in the store contradicts anything else.
pub async fn assert_clean(store: &Store) {
    let mut problems = Vec::new();
    let check = Fsck { deep: true, repair: false, now: Utc::now() };
    let mut told = |event: Progress<'_>| {
        if let Progress::Found(problem) = event {
            problems.push(problem.to_string());
        }
    };
    store.fsck(&NoSchema, check, &mut told).await.unwrap();
    assert_eq!(problems, [""; 0]);
}

/// sled writes pages that are too large to files that it never syncs; there must be none.
pub fn assert_no_sled_blobs(dir: &std::path::Path) {
    assert_eq!(std::fs::read_dir(dir.join("sled/blobs")).unwrap().count(), 0);
}

pub fn instance(number: u8) -> InstanceId {
    format!("{number:032x}").parse().unwrap()
}

pub fn bill(id: impl Into<String>) -> DocRef {
    DocRef::new(&instance(1), &"io.cozy.bills".parse().unwrap(), id)
}

pub fn job(id: impl Into<String>) -> DocRef {
    DocRef::new(&instance(1), &"io.cozy.jobs".parse().unwrap(), id)
}

pub fn trigger(id: impl Into<String>) -> DocRef {
    DocRef::new(&instance(1), &"io.cozy.triggers".parse().unwrap(), id)
}

pub fn body(value: Value) -> Map {
    let Value::Object(map) = value else { panic!("{value} is not an object") };
    map
}

/// A second of a day long ago.
pub fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000_000 + second, 0).unwrap()
}

pub async fn create(store: &Store, document: &DocRef, value: Value) -> Rev {
    let mut changes = Changes::new();
    changes.create(document.clone(), body(value));
    store.commit(changes).await.unwrap().remove(0)
}

/// The turn of a job that is queued before its time.
pub fn later(second: i64) -> Turn {
    Turn::new(at(second), at(-1))
}

pub async fn queue(store: &Store, job: &DocRef, second: i64, lock: Option<&str>) {
    let mut changes = Changes::new();
    changes.create(job.clone(), body(json!({ "state": "queued" })));
    changes.enqueue(job.clone(), later(second).lock(lock.map(str::to_owned)));
    store.commit(changes).await.unwrap();
}

pub async fn claim(store: &Store, worker: &str, second: i64, limit: usize) -> Vec<Lease> {
    let started = |body: &mut Map| {
        body.insert("state".to_owned(), json!("running"));
    };
    store.claim(worker, at(second), limit, &|_, _| Vec::new(), &started).await.unwrap()
}

pub fn ids(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| lease.job.id.as_str()).collect()
}
