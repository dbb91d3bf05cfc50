//! A backup contains everything that was acknowledged before it, opens only with its key, and reports its problems.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use konnector_query::Direction;
use konnector_store::{Changes, Error, MasterKey, NoSchema, SecretContext, Seq, Store, key_fingerprint, verify_backup};
use serde_json::json;

use crate::support::{
    BlobSchema, assert_clean, at, bill, blob, blob_json, blob_path, body, claim, create, enqueue, instance, job, open,
    trigger,
};

fn key(dir: &Path, name: &str) -> MasterKey {
    MasterKey::create(&dir.join(name)).unwrap()
}

async fn back_up(store: &Store, key: &MasterKey) -> Vec<u8> {
    let mut backup = Vec::new();
    store.back_up(&BlobSchema, key, &mut backup, &mut |_| {}).await.unwrap();
    backup
}

async fn verify(backup: &[u8], key: &MasterKey) -> Result<u64, String> {
    let mut from = backup;
    let verified = verify_backup(&mut from, &BlobSchema, key, &mut |_| {}).await;
    verified.map(|summary| summary.entries).map_err(|error| error.to_string())
}

async fn restore(backup: &[u8], key: &MasterKey, dir: &Path) -> Store {
    let store = open(dir);
    let mut from = backup;
    store.restore(&mut from, key, &mut |_| {}).await.unwrap();
    store.close().await.unwrap();
    open(dir)
}

/// Everything that a program can see.
async fn dump(store: &Store) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let instance = instance(1);
    for doctype in store.doctypes(&instance).unwrap() {
        for document in store.list(&instance, &doctype, None, usize::MAX).unwrap() {
            all.insert(format!("{doctype}/{}", document.id), format!("{} {:?}", document.rev, document.body));
        }
    }
    all.insert("queue".to_owned(), format!("{:?}", store.list_queued(usize::MAX).unwrap()));
    all.insert("leases".to_owned(), format!("{:?}", store.leases().unwrap()));
    all.insert("schedule".to_owned(), format!("{:?}", store.due_triggers(at(1_000_000), usize::MAX).unwrap()));
    all.insert("keys".to_owned(), format!("{:?}", store.lookup_prefix(&instance, "names", "", None, 1000).unwrap()));
    let changes =
        store.changes(&instance, &bill("").doctype, &Seq::default(), usize::MAX, Direction::Forward).await.unwrap();
    let changes: Vec<_> =
        changes.iter().map(|change| format!("{} {} {}", change.id, change.rev, change.deleted)).collect();
    all.insert("changes".to_owned(), changes.join(" "));
    all.insert("deleted".to_owned(), format!("{}", store.was_deleted(&bill("deleted")).unwrap()));
    for blob in store.blobs().list().await.unwrap() {
        all.insert(format!("blob {blob}"), format!("{:?}", store.blobs().read(&blob).unwrap().len()));
    }
    all
}

/// A store with data of every kind, and a secret that must not be visible.
async fn filled_store(dir: &Path, key: &MasterKey) -> Store {
    let store = open(dir);
    for number in 0..600 {
        let size = if number % 100 == 0 { 20_000 } else { number };
        create(&store, &bill(format!("{number:03}")), json!({ "text": "x".repeat(size), "number": number })).await;
    }
    let context = SecretContext {
        instance: instance(1),
        account: "a".to_owned(),
        konnector: Some("bank".to_owned()),
        field: "password".to_owned(),
    };
    let sealed = key.seal(&context, b"canary-secret").unwrap();
    create(&store, &bill("account"), json!({ "sealed": sealed, "clear": "canary-clear" })).await;
    enqueue(&store, &job("waiting"), 10, Some("lock")).await;
    enqueue(&store, &job("leased"), 5, Some("lock")).await;
    claim(&store, "worker", 6, 1).await;
    create(&store, &trigger("t"), json!({})).await;
    let rev = create(&store, &bill("deleted"), json!({})).await;
    let mut changes = Changes::new();
    changes.schedule(trigger("t"), Some(at(20))).delete(bill("deleted"), &rev);
    changes.put_unique(&instance(1), "names", "one", "1");
    store.commit(changes).await.unwrap();
    let mut contents = Vec::new();
    for size in [0, 1, 65_536, 300_000] {
        contents.push(blob_json(&blob(&store, (0..size).map(|byte: usize| (byte * 7) as u8).collect()).await));
    }
    create(&store, &bill("contents"), json!({ "contents": contents })).await;
    store.ensure_index(&instance(1), &bill("").doctype, &["number".to_owned()]).await.unwrap();
    store
}

