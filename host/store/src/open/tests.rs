use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::{Changes, DocRef, InstanceId, Store, frame, key};

const TORN_STATE_FILE: &str = "snap.FFFFFFFFFFFFFFFF.generating";

fn document(number: usize) -> DocRef {
    DocRef::new(&InstanceId::global(), &"io.cozy.bills".parse().unwrap(), format!("{number:03}"))
}

fn open_store(dir: &Path) -> Result<Store> {
    Store::open(dir, StoreOptions::default())
}

/// Creates a data folder with 200 documents and a state file of sled, closed.
async fn filled_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path()).unwrap();
    for number in 0..200 {
        let mut changes = Changes::new();
        changes.create(document(number), serde_json::Map::from_iter([("n".to_owned(), number.into())]));
        store.commit(changes).await.unwrap();
    }
    store.close().await.unwrap();
    // sled writes its state when it opens a database that has a log.
    open_store(dir.path()).unwrap().close().await.unwrap();
    dir
}

fn document_numbers(store: &Store) -> Vec<u64> {
    let documents = store.list(&InstanceId::global(), &document(0).doctype, None, usize::MAX).unwrap();
    documents.iter().map(|document| document.body["n"].as_u64().unwrap()).collect()
}

fn all_numbers() -> Vec<u64> {
    (0..200).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The state that a process leaves if it is killed while sled starts.
#[tokio::test]
async fn a_torn_state_file_stops_sled_and_not_us() {
    let dir = filled_folder().await;
    let database = dir.path().join("sled");
    let states: Vec<_> = names(&database).into_iter().filter(|name| name.starts_with("snap.")).collect();
    let whole_state = fs::read(database.join(&states[0])).unwrap();
    fs::write(database.join(TORN_STATE_FILE), &whole_state[..whole_state.len() / 2]).unwrap();

    let raw = sled::Config::new().path(&database).open();
    assert!(matches!(raw, Err(sled::Error::Corruption { .. })), "sled opens it by itself: the guard is not needed");
    drop(raw);

    let store = open_store(dir.path()).unwrap();
    assert_eq!(document_numbers(&store), all_numbers());
    assert!(names(&dir.path().join("quarantine")).iter().any(|name| name.ends_with(TORN_STATE_FILE)));
}

#[tokio::test]
async fn a_damaged_state_is_replaced_by_reading_the_log() {
    let dir = filled_folder().await;
    let database = dir.path().join("sled");
    for name in names(&database).into_iter().filter(|name| name.starts_with("snap.")) {
        let path = database.join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(path, bytes).unwrap();
    }
    let store = open_store(dir.path()).unwrap();
    assert_eq!(document_numbers(&store), all_numbers());
    let set_aside = names(&dir.path().join("quarantine"));
    assert!(set_aside.iter().any(|name| name.ends_with("-sled")), "a copy was made before: {set_aside:?}");
}

#[tokio::test]
async fn two_processes_cannot_have_one_folder() {
    let dir = filled_folder().await;
    let store = open_store(dir.path()).unwrap();
    let error = open_store(dir.path()).err().unwrap().to_string();
    let path = dir.path().canonicalize().unwrap();
    let error = error.replace(&path.display().to_string(), "<dir>").replace(&std::process::id().to_string(), "<pid>");
    insta::assert_snapshot!(error, @"another konnector (process <pid>) is using the data folder <dir>; stop it, or choose another --data-dir");
    drop(store);
    assert_eq!(document_numbers(&open_store(dir.path()).unwrap()), all_numbers());
}

#[tokio::test]
async fn a_folder_opens_again_and_again() {
    let dir = filled_folder().await;
    for round in 0..10 {
        let store = open_store(dir.path()).unwrap();
        assert_eq!(document_numbers(&store), all_numbers());
        if round % 2 == 0 {
            store.close().await.unwrap();
        }
    }
    assert_eq!(names(&dir.path().join("quarantine")), [""; 0], "nothing was wrong with it");
    assert_eq!(names(dir.path()), ["BALLAST", "LOCK", "UNCLEAN", "blobs", "quarantine", "sled", "tmp"]);
}

#[tokio::test]
async fn a_new_folder_is_closed_to_others() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data/of/konnector");
    let _store = open_store(&dir).unwrap();
    for name in ["", "sled", "blobs", "tmp", "quarantine"] {
        assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o700, "{name}");
    }
}

