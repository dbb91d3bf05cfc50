use std::io::SeekFrom;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use konnector_manifest::Doctype;
use konnector_store::{BlobInfo, ContentLink, DocRef, Error, Links, Map, Schema, Store};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::support::{bill, create, on_every_backend};

on_every_backend!(
    a_blob_comes_back,
    a_blob_is_not_there_before_its_end,
    a_removed_blob_is_gone,
    a_duplicate_lives_for_itself,
    a_sweep_finds_what_nothing_refers_to,
);

async fn write(store: &Store, chunks: &[&[u8]]) -> BlobInfo {
    let mut writer = store.blobs().create().await.unwrap();
    for chunk in chunks {
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn a_blob_comes_back(store: Store) {
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

async fn a_removed_blob_is_gone(store: Store) {
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

async fn a_duplicate_lives_for_itself(store: Store) {
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

async fn a_sweep_finds_what_nothing_refers_to(store: Store) {
    create(&store, &bill("large"), json!({ "text": "x".repeat(10_000) })).await;
    let (used, unused) = (write(&store, &[b"used"]).await, write(&store, &[b"unused"]).await);
    create(&store, &bill("owner"), json!({ "content": used.id })).await;
    let later = Utc::now() + TimeDelta::seconds(1);
    assert_eq!(store.orphans(&Owners, later).await.unwrap(), [unused.id]);
    let earlier = Utc::now() - TimeDelta::hours(1);
    assert_eq!(store.orphans(&Owners, earlier).await.unwrap(), [], "young ones may be referred to any moment");
}

/// The member `content` of a document is its content.
struct Owners;

impl Schema for Owners {
    fn links(&self, _: &DocRef, body: &Map) -> Result<Links, String> {
        let blob = body.get("content").map(|blob| blob.as_str().unwrap().parse().unwrap());
        let contents = blob.map(|blob| ContentLink { blob, size: None, sha256: None }).into_iter().collect();
        Ok(Links { contents, unique: Vec::new() })
    }

    fn indexed(&self, _: &str) -> Option<Doctype> {
        None
    }
}