#[tokio::test]
async fn a_restored_store_equals_the_original() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    let store = filled_store(&dir.path().join("old"), &key).await;
    let backup = back_up(&store, &key).await;
    assert!(verify(&backup, &key).await.unwrap() > 600);
    let restored = restore(&backup, &key, &dir.path().join("new")).await;
    assert_eq!(dump(&restored).await, dump(&store).await);
    assert_eq!(key_fingerprint(&dir.path().join("new")).unwrap(), Some(key.fingerprint()));
    assert_clean(&restored).await;
    // A reader of the old store's feed starts anew, because the backup may lack changes that it saw.
    let doctype = &bill("").doctype;
    let last_change =
        store.changes(&instance(1), doctype, &Seq::default(), 1, Direction::Backward).await.unwrap().remove(0);
    assert_eq!(store.changes(&instance(1), doctype, &last_change.seq, 10, Direction::Forward).await.unwrap(), []);
    let changes = restored.changes(&instance(1), doctype, &last_change.seq, 10, Direction::Forward).await.unwrap();
    assert_eq!(changes.len(), 10);

    let mut from = backup.as_slice();
    let error = restored.restore(&mut from, &key, &mut |_| {}).await.unwrap_err();
    insta::assert_snapshot!(error, @"invalid data folder: it already contains data; restore into a new folder");
    for canary in ["canary-secret", "canary-clear", "io.cozy.bills"] {
        assert!(!backup.windows(canary.len()).any(|window| window == canary.as_bytes()), "{canary} can be read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_a_consistent_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    let store = open(&dir.path().join("old"));
    // Two documents always contain the same number, one at each end of the map; and blobs are created and deleted.
    let pair = [bill("000-first"), job("zzz-last")];
    let mut revs = Vec::new();
    for document in &pair {
        revs.push(create(&store, document, json!({ "number": 0 })).await);
    }
    for number in 0..2_000 {
        let mut changes = Changes::new();
        for document in 0..5 {
            changes.create(bill(format!("{number}-{document}")), body(json!({ "text": "x".repeat(500) })));
        }
        store.commit(changes).await.unwrap();
        if number == 200 {
            break;
        }
    }
    let mut first = Vec::new();
    for round in 0..6 {
        let writer = {
            let (store, pair, mut revs) = (store.clone(), pair.clone(), revs.clone());
            tokio::spawn(async move {
                for number in 1..60 {
                    let large = "y".repeat(if number % 2 == 0 { 9_000 } else { 10 });
                    let mut changes = Changes::new();
                    for (document, rev) in pair.iter().zip(&revs) {
                        changes.put(
                            document.clone(),
                            rev,
                            body(json!({ "number": round * 100 + number, "large": large })),
                        );
                    }
                    revs = store.commit(changes).await.unwrap();
                }
                revs
            })
        };
        tokio::task::yield_now().await;
        let backup = back_up(&store, &key).await;
        revs = writer.await.unwrap();
        let folder = dir.path().join(format!("new-{round}"));
        let restored = restore(&backup, &key, &folder).await;
        let numbers = pair.each_ref().map(|document| restored.get(document).unwrap().unwrap().body["number"].clone());
        assert_eq!(numbers[0], numbers[1], "torn");
        assert_clean(&restored).await;
        first.push(numbers[0].as_u64().unwrap());
    }
    let during = first.iter().filter(|number| (1..59).contains(&(**number % 100))).count();
    assert!(during > 0, "no backup fell into the writing: {first:?}");
    // Blobs removed in the meantime are deleted in the end: at most one blob of a large body remains for each document.
    assert!(store.blobs().list().await.unwrap().len() <= 2, "removals were put off, not forgotten");
}

#[tokio::test]
async fn errors_name_the_damage_of_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (key(dir.path(), "right"), key(dir.path(), "wrong"));
    let store = filled_store(&dir.path().join("old"), &right).await;
    let backup = back_up(&store, &right).await;
    let head = backup.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    let piece = 64 * 1024 + 16;
    // The header contains a time, so its length differs from run to run.
    let named = |text: String| {
        let text = text.replace(&right.fingerprint(), "<right>").replace(&wrong.fingerprint(), "<wrong>");
        (0..=(backup.len() - head) / piece).rev().fold(text, |text, pieces| {
            let replacement = if pieces == 0 { "<head>".to_owned() } else { format!("<head + {pieces} pieces>") };
            text.replace(&(head + pieces * piece).to_string(), &replacement)
        })
    };
    let mut errors = vec![format!("another key: {}", verify(&backup, &wrong).await.unwrap_err())];
    for (name, length) in [
        ("empty", 0),
        ("the beginning", 40),
        ("no data", head),
        ("two pieces", head + 2 * piece),
        ("half a piece", head + piece / 2),
        ("all but a byte", backup.len() - 1),
    ] {
        let error = verify(&backup[..length], &right).await.unwrap_err();
        errors.push(format!("cut off, {name}: {error}"));
    }
    let flipped = |position: usize| {
        let mut backup = backup.clone();
        backup[position] ^= 1;
        backup
    };
    for (name, position) in [
        ("in the first word", 2),
        ("in the version", 17),
        ("in the first piece", head + 100),
        ("in the last", backup.len() - 5),
    ] {
        errors.push(format!("a flipped bit {name}: {}", verify(&flipped(position), &right).await.unwrap_err()));
    }
    // The start is bound to every piece, so any change to it is detected.
    for position in 0..head {
        assert!(verify(&flipped(position), &right).await.is_err(), "byte {position}");
    }
    let mut longer = backup.clone();
    longer.push(0);
    errors.push(format!("a byte more: {}", verify(&longer, &right).await.unwrap_err()));
    let mut swapped = backup.clone();
    let (first, second) = swapped[head..].split_at_mut(piece);
    first.swap_with_slice(&mut second[..piece]);
    errors.push(format!("pieces swapped: {}", verify(&swapped, &right).await.unwrap_err()));
    insta::assert_snapshot!(named(errors.join("\n")), @"
    another key: the backup cannot be used: it was made with the key <right>, but the key file contains <wrong>; pass the right key with --key-file
    cut off, empty: the backup cannot be used: it is not a konnector backup
    cut off, the beginning: the backup cannot be used: its header is truncated
    cut off, no data: the backup cannot be used: it is truncated after <head> bytes
    cut off, two pieces: the backup cannot be used: it is truncated after <head + 2 pieces> bytes
    cut off, half a piece: the backup cannot be used: it is truncated or damaged after byte <head>
    cut off, all but a byte: the backup cannot be used: it is truncated or damaged after byte <head + 13 pieces>
    a flipped bit in the first word: the backup cannot be used: it is not a konnector backup
    a flipped bit in the version: the backup cannot be used: it was made by a newer konnector; use that version
    a flipped bit in the first piece: the backup cannot be used: it is damaged between bytes <head> and <head + 1 pieces>
    a flipped bit in the last: the backup cannot be used: it is truncated or damaged after byte <head + 13 pieces>
    a byte more: the backup cannot be used: it is truncated or damaged after byte <head + 13 pieces>
    pieces swapped: the backup cannot be used: it is damaged between bytes <head> and <head + 1 pieces>
    ");
}

#[tokio::test]
async fn one_backup_is_made_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    let store = filled_store(&dir.path().join("old"), &key).await;
    // The backup waits for a destination that accepts no data.
    let (mut full, mut taken) = tokio::io::duplex(16);
    let waiting = tokio::spawn({
        let (store, path) = (store.clone(), dir.path().join("key"));
        async move {
            let key = MasterKey::load(&path).unwrap().unwrap();
            drop(store.back_up(&BlobSchema, &key, &mut full, &mut |_| {}).await);
        }
    });
    tokio::io::AsyncReadExt::read_u8(&mut taken).await.unwrap();
    let error = store.back_up(&BlobSchema, &key, &mut Vec::new(), &mut |_| {}).await.unwrap_err();
    insta::assert_snapshot!(error, @"conflict: another backup is running; wait until it finishes");
    create(&store, &bill("meanwhile"), json!({})).await;
    waiting.abort();
    drop((waiting.await, taken));
    back_up(&store, &key).await;
}

