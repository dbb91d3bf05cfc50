//! The current version opens folders of released versions, with all their data.

use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::read::GzDecoder;
use konnector_query::Direction;
use konnector_store::{Changes, Seq, Store};
use serde_json::json;

use crate::support::{assert_clean, at, bill, body, claim, create, enqueue, instance, job, open, trigger};

/// Fills a store with data of every kind, the same each time.
async fn fill(store: &Store) {
    for number in 0..40 {
        let size = if number % 10 == 0 { 20_000 } else { number };
        create(store, &bill(format!("{number:02}")), json!({ "text": "x".repeat(size), "number": number })).await;
    }
    let rev = create(store, &bill("deleted"), json!({})).await;
    enqueue(store, &job("leased"), 5, Some("lock")).await;
    enqueue(store, &job("waiting"), 10, Some("lock")).await;
    claim(store, "worker", 6, 1).await;
    let mut content = store.blobs().create().await.unwrap();
    content.write(Bytes::from_static(b"the content of a file")).await.unwrap();
    let content = content.finish().await.unwrap().id;
    let mut changes = Changes::new();
    changes.create(trigger("t"), body(json!({ "content": content }))).schedule(trigger("t"), Some(at(20)));
    changes.put_unique(&instance(1), "names", "one", "t").delete(bill("deleted"), &rev);
    store.commit(changes).await.unwrap();
    store.ensure_index(&instance(1), &bill("").doctype, &["number".to_owned()]).await.unwrap();
}

/// The data that a program sees.
async fn describe(store: &Store) -> String {
    let mut lines = Vec::new();
    let instance = instance(1);
    for number in [0, 1, 39] {
        let found = store.get(&bill(format!("{number:02}"))).unwrap().unwrap();
        lines.push(format!("{} {} {}", found.id, found.rev, found.body["text"].as_str().unwrap().len()));
    }
    let bills = store.list(&instance, &bill("").doctype, None, usize::MAX).unwrap().len();
    lines.push(format!("{bills} bills, deleted: {}", store.was_deleted(&bill("deleted")).unwrap()));
    lines.push(format!("indexes: {:?}", store.list_indexes(&instance, &bill("").doctype).unwrap()));
    let changes = store.changes(&instance, &bill("").doctype, &Seq::default(), 100, Direction::Forward).await.unwrap();
    let deleted: Vec<_> = changes.iter().filter(|change| change.deleted).map(|change| &change.id).collect();
    lines.push(format!("{} changes, of deleted ones: {deleted:?}", changes.len()));
    let waiting = store.get_queued(&job("waiting")).unwrap().is_some();
    let lease = store.lease(&job("leased")).unwrap().unwrap();
    lines.push(format!("waiting: {waiting}; leased to {} with {:?}, epoch {}", lease.worker, lease.lock, lease.epoch));
    lines.push(format!("due: {:?}", store.due_at(&trigger("t")).unwrap().map(|due: DateTime<Utc>| due.to_rfc3339())));
    lines.push(format!("one: {:?}", store.lookup(&instance, "names", "one").unwrap()));
    let content = store.get(&trigger("t")).unwrap().unwrap().body["content"].as_str().unwrap().parse().unwrap();
    lines.push(String::from_utf8(store.blobs().read(&content).unwrap()).unwrap());
    lines.join("\n")
}

#[tokio::test]
async fn folders_of_every_format_are_opened() {
    let formats = [
        include_bytes!("../fixtures/format-1.tar.gz").as_slice(),
        include_bytes!("../fixtures/format-2.tar.gz").as_slice(),
    ];
    for packed in formats {
        let dir = tempfile::tempdir().unwrap();
        tar::Archive::new(GzDecoder::new(packed)).unpack(dir.path()).unwrap();
        assert_intact(&open(dir.path())).await;
    }
}

async fn assert_intact(store: &Store) {
    let description = describe(store).await;
    insta::allow_duplicates!(insta::assert_snapshot!(description, @r#"
    00 1-62ac3cf24d452a6fabd30fba65dce429 20000
    01 1-1f45f67c176fad4b21c1c29b058d18b8 1
    39 1-20e7b58471914529a4813d7bf3d17ab4 39
    40 bills, deleted: true
    indexes: [["number"]]
    41 changes, of deleted ones: ["deleted"]
    waiting: true; leased to worker with Some("lock"), epoch 1
    due: Some("2001-09-09T01:47:00+00:00")
    one: Some("t")
    the content of a file
    "#));
    assert_clean(store).await;
    // The store can be used, too.
    let lease = store.lease(&job("leased")).unwrap().unwrap();
    let mut changes = Changes::new();
    changes.complete(&lease);
    store.commit(changes).await.unwrap();
    assert_eq!(claim(store, "w", 100, 5).await.len(), 1);
    assert_clean(store).await;
}

/// Creates the fixture of a new format: `KONNECTOR_STORE_FIXTURE=tests/fixtures/format-N.tar.gz cargo test -p
/// konnector-store -- --ignored write_the_fixture`.
#[tokio::test]
#[ignore = "writes a file of the source tree, once for each format"]
async fn write_the_fixture() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store).await;
    store.close().await.unwrap();
    for left_out in ["BALLAST", "LOCK"] {
        std::fs::remove_file(dir.path().join(left_out)).unwrap();
    }
    let target = std::env::var("KONNECTOR_STORE_FIXTURE").unwrap();
    let file = std::fs::File::create(Path::new(&target)).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::best()));
    archive.append_dir_all(".", dir.path()).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
}
