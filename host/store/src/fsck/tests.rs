//! Damages each kind of entry on purpose, and checks that the damage is found, and repaired if other entries determine
//! it.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::json;

use super::*;
use crate::id::InstanceId;
use crate::key::{Keyspace, Timeline};
use crate::kv::Batch;
use crate::{Changes, QueueEntry, StoreOptions, frame};

/// Schema of this test: `content` is a blob, `name` a key in an index.
struct TestSchema;

impl DocumentSchema for TestSchema {
    fn links(&self, _: &DocRef, body: &Map) -> Result<Links, String> {
        let mut links = Links::default();
        if let Some(blob) = body.get("content") {
            let blob = blob.as_str().and_then(|blob| blob.parse().ok()).ok_or("its content is no blob")?;
            let text = |name: &str| body.get(name).and_then(|value| value.as_str()).map(str::to_owned);
            let size = body.get("size").and_then(serde_json::Value::as_u64);
            links.blobs.push(BlobLink { blob, size, sha256: text("sha256") });
        }
        links.unique_keys.extend(body.get("name").and_then(|name| Some(("names", name.as_str()?.to_owned()))));
        Ok(links)
    }

    fn index_doctype(&self, index: &str) -> Option<Doctype> {
        (index == "names").then(|| doc_ref("").doctype)
    }
}

fn doc_ref(id: &str) -> DocRef {
    DocRef::new(&"1".repeat(32).parse().unwrap(), &"io.cozy.things".parse().unwrap(), id)
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000_000 + second, 0).unwrap()
}

fn map(value: serde_json::Value) -> Map {
    let serde_json::Value::Object(map) = value else { panic!("{value}") };
    map
}

async fn blob(store: &Store, content: &'static str) -> crate::BlobInfo {
    let mut writer = store.blobs().create().await.unwrap();
    writer.write(Bytes::from_static(content.as_bytes())).await.unwrap();
    writer.finish().await.unwrap()
}

/// Writes an entry of every kind: a waiting job, a leased one with a lock, a trigger, an index, a unique key,
/// blobs, a deleted document.
async fn fill(store: &Store) {
    for id in ["leased", "waiting", "trigger"] {
        let mut changes = Changes::new();
        changes.create(doc_ref(id), map(json!({ "size": id.len() })));
        match id {
            "trigger" => changes.schedule(doc_ref(id), Some(at(5))),
            _ => changes.enqueue(doc_ref(id), QueueEntry::new(at(1), at(0)).lock(Some("account".to_owned()))),
        };
        store.commit(changes).await.unwrap();
    }
    store.claim("worker", at(1), 1, &|_, _| Vec::new(), &|_| {}).await.unwrap();
    let content = blob(store, "a receipt").await;
    let mut changes = Changes::new();
    let file = json!({ "name": "receipt", "content": content.id, "size": content.size, "sha256": hex::encode(content.sha256) });
    changes.create(doc_ref("file"), map(file)).put_unique(&doc_ref("").instance, "names", "receipt", "file");
    changes.create(doc_ref("large"), map(json!({ "text": "x".repeat(20_000), "size": 1 })));
    changes.create(doc_ref("deleted"), Map::new());
    let rev = store.commit(changes).await.unwrap().pop().unwrap();
    let mut changes = Changes::new();
    changes.delete(doc_ref("deleted"), &rev);
    store.commit(changes).await.unwrap();
    store.ensure_index(&doc_ref("").instance, &doc_ref("").doctype, &["size".to_owned()]).await.unwrap();
}

async fn write(store: &Store, key: Vec<u8>, value: Option<Vec<u8>>) {
    let mut batch = Batch::default();
    match value {
        Some(value) => batch.put(key, value),
        None => batch.remove(key),
    };
    assert_eq!(store.kv().commit(batch).await.unwrap(), CommitOutcome::Applied);
}

async fn flip_bit(store: &Store, key: Vec<u8>) {
    let mut bytes = store.kv().get(&key).unwrap().unwrap_or_else(|| panic!("no entry {}", key.escape_ascii()));
    *bytes.last_mut().unwrap() ^= 1;
    write(store, key, Some(bytes)).await;
}

fn fsck_options(deep: bool, repair: bool) -> FsckOptions {
    FsckOptions { deep, repair }
}