#[tokio::test]
async fn a_damaged_entry_fails_verification() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    let old = dir.path().join("old");
    filled_store(&old, &key).await.close().await.unwrap();
    let db = sled::Config::new().path(old.join("sled")).open().unwrap();
    let flip = |db: &sled::Db, name: &[u8]| {
        let (stored_key, bytes) = db.iter().map(Result::unwrap).find(|(key, _)| key.ends_with(name)).unwrap();
        let mut bytes = bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        db.insert(stored_key, bytes).unwrap();
    };
    // Damage to an entry that is not a document is found when the backup is verified.
    flip(&db, b"names\0one");
    drop(db);
    let store = open(&old);
    let backup = back_up(&store, &key).await;
    let error = verify(&backup, &key).await.unwrap_err();
    assert!(error.contains("one of the backup is damaged"), "{error}");
    store.close().await.unwrap();

    // An unreadable document may refer to any blob.
    let db = sled::Config::new().path(old.join("sled")).open().unwrap();
    flip(&db, b"account");
    drop(db);
    let error = open(&old).back_up(&BlobSchema, &key, &mut Vec::new(), &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("account cannot be read: checksum"), "{error}");
}

/// Memory does not grow with the stored data: of 24 MiB, the backup buffers only a few pieces at a time.
#[tokio::test]
async fn memory_is_constant() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    let store = open(&dir.path().join("old"));
    let mebibytes: usize = std::env::var("KONNECTOR_STORE_BACKUP_MIB").map_or(24, |text| text.parse().unwrap());
    let mut contents = Vec::new();
    for number in 0..mebibytes / 8 {
        let mut writer = store.blobs().create().await.unwrap();
        for _ in 0..8 {
            writer.write(Bytes::from(vec![number as u8; 1 << 20])).await.unwrap();
        }
        contents.push(blob_json(&writer.finish().await.unwrap()));
    }
    create(&store, &bill("contents"), json!({ "contents": contents })).await;
    let before = peak_kib();
    let path = dir.path().join("backup");
    let started = std::time::Instant::now();
    let mut file = tokio::fs::File::create(&path).await.unwrap();
    let summary = store.back_up(&BlobSchema, &key, &mut file, &mut |_| {}).await.unwrap();
    let elapsed = started.elapsed();
    assert!(summary.bytes > (mebibytes as u64) << 20);
    let mut file = tokio::fs::File::open(&path).await.unwrap();
    verify_backup(&mut file, &BlobSchema, &key, &mut |_| {}).await.unwrap();
    let verified = started.elapsed() - elapsed;
    let new = open(&dir.path().join("new"));
    let mut file = tokio::fs::File::open(&path).await.unwrap();
    new.restore(&mut file, &key, &mut |_| {}).await.unwrap();
    let restored = started.elapsed() - elapsed - verified;
    let grown = peak_kib() - before;
    println!(
        "{mebibytes} MiB: made in {elapsed:?}, verified in {verified:?}, restored in {restored:?}; \
         memory grew by {grown} KiB"
    );
    assert!(grown < 8 * 1024, "{grown} KiB");
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_backup_of_a_newer_program_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    let backup = back_up(&open(&dir.path().join("old")), &key).await;
    let text = String::from_utf8_lossy(&backup).replace("\"format\":2", "\"format\":7");
    let head = text.split('\n').take(2).collect::<Vec<_>>().join("\n");
    let newer = [head.as_bytes(), b"\n", &[0; 100]].concat();
    insta::assert_snapshot!(verify(&newer, &key).await.unwrap_err(), @"the backup cannot be used: it contains data of format 7; use konnector 0.1.0 or a newer version");
    let newer = [b"konnector-backup-2\n".as_slice(), &[0; 100]].concat();
    insta::assert_snapshot!(verify(&newer, &key).await.unwrap_err(), @"the backup cannot be used: it was made by a newer konnector; use that version");
}

