use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::{Changes, DocRef, InstanceId, Store};

const TORN: &str = "snap.FFFFFFFFFFFFFFFF.generating";

fn document(number: usize) -> DocRef {
    DocRef::new(&InstanceId::global(), &"io.cozy.bills".parse().unwrap(), format!("{number:03}"))
}

fn open_store(dir: &Path) -> Result<Store> {
    Store::open(dir, Options::default())
}

/// A data folder with 200 documents and a state file of sled, closed.
async fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path()).unwrap();
    for number in 0..200 {
        let mut changes = Changes::new();
        changes.create(document(number), serde_json::Map::from_iter([("n".to_owned(), number.into())]));
        store.commit(changes).await.unwrap();
    }
    store.close().await;
    // sled writes its state when it opens a database that has a log.
    open_store(dir.path()).unwrap().close().await;
    dir
}

fn content(store: &Store) -> Vec<u64> {
    let documents = store.list(&InstanceId::global(), &document(0).doctype, None, usize::MAX).unwrap();
    documents.iter().map(|document| document.body["n"].as_u64().unwrap()).collect()
}

fn whole() -> Vec<u64> {
    (0..200).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The state that a process leaves which is killed while sled starts.
#[tokio::test]
async fn a_torn_state_file_stops_sled_and_not_us() {
    let dir = filled().await;
    let database = dir.path().join("sled");
    let states: Vec<_> = names(&database).into_iter().filter(|name| name.starts_with("snap.")).collect();
    let whole_state = fs::read(database.join(&states[0])).unwrap();
    fs::write(database.join(TORN), &whole_state[..whole_state.len() / 2]).unwrap();

    let raw = sled::Config::new().path(&database).open();
    assert!(matches!(raw, Err(sled::Error::Corruption { .. })), "sled opens it by itself: the guard is not needed");
    drop(raw);

    let store = open_store(dir.path()).unwrap();
    assert_eq!(content(&store), whole());
    assert!(names(&dir.path().join("quarantine")).iter().any(|name| name.ends_with(TORN)));
}

#[tokio::test]
async fn a_damaged_state_is_replaced_by_reading_the_log() {
    let dir = filled().await;
    let database = dir.path().join("sled");
    for name in names(&database).into_iter().filter(|name| name.starts_with("snap.")) {
        let path = database.join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(path, bytes).unwrap();
    }
    let store = open_store(dir.path()).unwrap();
    assert_eq!(content(&store), whole());
    let set_aside = names(&dir.path().join("quarantine"));
    assert!(set_aside.iter().any(|name| name.ends_with("-sled")), "a copy was made before: {set_aside:?}");
}

#[tokio::test]
async fn two_processes_cannot_have_one_folder() {
    let dir = filled().await;
    let store = open_store(dir.path()).unwrap();
    let error = open_store(dir.path()).err().unwrap().to_string();
    let path = dir.path().canonicalize().unwrap();
    let error = error.replace(&path.display().to_string(), "<dir>").replace(&std::process::id().to_string(), "<pid>");
    insta::assert_snapshot!(error, @"another konnector (process <pid>) runs on the data folder <dir>: stop it, or choose another --data-dir");
    drop(store);
    assert_eq!(content(&open_store(dir.path()).unwrap()), whole());
}

#[tokio::test]
async fn a_folder_opens_again_and_again() {
    let dir = filled().await;
    for round in 0..10 {
        let store = open_store(dir.path()).unwrap();
        assert_eq!(content(&store), whole());
        if round % 2 == 0 {
            store.close().await;
        }
    }
    assert_eq!(names(&dir.path().join("quarantine")), [""; 0], "nothing was wrong with it");
    assert_eq!(names(dir.path()), ["LOCK", "blobs", "quarantine", "sled", "tmp"]);
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

#[tokio::test]
async fn a_folder_of_a_newer_program_is_refused() {
    let dir = filled().await;
    let db = sled::Config::new().path(dir.path().join("sled")).open().unwrap();
    db.insert(key::format(), frame::encode(String::new, &2).unwrap()).unwrap();
    drop(db);
    let error = open_store(dir.path()).err().unwrap().to_string();
    let path = dir.path().canonicalize().unwrap();
    insta::assert_snapshot!(error.replace(&path.display().to_string(), "<dir>"), @"the data folder <dir> has format 2, this konnector knows formats up to 1: use a newer konnector");
}