/// Changes entries of a closed folder as a program of another version would.
fn with_database(dir: &Path, change: impl FnOnce(&sled::Db)) {
    let db = sled::Config::new().path(dir.join("sled")).open().unwrap();
    change(&db);
}

fn format_of(dir: &Path) -> u32 {
    let mut format = 0;
    with_database(dir, |db| format = frame::decode(String::new, &db.get(key::format()).unwrap().unwrap()).unwrap());
    format
}

#[tokio::test]
async fn a_folder_of_a_newer_program_is_rejected() {
    let dir = filled_folder().await;
    let message_for = |dir: &Path| {
        let path = dir.canonicalize().unwrap().display().to_string();
        open_store(dir).err().unwrap().to_string().replace(&path, "<dir>")
    };
    with_database(dir.path(), |db| {
        db.insert(key::format(), frame::encode(String::new, &3).unwrap()).unwrap();
        db.insert(key::program(), frame::encode(String::new, &"0.9.1").unwrap()).unwrap();
    });
    insta::assert_snapshot!(message_for(dir.path()), @"the data folder <dir> has format 3, but this konnector (0.1.0) supports formats up to 2; use konnector 0.9.1 or a newer version");
    with_database(dir.path(), |db| drop(db.remove(key::program()).unwrap()));
    insta::assert_snapshot!(message_for(dir.path()), @"the data folder <dir> has format 3, but this konnector (0.1.0) supports formats up to 2; use the version that wrote it or a newer version");
}

/// Steps as a later release could have them. The first one doubles the number of each document, but only once.
const TEST_MIGRATIONS: [Migration; 3] = [
    Migration { description: "ours", run: |_| Ok(()) },
    Migration {
        description: "numbers are doubled",
        run: |db| {
            for entry in db.range(key::documents(&InstanceId::global(), &document(0).doctype).from..) {
                let (key, bytes) = entry?;
                if !key::is_document(&key) {
                    continue;
                }
                let mut record: serde_json::Value = frame::decode(String::new, &bytes)?;
                let body = record["content"]["body"].as_object_mut().unwrap();
                if let Some(number) = body.shift_remove("n") {
                    body.insert("doubled".to_owned(), (number.as_u64().unwrap() * 2).into());
                    db.insert(key, frame::encode(String::new, &record)?)?;
                }
            }
            Ok(())
        },
    },
    Migration { description: "nothing is done", run: |_| Ok(()) },
];