/// The error for a backup that lacks blobs to which documents refer.
fn expected_message(error: &Error, names: &[(String, &str)]) -> String {
    names.iter().fold(error.to_string(), |text, (name, replacement)| text.replace(name, replacement))
}

/// Blobs of files and bodies of documents: missing, damaged, truncated and extended; the intact one is not reported.
#[tokio::test]
async fn a_backup_with_missing_blobs_fails() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    let old = dir.path().join("old");
    let store = open(&old);
    let mut blobs = Vec::new();
    for (number, name) in ["whole", "missing", "flipped", "cut", "grown"].into_iter().enumerate() {
        let info = blob(&store, vec![number as u8; 200_000]).await;
        // Some of the documents are stored in blobs, and refer to other blobs.
        let text = "x".repeat(if number % 2 == 0 { 20_000 } else { 1 });
        create(&store, &bill(name), json!({ "contents": [blob_json(&info)], "text": text })).await;
        blobs.push((info.id, name));
    }
    for name in ["body missing", "body flipped"] {
        let before = store.blobs().list().await.unwrap();
        create(&store, &bill(name), json!({ "text": name.repeat(2_000) })).await;
        let body = store.blobs().list().await.unwrap().into_iter().find(|blob| !before.contains(blob)).unwrap();
        blobs.push((body, name));
    }
    let whole = back_up(&store, &key).await;
    verify(&whole, &key).await.unwrap();

    for (blob, name) in &blobs {
        let path = blob_path(&old, blob);
        let bytes = std::fs::read(&path).unwrap();
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        match *name {
            "whole" => {}
            "missing" | "body missing" => std::fs::remove_file(&path).unwrap(),
            "cut" => std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap(),
            "grown" => std::fs::write(&path, [bytes, vec![0]].concat()).unwrap(),
            _ => std::fs::write(&path, flipped).unwrap(),
        }
    }
    let mut names: Vec<_> = blobs.iter().map(|(blob, name)| (blob.to_string(), *name)).collect();
    names.push(("0".repeat(31) + "1", "<instance>"));
    let error = store.back_up(&BlobSchema, &key, &mut Vec::new(), &mut |_| {}).await.unwrap_err();
    let (Error::BlobsDamaged { problems, omitted: 0 }, text) = (&error, expected_message(&error, &names)) else {
        panic!("{error}")
    };
    assert_eq!(problems.len(), 6, "{text}");
    for name in ["missing", "body missing"] {
        assert!(text.contains(&format!("blob {name} of document io.cozy.bills/{name} is missing")), "{text}");
    }
    for name in ["flipped", "cut", "grown", "body flipped"] {
        assert!(text.contains(&format!("blob {name} of document io.cozy.bills/{name} is damaged: ")), "{text}");
    }
    assert_eq!(store.blobs().list().await.unwrap().len(), 10 - 2, "nothing else was removed");
}

