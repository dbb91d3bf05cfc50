use std::io::SeekFrom;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use konnector_manifest::Doctype;
use konnector_store::{BlobInfo, BlobLink, DocRef, DocumentSchema, Error, FsckProblem, Links, Map, Store};
use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::support::{bill, blob, blob_json, blob_path, create, fsck, on_every_backend, open};

on_every_backend!(
    a_blob_is_read_back,
    a_blob_is_not_there_before_its_end,
    a_removed_blob_does_not_exist,
    a_duplicate_is_independent,
    a_sweep_finds_orphaned_blobs,
);

async fn write(store: &Store, chunks: &[&[u8]]) -> BlobInfo {
    let mut writer = store.blobs().create().await.unwrap();
    for chunk in chunks {
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn a_blob_is_read_back(store: Store) {
    let info = write(&store, &[b"hello ", b"", b"world"]).await;
    assert_eq!(info.size, 11);
    // md5sum and sha256sum of "hello world"
    assert_eq!(info.md5, [94, 182, 59, 187, 224, 30, 238, 208, 147, 203, 34, 187, 143, 90, 205, 195]);
    assert_eq!(info.sha256[..4], [0xb9, 0x4d, 0x27, 0xb9]);
    assert_eq!(store.blobs().read(&info.id).unwrap(), b"hello world");
    assert_eq!(store.blobs().size(&info.id).await.unwrap(), 11);
    let mut reader = store.blobs().open(&info.id).await.unwrap();
    reader.seek(SeekFrom::Start(6)).await.unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "world");

    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let info = write(&store, &large.chunks(70_001).collect::<Vec<_>>()).await;
    assert_eq!(store.blobs().read(&info.id).unwrap(), large);
    assert_eq!(write(&store, &[]).await.size, 0);
}

async fn a_blob_is_not_there_before_its_end(store: Store) {
    let mut writer = store.blobs().create().await.unwrap();
    writer.write(Bytes::from(vec![1; 300_000])).await.unwrap();
    assert!(store.blobs().list().await.unwrap().is_empty());
    drop(writer);
    assert!(store.blobs().list().await.unwrap().is_empty());
}

async fn a_removed_blob_does_not_exist(store: Store) {
    let info = write(&store, &[b"content"]).await;
    let mut reader = store.blobs().open(&info.id).await.unwrap();
    store.blobs().remove(&info.id).await.unwrap();
    store.blobs().remove(&info.id).await.unwrap();
    assert!(matches!(store.blobs().open(&info.id).await, Err(Error::BlobNotFound { blob }) if blob == info.id));
    assert!(store.blobs().read(&info.id).is_err_and(|error| error.is_not_found()));
    assert!(store.blobs().size(&info.id).await.is_err_and(|error| error.is_not_found()));
    let mut content = Vec::new();
    reader.read_to_end(&mut content).await.unwrap();
    assert_eq!(content, b"content", "who reads it reads to its end");
}

async fn a_duplicate_is_independent(store: Store) {
    let blobs = store.blobs();
    let first = write(&store, &[b"hello"]).await;
    let second = blobs.duplicate(&first.id).await.unwrap();
    assert_eq!(blobs.list().await.unwrap().len(), 2);
    blobs.remove(&first.id).await.unwrap();
    assert_eq!(blobs.read(&second).unwrap(), b"hello");
    assert!(matches!(blobs.duplicate(&first.id).await, Err(Error::BlobNotFound { .. })));
    blobs.remove(&second).await.unwrap();
    assert!(blobs.list().await.unwrap().is_empty());
}

async fn a_sweep_finds_orphaned_blobs(store: Store) {
    create(&store, &bill("large"), json!({ "text": "x".repeat(10_000) })).await;
    let (used, unused) = (write(&store, &[b"used"]).await, write(&store, &[b"unused"]).await);
    create(&store, &bill("owner"), json!({ "content": used.id })).await;
    let later = Utc::now() + TimeDelta::seconds(1);
    assert_eq!(store.orphaned_blobs(&OwnerSchema, later).await.unwrap(), [unused.id]);
    let earlier = Utc::now() - TimeDelta::hours(1);
    assert_eq!(
        store.orphaned_blobs(&OwnerSchema, earlier).await.unwrap(),
        [],
        "young ones may be referred to any moment"
    );
}

/// The field `content` of a document is its blob.
struct OwnerSchema;

impl DocumentSchema for OwnerSchema {
    fn links(&self, _: &DocRef, body: &Map) -> Result<Links, String> {
        let blob = body.get("content").map(|blob| blob.as_str().unwrap().parse().unwrap());
        let contents = blob.map(|blob| BlobLink { blob, size: None, sha256: None }).into_iter().collect();
        Ok(Links { blobs: contents, unique_keys: Vec::new() })
    }

    fn index_doctype(&self, _: &str) -> Option<Doctype> {
        None
    }
}

fn link(info: &BlobInfo) -> BlobLink {
    BlobLink { blob: info.id, size: Some(info.size), sha256: Some(hex::encode(info.sha256)) }
}

/// Damage to a blob on the disk.
#[derive(Debug, Clone)]
enum BlobDamage {
    None,
    Flipped(prop::sample::Index),
    Cut(prop::sample::Index),
    Grown(u8),
    Swapped,
    Missing,
}

fn damage() -> impl Strategy<Value = BlobDamage> {
    prop_oneof![
        Just(BlobDamage::None),
        any::<prop::sample::Index>().prop_map(BlobDamage::Flipped),
        any::<prop::sample::Index>().prop_map(BlobDamage::Cut),
        any::<u8>().prop_map(BlobDamage::Grown),
        Just(BlobDamage::Swapped),
        Just(BlobDamage::Missing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// For any damage and any read size: the read completes only if the blob is intact.
    #[test]
    fn a_damaged_content_never_comes_whole(
        size in prop_oneof![0_usize..10, 65_530_usize..65_540, 131_070_usize..200_000],
        damage in damage(),
        part in prop_oneof![1_usize..64, 8_000_usize..100_000],
        sized: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path());
            let bytes: Vec<u8> = (0..size).map(|index| (index * 31 / 7) as u8).collect();
            let info = blob(&store, bytes.clone()).await;
            let path = blob_path(dir.path(), &info.id);
            let mut now = bytes.clone();
            match &damage {
                BlobDamage::None => {}
                BlobDamage::Flipped(index) if size > 0 => now[index.index(size)] ^= 0x10,
                BlobDamage::Cut(index) if size > 0 => now.truncate(index.index(size)),
                BlobDamage::Flipped(_) | BlobDamage::Cut(_) => {}
                BlobDamage::Grown(by) => now.push(*by),
                BlobDamage::Swapped => now.reverse(),
                BlobDamage::Missing => now.clear(),
            }
            std::fs::write(&path, &now).unwrap();
            if matches!(damage, BlobDamage::Missing) {
                std::fs::remove_file(&path).unwrap();
            }
            let is_whole = now == bytes && !matches!(damage, BlobDamage::Missing);
            let content = BlobLink { size: sized.then_some(size as u64), ..link(&info) };
            let mut read = Vec::new();
            let outcome = match store.open_blob(&content).await {
                Err(error) => Err(error.to_string()),
                Ok(mut reader) => loop {
                    let mut buffer = vec![0; part];
                    match reader.read(&mut buffer).await {
                        Ok(0) => break Ok(()),
                        Ok(length) => read.extend_from_slice(&buffer[..length]),
                        Err(error) => break Err(error.to_string()),
                    }
                },
            };
            assert_eq!(outcome.is_ok(), is_whole, "{outcome:?}");
            if is_whole {
                assert_eq!(read, bytes);
            } else {
                assert!(read.len() < now.len().max(1), "all {} bytes came", read.len());
            }
            assert_eq!(store.read_blob(&content).await.ok(), is_whole.then_some(bytes));
            assert_eq!(store.verify_blob(&content).await.is_ok(), is_whole);
        });
    }
}