#[tokio::test]
async fn an_older_folder_is_brought_forward_after_a_copy_of_it() {
    let dir = filled_folder().await;
    drop(open_with(dir.path(), &StoreOptions::default(), &TEST_MIGRATIONS).unwrap());
    assert_eq!(format_of(dir.path()), 4);
    let doubled = || {
        let opened = open_with(dir.path(), &StoreOptions::default(), &TEST_MIGRATIONS).unwrap();
        let range = key::documents(&InstanceId::global(), &document(0).doctype);
        let entries = crate::kv::Kv::scan(&opened.kv, &range.from, &range.to, 1000, false).unwrap();
        let numbers = entries.iter().map(|(_, bytes)| {
            let record: serde_json::Value = frame::decode(String::new, bytes).unwrap();
            record["content"]["body"]["doubled"].as_u64().unwrap()
        });
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(doubled(), all_numbers().into_iter().map(|number| number * 2).collect::<Vec<_>>());
    assert!(matches!(open_store(dir.path()), Err(Error::UnsupportedFormat { found: 4, supported: 2, .. })));

    // The copy is a database of the old format.
    let copy = dir.path().join("backups/format-2");
    let old = tempfile::tempdir().unwrap();
    fs::rename(&copy, old.path().join("sled")).unwrap();
    assert_eq!(document_numbers(&open_store(old.path()).unwrap()), all_numbers());
}

#[tokio::test]
async fn a_failed_step_is_repeated() {
    let dir = filled_folder().await;
    let failing = [
        Migration { description: TEST_MIGRATIONS[0].description, run: TEST_MIGRATIONS[0].run },
        Migration { description: TEST_MIGRATIONS[1].description, run: TEST_MIGRATIONS[1].run },
        Migration { description: "it fails", run: |_| Err(Error::Closed) },
    ];
    for _ in 0..2 {
        assert!(matches!(open_with(dir.path(), &StoreOptions::default(), &failing), Err(Error::Closed)));
        assert_eq!(format_of(dir.path()), 3, "the first step is done and not undone");
    }
    drop(open_with(dir.path(), &StoreOptions::default(), &TEST_MIGRATIONS).unwrap());
    assert_eq!(format_of(dir.path()), 4);
}

#[tokio::test]
async fn an_unclean_shutdown_leaves_a_marker() {
    let dir = filled_folder().await;
    let store = open_store(dir.path()).unwrap();
    assert!(!store.was_unclean());
    drop(store);
    let store = open_store(dir.path()).unwrap();
    assert!(store.was_unclean());
    store.close().await.unwrap();
    let store = open_store(dir.path()).unwrap();
    assert!(store.was_unclean(), "nobody looked through it");
    let check = crate::FsckOptions { deep: false, repair: false };
    assert_eq!(store.fsck(&crate::NoSchema, check, &mut |_| {}).await.unwrap().problems, 0);
    store.close().await.unwrap();
    assert!(!open_store(dir.path()).unwrap().was_unclean());
}

#[tokio::test]
async fn new_data_leaves_the_reserve_alone() {
    let dir = filled_folder().await;
    let everything = StoreOptions { reserve_bytes: Some(u64::MAX), ..StoreOptions::default() };
    let store = Store::open(dir.path(), everything).unwrap();
    let mut changes = Changes::new();
    changes.create(document(999), serde_json::Map::new());
    let error = store.commit(changes).await.unwrap_err();
    assert!(error.is_disk_full() && error.to_string().starts_with("the disk is nearly full: "), "{error}");
    let mut writer = store.blobs().create().await.unwrap();
    writer.write(bytes::Bytes::from_static(b"x")).await.unwrap();
    assert!(writer.finish().await.unwrap_err().is_disk_full());
    // Existing documents can still be changed and deleted.
    let rev = store.get(&document(0)).unwrap().unwrap().rev;
    let mut changes = Changes::new();
    changes.put(document(0), &rev, serde_json::Map::new());
    let rev = store.commit(changes).await.unwrap().remove(0);
    let mut changes = Changes::new();
    changes.delete(document(0), &rev);
    store.commit(changes).await.unwrap();
}

/// Removes the feed, which a folder of the first format does not have.
fn without_feed(dir: &Path) {
    with_database(dir, |db| {
        let keys: Vec<_> = db.iter().keys().collect::<Result<_, _>>().unwrap();
        for key in keys.iter().filter(|key| matches!(key.get(17), Some(b'c' | b'n')) || **key == key::sequence()) {
            db.remove(key).unwrap();
        }
        db.insert(key::format(), frame::encode(String::new, &1).unwrap()).unwrap();
    });
}

#[tokio::test]
async fn a_feed_is_built_once_even_if_started_repeatedly() {
    let dir = filled_folder().await;
    let store = open_store(dir.path()).unwrap();
    let rev = store.get(&document(7)).unwrap().unwrap().rev;
    let mut changes = Changes::new();
    changes.delete(document(7), &rev);
    store.commit(changes).await.unwrap();
    store.close().await.unwrap();
    without_feed(dir.path());
    // Killed in the middle, and started again.
    with_database(dir.path(), |db| {
        for _ in 0..2 {
            (MIGRATIONS[0].run)(db).unwrap();
        }
    });
    let store = open_store(dir.path()).unwrap();
    let (global, doctype) = (InstanceId::global(), document(0).doctype);
    let feed = store
        .changes(&global, &doctype, &crate::Seq::default(), 1000, konnector_query::Direction::Forward)
        .await
        .unwrap();
    assert_eq!((feed.len(), feed[199].deleted, feed[199].id.as_str()), (200, true, "007"));
    let check = crate::FsckOptions { deep: false, repair: false };
    assert_eq!(store.fsck(&crate::NoSchema, check, &mut |_| {}).await.unwrap().problems, 0);
}