async fn run_fsck(store: &Store, options: FsckOptions) -> (FsckSummary, Vec<String>) {
    let mut messages = Vec::new();
    let summary = store
        .fsck(&TestSchema, options, &mut |event| match event {
            FsckProgress::Read(_) => {}
            FsckProgress::Found(problem) => messages.push(problem.to_string()),
            FsckProgress::Repaired(problem) => messages.push(format!("{problem}: {}", problem.repair_hint().unwrap())),
        })
        .await
        .unwrap();
    (summary, messages)
}

async fn filled_store() -> Store {
    let store = Store::in_memory();
    fill(&store).await;
    assert_eq!(run_fsck(&store, fsck_options(true, false)).await.1, [""; 0], "nothing is wrong yet");
    store
}

/// Returns the entries of the secondary index.
fn entries(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let range = key::KeyRange::with_prefix(key::entries_prefix(&doc_ref("").instance, &doc_ref("").doctype, 0));
    store.kv().scan(&range.from, &range.to, 100, false).unwrap()
}

fn entry(store: &Store, id: &str) -> Vec<u8> {
    let found = entries(store).into_iter().find(|(key, _)| key.ends_with(id.as_bytes()));
    found.unwrap_or_else(|| panic!("no entry of {id}")).0
}

fn dump(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = key::all();
    store.kv().scan(&all.from, &all.to, usize::MAX, false).unwrap()
}

