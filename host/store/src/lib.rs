//! The storage layer of konnector: documents, queues, schedules, blobs and secrets.
//!
//! [`Store`] is the whole interface for the rest of the program. Its operations are intents (create a document, claim a
//! job, fire a trigger), and it commits a set of them atomically. It applies a [`Changes`] as a whole or not at all,
//! and [`Store::commit`] returns only after the data is on disk.
//!
//! Underneath, [`Kv`] is an ordered map with atomic conditional batches, and [`Blobs`] stores values too large for it.
//! Each has two implementations, one on disk (sled and a directory) and one in memory for tests. A database server
//! could replace either without a change in the layers above.
//!
//! [`MasterKey`] seals account secrets before they reach any of these.

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
