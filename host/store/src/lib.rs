//! The storage layer of konnector: documents, queues, schedules, blobs and secrets.
//!
//! [`Store`] is the whole interface for the rest of the program. Callers add intents (create a document, queue a job,
//! fire a trigger) to [`Changes`]. [`Store::commit`] applies them as a whole or not at all, and returns only after the
//! data is on disk. Reads see every commit that has returned.
//!
//! A [`DocRef`] names a document by instance, type and id. Each document has a revision, [`Rev`], and a change names
//! the revision that it replaces. If another writer was faster, the commit writes nothing and fails with a
//! [`Conflict`]. A [`Lease`] gives one worker the right to run a job; a commit with [`Changes::fence`] fails once the
//! lease is lost.
//!
//! Underneath, [`Kv`] is an ordered map with atomic conditional batches, and [`Blobs`] stores values too large for it.
//! Each has two implementations, one on disk (sled and a directory) and one in memory for tests. A database server
//! could replace either without a change in the layers above. [`MasterKey`] seals account secrets before they reach any
//! of these.
//!
//! The store knows no types and no permissions. The layers above describe their documents with a [`DocumentSchema`], so
//! that [`Store::fsck`] can check and repair them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use konnector_manifest::Doctype;
//! use konnector_store::{Changes, DocRef, InstanceId, Map, Store, StoreOptions};
//! use serde_json::json;
//!
//! let folder = tempfile::tempdir()?;
//! let store = Store::open(folder.path(), StoreOptions::default())?;
//! let bills: Doctype = "io.cozy.bills".parse()?;
//! let bill = DocRef::new(&InstanceId::new(), &bills, "bill-1");
//! let body = |amount: u32| Map::from_iter([("amount".to_owned(), json!(amount))]);
//!
//! let mut creation = Changes::new();
//! creation.create(bill.clone(), body(12));
//! let revs = store.commit(creation).await?;
//! let stored = store.get(&bill)?.ok_or("the bill was not stored")?;
//! assert_eq!(stored.body, body(12));
//! assert_eq!(revs, [stored.rev.clone()]);
//!
//! // Two writers have read the same revision. The first one wins; the second one must read the document again.
//! let (mut first, mut second) = (Changes::new(), Changes::new());
//! first.put(bill.clone(), &stored.rev, body(13));
//! second.put(bill.clone(), &stored.rev, body(14));
//! store.commit(first).await?;
//! assert!(store.commit(second).await.is_err_and(|error| error.is_conflict()));
//! assert_eq!(store.get(&bill)?.map(|bill| bill.body), Some(body(13)));
//! store.close().await?;
//! # Ok(())
//! # }
//! ```

mod backup;
mod blob;
mod changes;
mod delete_instance;
mod disk_space;
mod document;
mod error;
pub mod failpoint;
mod feed;
mod frame;
mod fsck;
mod id;
mod key;
mod kv;
mod open;
mod page;
mod plan;
mod queue;
mod rev;
mod schedule;
mod secondary_index;
mod secret;
mod sled_kv;
mod store;
mod unique_index;
mod view;

pub use backup::{BackupHeader, BackupReader, BackupSummary, BackupWriter, verify_backup};
pub use blob::{BlobId, BlobInfo, BlobReader, BlobWriter, Blobs, MemoryBlobs, VerifiedReader};
pub use changes::{Changes, DocumentWrite};
pub use document::{Document, DocumentStamp};
pub use error::{Conflict, Error, Result};
pub use feed::{FeedChange, Seq};
pub use fsck::{
    BlobLink, DocumentSchema, FsckOptions, FsckProblem, FsckProgress, FsckSummary, Links, MIN_ORPHAN_AGE, NoSchema,
};
pub use id::{DocRef, InstanceId};
pub use kv::{Batch, CommitOutcome, Kv, KvWrite};
pub use open::{StoreOptions, key_fingerprint};
pub use page::{ListPage, MAX_PAGE_BYTES, approximate_size};
pub use queue::{JobPermit, Lease, PermitSlot, QueueEntry, QueuedJob};
pub use rev::Rev;
pub use secondary_index::{Index, IndexCursor, IndexHit, MAX_INDEXES};
pub use secret::{MasterKey, SecretContext};
pub use store::Store;

/// A JSON object that preserves the order of its fields.
pub type Map = serde_json::Map<String, serde_json::Value>;
