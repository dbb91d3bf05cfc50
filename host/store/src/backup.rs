//! Backups, which contain everything in a store as one stream, encrypted under a key derived from the master key, which
//! is not included.
//!
//! A backup is made while others read and write, and contains the state of one moment. Entries are copied while changes
//! are recorded, and changed entries are copied again ([`crate::kv::ChangeTracker`]). Blobs never change, and their
//! removal is deferred until the end ([`crate::blob::DeferredDeletes`]). Memory does not grow with the store, except
//! for some 300 bytes for each blob, because every blob that a document refers to must be in a backup as it was
//! written.
//!
//! ```text
//! konnector-backup-1
//! {"created_at": …, "program": …, "format": …, "key": <fingerprint>, "salt": <64 digits>}
//! <STREAM of records, in pieces of 64 KiB>
//!
//! 01 <length 2> <length 2> <key> <value>   an entry, in place of an earlier one with its key
//! 02 <length 2> <key>                      an entry that was removed in the meantime
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

/// The plain-text header of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// When the backup was started.
    pub created_at: DateTime<Utc>,
    /// The version of the program that made the backup.
    pub program: String,
    /// The format of the data in the backup.
    pub format: u32,
    /// The fingerprint of the key that decrypts the backup.
    pub key: String,
    /// Salt that makes the key of this backup different from that of any other backup; hexadecimal.
    salt: String,
}

/// Summary of the contents of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupSummary {
    /// The header of the backup.
    #[serde(flatten)]
    pub header: BackupHeader,
    /// Number of database entries. Entries that changed during the backup count each time.
    pub entries: u64,
    /// Number of blobs.
    pub blobs: u64,
    /// Length of the backup, in bytes.
    pub bytes: u64,
}

/// Destination of a backup.
pub trait BackupWriter: AsyncWrite + Send + Unpin {}

impl<T: AsyncWrite + Send + Unpin> BackupWriter for T {}

/// Source of a backup.
pub trait BackupReader: AsyncRead + Send + Unpin {}

impl<T: AsyncRead + Send + Unpin> BackupReader for T {}