/// A backup by a program that did not include blobs.
#[tokio::test]
async fn a_backup_without_its_blobs_fails_verification() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    let store = open(&dir.path().join("old"));
    for number in 0..150 {
        let info = blob(&store, vec![number as u8; 10]).await;
        create(&store, &bill(format!("{number:03}")), json!({ "contents": [blob_json(&info)] })).await;
    }
    let mut backup = Vec::new();
    store.back_up(&NoSchema, &key, &mut backup, &mut |_| {}).await.unwrap();
    let error = verify_backup(&mut backup.as_slice(), &BlobSchema, &key, &mut |_| {}).await.unwrap_err();
    assert!(matches!(&error, Error::BlobsDamaged { problems, omitted: 50 } if problems.len() == 100), "{error}");
    assert!(error.to_string().starts_with("blobs are missing or damaged:\n  blob "), "{error}");
}

/// Unreferenced blobs are not backed up, and blobs removed during a failing backup are deleted nonetheless.
#[tokio::test]
async fn orphaned_blobs_are_not_backed_up() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    let store = filled_store(&dir.path().join("old"), &key).await;
    let stray = blob(&store, b"canary-stray".to_vec()).await;
    let backup = back_up(&store, &key).await;
    let restored = restore(&backup, &key, &dir.path().join("new")).await;
    assert!(!restored.blobs().list().await.unwrap().contains(&stray.id));
    assert_clean(&restored).await;

    let (mut full, mut taken) = tokio::io::duplex(16);
    let failing = {
        let (store, key) = (store.clone(), MasterKey::load(&dir.path().join("key")).unwrap().unwrap());
        tokio::spawn(async move { store.back_up(&BlobSchema, &key, &mut full, &mut |_| {}).await.map(drop) })
    };
    tokio::io::AsyncReadExt::read_u8(&mut taken).await.unwrap();
    store.blobs().remove(&stray.id).await.unwrap();
    assert!(store.blobs().list().await.unwrap().contains(&stray.id), "kept for the backup");
    drop(taken);
    failing.await.unwrap().unwrap_err();
    assert!(!store.blobs().list().await.unwrap().contains(&stray.id));
}