#[tokio::test]
async fn missing_derived_entries_are_rewritten() {
    let instance = doc_ref("").instance;
    let keys = |store: &Store| {
        [
            ("place in the queue", key::of_ready("", Some("account"), at(1), &doc_ref("waiting"))),
            ("lock", key::of_lock(&instance, "account")),
            ("place in the schedule", key::of_timeline(Timeline::Due, at(5), &doc_ref("trigger"))),
            ("unique key", key::of_unique(&instance, "names", "receipt").unwrap()),
            ("entry of an index", entry(store, "large")),
        ]
    };
    let mut messages = Vec::new();
    for number in 0..5 {
        for damage in ["removed", "flipped"] {
            let store = filled_store().await;
            let before = dump(&store);
            let (name, key) = keys(&store)[number].clone();
            match damage {
                "removed" => write(&store, key, None).await,
                _ => flip_bit(&store, key).await,
            }
            messages
                .push(format!("{name} {damage}: {}", run_fsck(&store, fsck_options(false, false)).await.1.join("; ")));
            let (summary, _) = run_fsck(&store, fsck_options(false, true)).await;
            assert!(summary.problems == 0 && summary.repaired > 0, "{name} {damage}: {summary:?}");
            assert!(dump(&store) == before, "{name} {damage}: not what was there before");
        }
    }
    insta::assert_snapshot!(messages.join("\n"), @r#"
    place in the queue removed: the queue entry of io.cozy.things/waiting is missing
    place in the queue flipped: the queue entry of io.cozy.things/waiting has a wrong value; a queue entry (entry \x02q\xe3\xb0\xc4B\x98\xfc\x1c\x14\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x9a\xf2\x112\x9b/\xc8.\x80\x03\x8d~\xa4\xd5\xc2@io.cozy.things/waiting) is invalid: it cannot be read
    lock removed: the lock of io.cozy.things/leased is missing
    lock flipped: the lock of io.cozy.things/leased has a wrong value; a lock (account of instance 11111111111111111111111111111111) is invalid: it cannot be read
    place in the schedule removed: the schedule entry of io.cozy.things/trigger is missing
    place in the schedule flipped: the schedule entry of io.cozy.things/trigger has a wrong value; a schedule entry (entry \x02w\x80\x03\x8d~\xa5\x12\xcb@\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11io.cozy.things/trigger) is invalid: it cannot be read
    unique key removed: the key "receipt" in the index names of io.cozy.things/file is missing
    unique key flipped: the key "receipt" in the index names of io.cozy.things/file has a wrong value; a key in the index names (names/receipt of instance 11111111111111111111111111111111) is invalid: it cannot be read
    entry of an index removed: the entry in the index over size of io.cozy.things/large is missing
    entry of an index flipped: the entry in the index over size of io.cozy.things/large has a wrong value; an entry of an index (io.cozy.things/////0\xbf\xf0//////\x80/large of instance 11111111111111111111111111111111) is invalid: it cannot be read
    "#);
}

#[tokio::test]
async fn stray_entries_are_removed() {
    let instance = doc_ref("").instance;
    let stray = |store: &Store| {
        let copy = |from: Vec<u8>| store.kv().get(&from).unwrap().unwrap();
        let mut nowhere = entry(store, "large");
        nowhere.extend(b"r");
        [
            (
                "place in the queue",
                key::of_timeline(Timeline::Delayed, at(2), &doc_ref("waiting")),
                copy(key::of_ready("", Some("account"), at(1), &doc_ref("waiting"))),
            ),
            ("lease", key::of_lease(&doc_ref("waiting")), copy(key::of_lease(&doc_ref("leased")))),
            ("lock", key::of_lock(&instance, "other"), copy(key::of_lock(&instance, "account"))),
            (
                "place in the schedule",
                key::of_timeline(Timeline::Due, at(6), &doc_ref("trigger")),
                copy(key::of_timeline(Timeline::Due, at(5), &doc_ref("trigger"))),
            ),
            (
                "unique key",
                key::of_unique(&instance, "names", "bill").unwrap(),
                copy(key::of_unique(&instance, "names", "receipt").unwrap()),
            ),
            ("entry of an index", nowhere, copy(entry(store, "large"))),
            (
                "entry of no index",
                key::of_index_entry(&instance, &doc_ref("").doctype, 9, b"1", "large"),
                copy(entry(store, "large")),
            ),
            (
                "progress",
                key::of_build_progress(&instance, &doc_ref("").doctype, 0),
                frame::encode(String::new, &json!({ "after": null })).unwrap(),
            ),
            (
                "tombstone",
                key::of_document(Keyspace::Tombstone, &doc_ref("file")).unwrap(),
                copy(key::of_document(Keyspace::Tombstone, &doc_ref("deleted")).unwrap()),
            ),
            (
                "state of a job",
                key::of_document(Keyspace::Job, &doc_ref("gone")).unwrap(),
                copy(key::of_document(Keyspace::Job, &doc_ref("waiting")).unwrap()),
            ),
            (
                "due time",
                key::of_document(Keyspace::Schedule, &doc_ref("gone")).unwrap(),
                copy(key::of_document(Keyspace::Schedule, &doc_ref("trigger")).unwrap()),
            ),
        ]
    };
    let mut messages = Vec::new();
    for number in 0..11 {
        let store = filled_store().await;
        let before = dump(&store);
        let (name, key, value) = stray(&store)[number].clone();
        write(&store, key, Some(value)).await;
        messages.push(format!("{name}: {}", run_fsck(&store, fsck_options(false, false)).await.1.join("; ")));
        assert_eq!(run_fsck(&store, fsck_options(false, true)).await.0.problems, 0, "{name}");
        assert!(dump(&store) == before, "{name}: not what was there before");
    }
    insta::assert_snapshot!(messages.join("\n"), @r#"
    place in the queue: a queue entry (entry \x02r\x80\x03\x8d~\xa4\xe5\x04\x80\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11io.cozy.things/waiting) is invalid: io.cozy.things/waiting is not waiting at this place
    lease: a lease (entry \x02l\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11io.cozy.things/waiting) is invalid: io.cozy.things/leased does not have this lease
    lock: a lock (other of instance 11111111111111111111111111111111) is invalid: io.cozy.things/leased does not hold it
    place in the schedule: a schedule entry (entry \x02w\x80\x03\x8d~\xa5\"\r\x80\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11io.cozy.things/trigger) is invalid: io.cozy.things/trigger is not due at that time
    unique key: a key in the index names (names/bill of instance 11111111111111111111111111111111) is invalid: io.cozy.things/file does not have the key "receipt"
    entry of an index: an entry of an index (io.cozy.things/////0\xbf\xf0//////\x80/larger of instance 11111111111111111111111111111111) is invalid: io.cozy.things/large does not exist
    entry of no index: an entry of an index (io.cozy.things////\t1large of instance 11111111111111111111111111111111) is invalid: there is no such index
    progress: the build progress of an index (io.cozy.things///// of instance 11111111111111111111111111111111) is invalid: that index is not being built
    tombstone: the tombstone of a deleted document (io.cozy.things/file of instance 11111111111111111111111111111111) is invalid: the document exists
    state of a job: the state of a job in the queue (io.cozy.things/gone of instance 11111111111111111111111111111111) is invalid: its document is missing
    due time: the due time of a trigger (io.cozy.things/gone of instance 11111111111111111111111111111111) is invalid: its document is missing
    "#);
}

#[tokio::test]
async fn a_missing_lease_is_restored() {
    let mut messages = Vec::new();
    for damage in ["removed", "flipped"] {
        let store = filled_store().await;
        let key = key::of_lease(&doc_ref("leased"));
        match damage {
            "removed" => write(&store, key, None).await,
            _ => flip_bit(&store, key).await,
        }
        messages.push(run_fsck(&store, fsck_options(false, false)).await.1.join("; "));
        assert_eq!(run_fsck(&store, fsck_options(false, true)).await.0.problems, 0, "{damage}");
        let lease = store.leases().unwrap().pop().unwrap();
        assert_eq!((lease.job, lease.epoch, lease.lock.as_deref()), (doc_ref("leased"), 1, Some("account")));
    }
    insta::assert_snapshot!(messages.join("\n"), @r"
    the lease of io.cozy.things/leased is missing
    the lease of io.cozy.things/leased has a wrong value; a lease (entry \x02l\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11io.cozy.things/leased) is invalid: it cannot be read
    ");
}

#[tokio::test]
async fn a_damaged_catalog_is_removed_with_its_indexes() {
    let store = filled_store().await;
    flip_bit(&store, key::of_catalog(&doc_ref("").instance, &doc_ref("").doctype)).await;
    let (summary, messages) = run_fsck(&store, fsck_options(false, true)).await;
    assert_eq!((summary.problems, messages.len()), (0, 6), "{messages:?}");
    assert_eq!(entries(&store), []);
    store.ensure_index(&doc_ref("").instance, &doc_ref("").doctype, &["size".to_owned()]).await.unwrap();
    assert_eq!(entries(&store).len(), 5, "made again when asked for");
}

#[tokio::test]
async fn damaged_source_entries_are_reported_and_never_changed() {
    let mut messages = Vec::new();
    for (name, key) in [
        ("document", key::of_document(Keyspace::Document, &doc_ref("file")).unwrap()),
        ("tombstone", key::of_document(Keyspace::Tombstone, &doc_ref("deleted")).unwrap()),
        ("leased job", key::of_document(Keyspace::Job, &doc_ref("leased")).unwrap()),
        ("waiting job", key::of_document(Keyspace::Job, &doc_ref("waiting")).unwrap()),
        ("due time", key::of_document(Keyspace::Schedule, &doc_ref("trigger")).unwrap()),
        ("nobody's", b"\x07what".to_vec()),
    ] {
        let store = filled_store().await;
        match name {
            "nobody's" => write(&store, key, Some(b"?".to_vec())).await,
            _ => flip_bit(&store, key).await,
        }
        let before = dump(&store);
        let (summary, found) = run_fsck(&store, fsck_options(false, true)).await;
        assert_eq!((summary.problems, summary.repaired), (1, 0), "{name}: {found:?}");
        assert!(dump(&store) == before, "{name}");
        messages.push(format!("{name}: {}", found[0].split(": checksum").next().unwrap()));
    }
    insta::assert_snapshot!(messages.join("\n"), @r"
    document: a document (io.cozy.things/file of instance 11111111111111111111111111111111) cannot be read
    tombstone: the tombstone of a deleted document (io.cozy.things/deleted of instance 11111111111111111111111111111111) cannot be read
    leased job: the state of a job in the queue (io.cozy.things/leased of instance 11111111111111111111111111111111) cannot be read
    waiting job: the state of a job in the queue (io.cozy.things/waiting of instance 11111111111111111111111111111111) cannot be read
    due time: the due time of a trigger (io.cozy.things/trigger of instance 11111111111111111111111111111111) cannot be read
    nobody's: entry \x07what is of an unknown kind
    ");
}

#[tokio::test]
async fn contested_entries_are_left_to_the_operator() {
    let store = filled_store().await;
    let mut changes = Changes::new();
    changes.create(doc_ref("copy"), map(json!({ "name": "receipt" })));
    store.commit(changes).await.unwrap();
    let file = store.get(&doc_ref("file")).unwrap().unwrap();
    let mut changes = Changes::new();
    changes.create(doc_ref("shares"), map(json!({ "content": file.body["content"] })));
    store.commit(changes).await.unwrap();
    let (summary, messages) = run_fsck(&store, fsck_options(false, true)).await;
    assert_eq!(summary.repaired, 0);
    let blob = file.body["content"].as_str().unwrap();
    insta::assert_snapshot!(messages.join("\n").replace(blob, "<blob>"), @r#"
    the key "receipt" in the index names of io.cozy.things/copy is held by io.cozy.things/file, which also claims it
    blob <blob> of document io.cozy.things/shares also belongs to another document
    "#);
}

#[tokio::test]
async fn blobs_are_checked_and_with_deep_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    fill(&store).await;
    let unused = blob(&store, "unused").await.id;
    let content: BlobId =
        store.get(&doc_ref("file")).unwrap().unwrap().body["content"].as_str().unwrap().parse().unwrap();
    let record = store.kv().get(&key::of_document(Keyspace::Document, &doc_ref("large")).unwrap()).unwrap().unwrap();
    let record: crate::document::DocumentRecord = frame::decode(String::new, &record).unwrap();
    let large = record.body.blob().unwrap();
    let path = |blob: BlobId| folder.path().join("blobs").join(&blob.to_string()[30..]).join(blob.to_string());
    let named = |messages: Vec<String>| {
        let messages =
            messages.join("\n").replace(&content.to_string(), "<file>").replace(&large.to_string(), "<large>");
        messages.replace(&unused.to_string(), "<unused>")
    };

    insta::assert_snapshot!(named(run_fsck(&store, fsck_options(true, false)).await.1), @"no document refers to blob <unused>");
    assert!(path(unused).exists());
    insta::assert_snapshot!(named(run_fsck(&store, fsck_options(true, true)).await.1), @"no document refers to blob <unused>: it is removed");
    assert!(!path(unused).exists());

    // An entry that is not a blob, and cannot be removed like one, blocks nothing.
    std::fs::create_dir(path(unused)).unwrap();
    assert_eq!(run_fsck(&store, fsck_options(true, true)).await.1, [""; 0]);
    std::fs::remove_dir(path(unused)).unwrap();

    std::fs::write(path(content), "a receipz").unwrap();
    assert_eq!(run_fsck(&store, fsck_options(false, false)).await.1, [""; 0], "the size is right");
    let mut messages = run_fsck(&store, fsck_options(true, false)).await.1;
    std::fs::write(path(content), "a receip").unwrap();
    messages.extend(run_fsck(&store, fsck_options(false, false)).await.1);
    std::fs::remove_file(path(content)).unwrap();
    messages.extend(run_fsck(&store, fsck_options(false, false)).await.1);
    std::fs::write(path(large), "{").unwrap();
    messages.extend(run_fsck(&store, fsck_options(false, false)).await.1);
    std::fs::remove_file(path(large)).unwrap();
    let (summary, left) = run_fsck(&store, fsck_options(true, true)).await;
    assert_eq!(summary.repaired, 0, "what cannot be read may refer to anything, so nothing is removed");
    messages.extend(left);
    insta::assert_snapshot!(named(messages), @"
    blob <file> of document io.cozy.things/file is damaged: its SHA-256 is a785d41438386d832f4b794a64dc42234475ed5826ba8146260c845dfd05aec1 instead of 83eb65c95f440cb09910acf3c9cbefd64381a6097980698b568cc4a749668244
    blob <file> of document io.cozy.things/file is damaged: it is 8 bytes long instead of 9
    blob <file> of document io.cozy.things/file is missing
    document io.cozy.things/large does not match its type: its SHA-256 is 021fb596db81e6d02bf3d2586ee3981fe519f275c0ac9ca76bbcf2ebb4097d96 instead of 4355638e318dc0f0ed46d61525bd0a5f8eda9580f5ce3c3674f5776d392914cd
    blob <file> of document io.cozy.things/file is missing
    blob <file> of document io.cozy.things/file is missing
    blob <large> of document io.cozy.things/large is missing
    ");
}

#[tokio::test]
async fn an_index_being_built_is_not_a_problem() {
    let store = filled_store().await;
    let (instance, doctype) = (doc_ref("").instance, doc_ref("").doctype);
    // The state after a crash: declared, with the first documents in it.
    let catalog = key::of_catalog(&instance, &doctype);
    let bytes = store.kv().get(&catalog).unwrap().unwrap();
    let mut value: serde_json::Value = frame::decode(String::new, &bytes).unwrap();
    value["indexes"][0]["ready"] = json!(false);
    write(&store, catalog, Some(frame::encode(String::new, &value).unwrap())).await;
    let progress = frame::encode(String::new, &json!({ "after": "large" })).unwrap();
    write(&store, key::of_build_progress(&instance, &doctype, 0), Some(progress)).await;
    write(&store, entry(&store, "trigger"), None).await;
    assert_eq!(run_fsck(&store, fsck_options(false, false)).await.1, [""; 0]);
    write(&store, entry(&store, "large"), None).await;
    assert_eq!(run_fsck(&store, fsck_options(false, false)).await.0.problems, 1);
}

#[tokio::test]
async fn an_instance_of_its_own_is_named_in_a_key() {
    let key = key::of_document(Keyspace::Document, &doc_ref("file")).unwrap();
    assert_eq!(key::instance(&key), Some(doc_ref("").instance));
    assert_eq!(key::instance(&key::format()), None);
    assert_eq!(key::instance(&key::of_lock(&InstanceId::global(), "x")), Some(InstanceId::global()));
}

/// The documents are authoritative for the feed. Mismatched entries are removed, and a document without a place in it
/// is added to the end.
#[tokio::test]
async fn a_feed_is_put_in_order() {
    let (instance, doctype, start) = (doc_ref("").instance, doc_ref("").doctype, crate::Seq::default());
    let log = key::changes(&instance, &doctype).from;
    let number_key = |id: &str| key::of_document(Keyspace::Change, &doc_ref(id)).unwrap();
    let mut messages = Vec::new();
    for damage in ["change removed", "change damaged", "number removed", "number damaged", "change moved", "trace"] {
        let store = filled_store().await;
        let feed = || store.changes(&instance, &doctype, &start, 100, konnector_query::Direction::Forward);
        let before = feed().await.unwrap();
        let number: u64 = crate::view::read(store.kv(), &number_key("file")).unwrap().unwrap();
        let change = key::of_log_entry(&log, number);
        match damage {
            "change removed" => write(&store, change, None).await,
            "change damaged" => flip_bit(&store, change).await,
            "number removed" => write(&store, number_key("file"), None).await,
            "number damaged" => flip_bit(&store, number_key("file")).await,
            "change moved" => {
                let copy = store.kv().get(&change).unwrap();
                write(&store, key::of_log_entry(&log, 1_000), copy).await;
            }
            _ => write(&store, key::of_document(Keyspace::Tombstone, &doc_ref("deleted")).unwrap(), None).await,
        }
        messages.push(format!("{damage}: {}", run_fsck(&store, fsck_options(false, false)).await.1.join("; ")));
        let (summary, _) = run_fsck(&store, fsck_options(false, true)).await;
        assert!(summary.problems == 0 && summary.repaired > 0, "{damage}: {summary:?}");
        let after = feed().await.unwrap();
        let ids = |changes: &[crate::FeedChange]| {
            let ids = changes.iter().filter(|change| damage != "trace" || change.id != "deleted");
            ids.map(|change| (change.id.clone(), change.rev.clone())).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(ids(&after), ids(&before), "{damage}");
    }
    let messages = messages.join("\n").replace(" of instance 11111111111111111111111111111111", "");
    insta::assert_snapshot!(messages, @r#"
    change removed: the feed entry of io.cozy.things/file is missing; the number of a document's last change (io.cozy.things/file) is invalid: it points to no entry of the feed
    change damaged: an entry of a feed (io.cozy.things////////\x06) is invalid: it cannot be read; the feed entry of io.cozy.things/file is missing
    number removed: an entry of a feed (io.cozy.things////////\x06) is invalid: the document "file" has changed since; the feed entry of io.cozy.things/file is missing
    number damaged: an entry of a feed (io.cozy.things////////\x06) is invalid: the document "file" has changed since; the feed entry of io.cozy.things/file is missing; the number of a document's last change (io.cozy.things/file) is invalid: it points to no entry of the feed
    change moved: an entry of a feed (io.cozy.things///////\x03\xe8) is invalid: the number 1000 was not assigned yet
    trace: an entry of a feed (io.cozy.things////////\x08) is invalid: the document "deleted" has changed since
    "#);
}

/// Without the last number, all numbers are unknown, so the whole feed is created again and its readers start anew.
#[tokio::test]
async fn a_feed_without_its_sequence_is_rebuilt() {
    let store = filled_store().await;
    let (instance, doctype) = (doc_ref("").instance, doc_ref("").doctype);
    let feed = async |since: crate::Seq| {
        store.changes(&instance, &doctype, &since, 100, konnector_query::Direction::Forward).await.unwrap()
    };
    let before = feed(crate::Seq::default()).await;
    write(&store, key::sequence(), None).await;
    let (summary, _) = run_fsck(&store, fsck_options(false, true)).await;
    assert_eq!((summary.problems, feed(crate::Seq::default()).await.len()), (0, before.len()));
    assert_eq!(feed(before[before.len() - 1].seq.clone()).await.len(), before.len());
}