/// A reader that skips a part reads on unverified; one that seeks back to the start is verified again.
#[tokio::test]
async fn parts_of_a_content_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let info = blob(&store, vec![1; 150_000]).await;
    let mut damaged = vec![1; 150_000];
    damaged[10] = 2;
    std::fs::write(blob_path(dir.path(), &info.id), damaged).unwrap();
    let mut reader = store.open_blob(&link(&info)).await.unwrap();
    let mut part = [0; 100];
    reader.read_exact(&mut part).await.unwrap();
    assert_eq!(reader.seek(SeekFrom::Current(100)).await.unwrap(), 200);
    reader.read_exact(&mut part).await.unwrap();
    reader.seek(SeekFrom::End(-100)).await.unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [1; 100]);
    reader.seek(SeekFrom::Start(0)).await.unwrap();
    let error = reader.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(reader.read(&mut part).await.is_err(), "and it stays so");
}

/// Leftovers of an earlier process are orphans at once: no process can refer to them any more.
#[tokio::test]
async fn orphans_of_an_earlier_process_are_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (used, stray) = (blob(&store, vec![1]).await, blob(&store, vec![2]).await);
    create(&store, &bill("one"), json!({ "contents": [blob_json(&used)] })).await;
    let long_ago = Utc::now() - TimeDelta::days(1);
    assert_eq!(store.orphaned_blobs(&crate::support::BlobSchema, long_ago).await.unwrap(), [], "it may be on its way");
    store.close().await.unwrap();
    let store = open(dir.path());
    let on_its_way = blob(&store, vec![3]).await;
    assert_eq!(store.orphaned_blobs(&crate::support::BlobSchema, long_ago).await.unwrap(), [stray.id]);
    store.blobs().remove(&on_its_way.id).await.unwrap();
    assert_eq!(fsck(&store, false).await.0, [FsckProblem::BlobOrphaned { blob: stray.id }]);
    assert_eq!(fsck(&store, true).await, (vec![], vec![FsckProblem::BlobOrphaned { blob: stray.id }]));
    assert!(!blob_path(dir.path(), &stray.id).exists());
}

/// The body of a large document is verified like any blob.
#[tokio::test]
async fn a_changed_digit_in_a_large_document_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, &bill("one"), json!({ "amount": 1, "text": "x".repeat(20_000) })).await;
    let body = store.blobs().list().await.unwrap().remove(0);
    let path = blob_path(dir.path(), &body);
    let changed = std::fs::read_to_string(&path).unwrap().replacen("\"amount\":1", "\"amount\":9", 1);
    std::fs::write(&path, changed).unwrap();
    let error = store.get(&bill("one")).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(fsck(&store, false).await.0.len(), 2, "the content, and the document that it is");
}

/// A copy that cannot be moved to its place leaves no second link to the blob.
#[tokio::test]
async fn a_copy_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let info = blob(&store, b"content".to_vec()).await;
    for shard in 0..=255 {
        let path = dir.path().join("blobs").join(format!("{shard:02x}"));
        if !path.exists() {
            std::fs::write(path, "no folder").unwrap();
        }
    }
    let mut failed = 0;
    for _ in 0..20 {
        failed += u32::from(store.blobs().duplicate(&info.id).await.is_err());
    }
    assert!(failed > 0);
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}