/// Renewals of leases are commits: none may wait for the reader of a backup.
#[tokio::test]
async fn commits_go_on_while_nobody_reads_a_backup() {
    let store = Store::in_memory();
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    for number in 0..20 {
        create(&store, &bill(format!("before-{number}")), json!({ "text": "x".repeat(5_000) })).await;
    }
    let (mut full, mut taken) = tokio::io::duplex(16);
    let backup = {
        let store = store.clone();
        tokio::spawn(async move { store.back_up(&BlobSchema, &key, &mut full, &mut |_| {}).await.map(drop) })
    };
    tokio::io::AsyncReadExt::read_u8(&mut taken).await.unwrap();
    let commits = async {
        for number in 0..60 {
            let mut changes = Changes::new();
            for document in 0..1_000 {
                changes.create(bill(format!("{number}-{document}")), body(json!({})));
            }
            store.commit(changes).await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), commits).await.expect("a commit hangs");
    let read = tokio::spawn(async move { tokio::io::copy(&mut taken, &mut tokio::io::sink()).await });
    let error = backup.await.unwrap().unwrap_err();
    insta::assert_snapshot!(error, @"the backup cannot be used: more than 100000 entries changed before the backup could copy them again; write it to a faster disk, or at a quieter time");
    read.await.unwrap().unwrap();
}

/// A copy whose reader keeps up can handle more writes than the tracker can record at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_keeps_up_with_many_writes() {
    let store = Store::in_memory();
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path(), "key");
    for number in 0..40_000 / 1_000 {
        let mut changes = Changes::new();
        for document in 0..1_000 {
            changes.create(bill(format!("{number:03}-{document:03}")), body(json!({})));
        }
        store.commit(changes).await.unwrap();
    }
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..80 {
                let mut changes = Changes::new();
                for document in 0..1_000 {
                    changes.create(job(format!("{number:03}-{document:03}")), body(json!({})));
                }
                store.commit(changes).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let backup = back_up(&store, &key).await;
    writing.await.unwrap();
    let entries = verify(&backup, &key).await.unwrap();
    assert!(entries >= 40_000, "{entries} entries");
}
