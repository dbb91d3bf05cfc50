//! Where konnector keeps what it must not lose: documents, queues, schedules, file contents, secrets.
//!
//! [`Store`] is the whole interface for the rest of the program. It speaks of intents (create a document, claim a job,
//! fire a trigger) and commits a set of them atomically: a [`Changes`] is applied as a whole or not at all, and
//! [`Store::commit`] answers only when the disk has it.
//!
//! Below, [`Kv`] is an ordered map with atomic conditional batches, and [`Blobs`] holds contents too large for it. Each
//! has two implementations, one on disk (sled and a directory) and one in memory for tests. A database server can stand
//! in for either without a change above.
//!
//! [`MasterKey`] seals account secrets before they reach any of this.

mod backup;
mod blob;
mod changes;
mod document;
mod due;
mod erase;
mod error;
pub mod failpoint;
mod feed;
mod frame;
mod fsck;
mod id;
mod index;
mod key;
mod kv;
mod open;
mod page;
mod plan;
mod queue;
mod rev;
mod secondary;
mod secret;
mod sled_kv;
mod space;
mod store;
mod view;

pub use backup::{BackupHeader, BackupReader, BackupSummary, BackupWriter, verify_backup};
pub use blob::{BlobId, BlobInfo, BlobReader, BlobWriter, Blobs, MemoryBlobs, VerifiedReader};
pub use changes::{Changes, Written};
pub use document::{Document, Stamp};
pub use error::{Conflict, Error, Result};
pub use feed::{Change, Seq};
pub use fsck::{ContentLink, Fsck, Links, NoSchema, ORPHAN_AGE, Problem, Progress, Schema, Summary};
pub use id::{DocRef, InstanceId};
pub use kv::{Batch, Committed, Kv, Write};
pub use open::{Options, key_fingerprint};
pub use page::{MAX_PAGE_BYTES, Page, weight};
pub use queue::{Lease, Permit, Queued, Slot, Turn};
pub use rev::Rev;
pub use secondary::{Hit, INDEXES, Index, Position};
pub use secret::{MasterKey, SecretContext};
pub use store::Store;

/// A JSON object, in the order it was written.
pub type Map = serde_json::Map<String, serde_json::Value>;
