//! Backups: everything in a store as one stream, encrypted under a key derived from the master key, which is not in it.
//!
//! A copy is made while others read and write, and holds what was there at one moment: entries are copied while changes are recorded, and
//! what changed is copied again ([`crate::kv::RecordingServer`]); contents never change, and their removal is put off until the end
//! ([`crate::blob::Keeper`]). Memory does not grow with the store, but for some 300 bytes for
//! each content: every content that a document refers to must be in a backup as it was written.
//!
//! ```text
//! konnector-backup-1
//! {"created_at": …, "program": …, "format": …, "key": <fingerprint>, "salt": <64 digits>}
//! <STREAM of records, in pieces of 64 KiB>
//!
//! 01 <length 2> <length 2> <key> <value>   an entry, in place of an earlier one with its key
//! 02 <length 2> <key>                      an entry that was removed meanwhile
//! 03 <id 16> <size 8> <content>            a blob
//! 04 <entries 8> <blobs 8> <bytes 8> <SHA-256 of all records before>
//! ```

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

mod blob_tracker;
mod crypt;
mod read;
mod record;
mod write;

pub use read::verify_backup;

/// What stands at the beginning of a backup, for everybody to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// The version of the program that made it.
    pub program: String,
    /// The format of the data in it.
    pub format: u32,
    /// The fingerprint of the key that opens it.
    pub key: String,
    /// Makes its key different from that of any other backup; hexadecimal.
    salt: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupSummary {
    /// See [`BackupHeader`].
    #[serde(flatten)]
    pub header: BackupHeader,
    /// How many entries of the database it holds, those that were changed meanwhile counted each time.
    pub entries: u64,
    /// How many blobs it holds.
    pub blobs: u64,
    /// How many bytes it is long.
    pub bytes: u64,
}

/// Where a backup is written to.
pub trait BackupWriter: AsyncWrite + Send + Unpin {}

impl<T: AsyncWrite + Send + Unpin> BackupWriter for T {}

/// Where a backup is read from.
pub trait BackupReader: AsyncRead + Send + Unpin {}

impl<T: AsyncRead + Send + Unpin> BackupReader for T {}
