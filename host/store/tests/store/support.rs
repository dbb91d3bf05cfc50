//! Names, bodies and backends for the tests.

use chrono::{DateTime, Utc};
use konnector_manifest::Doctype;
use konnector_store::{
    BlobInfo, BlobLink, Changes, DocRef, DocumentSchema, FsckOptions, FsckProblem, FsckProgress, InstanceId, Lease,
    Links, Map, QueueEntry, Rev, Store, StoreOptions,
};
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
    Store::open(dir, StoreOptions { cache_bytes: 4 * 1024 * 1024, ..StoreOptions::default() }).unwrap()
}

/// Schema of these tests: `contents` is a list of blobs, each with its size and checksum, and `content` is a blob.
pub struct BlobSchema;

impl DocumentSchema for BlobSchema {
    fn links(&self, _: &DocRef, body: &Map) -> Result<Links, String> {
        let contents = body.get("contents").and_then(Value::as_array).into_iter().flatten();
        let link = |content: &Value| {
            let blob = content["blob"].as_str().ok_or("a content has no blob")?.parse();
            let sha256 = content["sha256"].as_str().map(str::to_owned);
            Ok(BlobLink { blob: blob.map_err(|_| "a blob has no name")?, size: content["size"].as_u64(), sha256 })
        };
        let mut contents = contents.map(link).collect::<Result<Vec<_>, &str>>()?;
        if let Some(blob) = body.get("content").and_then(Value::as_str) {
            let blob = blob.parse().map_err(|_| "a blob has no name")?;
            contents.push(BlobLink { blob, size: None, sha256: None });
        }
        Ok(Links { blobs: contents, unique_keys: Vec::new() })
    }

    fn index_doctype(&self, _: &str) -> Option<Doctype> {
        None
    }
}

/// The description of a blob in a document; see [`BlobSchema`].
pub fn blob_json(blob: &BlobInfo) -> Value {
    json!({ "blob": blob.id, "size": blob.size, "sha256": hex::encode(blob.sha256) })
}

pub async fn blob(store: &Store, content: Vec<u8>) -> BlobInfo {
    let mut writer = store.blobs().create().await.unwrap();
    writer.write(bytes::Bytes::from(content)).await.unwrap();
    writer.finish().await.unwrap()
}

/// Path of a blob in a data folder.
pub fn blob_path(dir: &std::path::Path, blob: &konnector_store::BlobId) -> std::path::PathBuf {
    let name = blob.to_string();
    dir.join("blobs").join(&name[30..]).join(name)
}

/// Returns the problems that remain, after a repair if requested, and the repaired problems.
pub async fn fsck(store: &Store, repair: bool) -> (Vec<FsckProblem>, Vec<FsckProblem>) {
    let (mut found, mut repaired) = (Vec::new(), Vec::new());
    let mut report = |event: FsckProgress<'_>| match event {
        FsckProgress::Found(problem) => found.push(problem.clone()),
        FsckProgress::Repaired(problem) => repaired.push(problem.clone()),
        FsckProgress::Read(_) => {}
    };
    store.fsck(&BlobSchema, FsckOptions { deep: true, repair }, &mut report).await.unwrap();
    (found, repaired)
}

/// Asserts that the store is consistent.
pub async fn assert_clean(store: &Store) {
    assert_eq!(fsck(store, false).await.0, []);
}

/// Asserts the same after a crash, which may leave an orphaned blob whose document was not committed.
pub async fn assert_clean_after_a_crash(store: &Store) {
    let (found, repaired) = fsck(store, true).await;
    assert_eq!(found, []);
    assert!(repaired.iter().all(|problem| matches!(problem, FsckProblem::BlobOrphaned { .. })), "{repaired:?}");
}

/// sled writes pages that are too large to files that it never syncs; none may exist.
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

/// A second of a fixed day in the past.
pub fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000_000 + second, 0).unwrap()
}

pub async fn create(store: &Store, document: &DocRef, value: Value) -> Rev {
    let mut changes = Changes::new();
    changes.create(document.clone(), body(value));
    store.commit(changes).await.unwrap().remove(0)
}

/// The queue entry of a job that is queued before its time.
pub fn delayed(second: i64) -> QueueEntry {
    QueueEntry::new(at(second), at(-1))
}

pub async fn enqueue(store: &Store, job: &DocRef, second: i64, lock: Option<&str>) {
    let mut changes = Changes::new();
    changes.create(job.clone(), body(json!({ "state": "queued" })));
    changes.enqueue(job.clone(), delayed(second).lock(lock.map(str::to_owned)));
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
