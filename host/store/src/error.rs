//! Errors of the store, in words that help the reader to act.

use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::blob::BlobId;
use crate::fsck::FsckProblem;
use crate::id::DocRef;
use crate::rev::Rev;

/// Result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of a store operation: a rejected change or a failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data is not in the state that the change expects; nothing was written.
    #[error("conflict: {0}")]
    Conflict(#[from] Conflict),
    /// The run no longer holds its job, because its lease ended or passed to another worker. Nothing was written.
    #[error("the lease on job {job} (epoch {epoch}) is no longer held; stop this run, because its writes are rejected")]
    StaleLease {
        /// The job of the lost lease.
        job: DocRef,
        /// The epoch of the lost lease.
        epoch: u64,
    },
    /// A document that the change requires does not exist; nothing was written.
    #[error("document {document} does not exist; create it first, or in the same commit")]
    NotFound {
        /// The missing document.
        document: DocRef,
    },
    /// The blob does not exist.
    #[error("blob {blob} does not exist: it was removed, or its writer never finished")]
    BlobNotFound {
        /// The missing blob.
        blob: BlobId,
    },
    /// The blob exists but cannot be read, because it is not a regular file, or the disk or the file permissions
    /// prevent it.
    #[error("blob {blob} cannot be read: {source}")]
    BlobUnreadable {
        /// The unreadable blob.
        blob: BlobId,
        /// The error from the system.
        source: std::io::Error,
    },
    /// Something is larger than the store allows; nothing was written.
    #[error("{what} is {size} bytes long, but the limit is {limit} bytes; shorten it")]
    TooLarge {
        /// Description of the item that is too large.
        what: String,
        /// Size of the item, in bytes.
        size: usize,
        /// The maximum size, in bytes.
        limit: usize,
    },
    /// A value that the store never accepts, regardless of its state.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// The problem and the expected value.
        reason: String,
    },
    /// Stored bytes differ from the bytes that were written.
    #[error("{what} is damaged ({reason}); run konnector fsck --deep, or restore the last backup")]
    Corrupt {
        /// Description of the damaged entry or file.
        what: String,
        /// Description of the mismatch.
        reason: String,
    },
    /// The database cannot be opened, even without its snapshots.
    #[error(
        "the database {} is damaged ({reason}), and rebuilding it from its log failed; restore the last backup into an \
         empty data folder (nothing was deleted; the files that were set aside are in {})",
        .path.display(), .quarantine.display()
    )]
    DatabaseCorrupt {
        /// Path of the database folder.
        path: PathBuf,
        /// Folder of the copies that were made before the attempted repair.
        quarantine: PathBuf,
        /// The error from sled.
        reason: String,
    },
    /// The disk failed a write. Durability is unknown until a restart has read the actual state from disk.
    #[error("an earlier write to the disk failed, so no change is accepted; check the disk, then restart the server")]
    Poisoned,
    /// The store was closed.
    #[error("the store is closed: the server is shutting down")]
    Closed,
    /// Another process is using the same data folder.
    #[error(
        "another konnector{} is using the data folder {}; stop it, or choose another --data-dir",
        .process.map(|id| format!(" (process {id})")).unwrap_or_default(), .path.display()
    )]
    Locked {
        /// Path of the data folder.
        path: PathBuf,
        /// Id of the process that uses the folder, if the id could be read.
        process: Option<u32>,
    },
    /// The data folder was written by a newer program.
    #[error(
        "the data folder {} has format {found}, but this konnector ({}) supports formats up to {supported}; \
         use {} or a newer version",
        .path.display(), env!("CARGO_PKG_VERSION"),
        .program.as_ref().map_or_else(|| "the version that wrote it".to_owned(), |version| format!("konnector {version}"))
    )]
    UnsupportedFormat {
        /// Path of the data folder.
        path: PathBuf,
        /// The format of the folder.
        found: u32,
        /// The newest format that this program can read.
        supported: u32,
        /// The version of the program that wrote it, if known.
        program: Option<String>,
    },
    /// Too little free space on the disk for new data; nothing was written.
    #[error(
        "the disk is nearly full: {} are free for {}, but {} must stay free; free some space, then try again",
        mebibytes(*.free), .path.display(), mebibytes(*.reserve)
    )]
    DiskFull {
        /// Path of the data folder.
        path: PathBuf,
        /// Free space, in bytes.
        free: u64,
        /// Free space that new data must leave, in bytes.
        reserve: u64,
    },
    /// Blobs that documents refer to are missing or damaged, so a backup would be incomplete.
    #[error("blobs are missing or damaged:{}", format_problems(.problems, *.omitted))]
    BlobsDamaged {
        /// The problems, limited to as many as a person reads.
        problems: Vec<FsckProblem>,
        /// Number of problems that are not in the list.
        omitted: u64,
    },
    /// A backup cannot be created or used.
    #[error("the backup cannot be used: {reason}")]
    Backup {
        /// The problem, and how to solve it.
        reason: String,
    },
    /// A backup was made with another key.
    #[error("the backup cannot be used: {reason}")]
    BackupKey {
        /// Both keys, and how to solve it.
        reason: String,
    },
    /// A file operation failed in the operating system.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// The operation, such as "write".
        action: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// The error from the system.
        source: std::io::Error,
    },
    /// An error from sled.
    #[error("the database failed: {0}")]
    Database(#[from] sled::Error),
    /// The file of the master key cannot be used.
    #[error("the key file {} {reason}", .path.display())]
    KeyFile {
        /// Path of the key file.
        path: PathBuf,
        /// The problem and its solution, continuing "the key file …".
        reason: String,
    },
    /// A sealed secret cannot be opened.
    #[error("the secret {field} of account {account} cannot be opened: {reason}")]
    Secret {
        /// Id of the account that owns the secret.
        account: String,
        /// Name of the account's field that holds the secret.
        field: String,
        /// The reason, and how to solve it.
        reason: String,
    },
}

/// The expectation of a change that was not met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// A document with this id already exists.
    #[error("document {document} already exists")]
    Exists {
        /// The document that exists.
        document: DocRef,
    },
    /// The document was changed or deleted in the meantime.
    #[error(
        "document {document} is {}, not at revision {expected}; read it again and redo the change",
        .current.as_ref().map_or_else(|| "deleted or was never created".to_owned(), |rev| format!("at revision {rev}"))
    )]
    Revision {
        /// The document that has another revision.
        document: DocRef,
        /// The revision that the change expects.
        expected: Rev,
        /// The current revision, `None` if the document does not exist.
        current: Option<Rev>,
    },
    /// The unique key belongs to another value.
    #[error("the key {key:?} of the index {index} already belongs to {holder}")]
    Taken {
        /// Name of the unique index.
        index: String,
        /// The key that is already owned.
        key: String,
        /// The value that owns the key.
        holder: String,
    },
    /// The job is not waiting in the queue.
    #[error("job {job} is not waiting: it has started, has ended, or was never queued")]
    NotWaiting {
        /// The job that is not in the queue.
        job: DocRef,
    },
    /// The job is running.
    #[error("job {job} is running; end its lease first")]
    Running {
        /// The job whose lease is held.
        job: DocRef,
    },
    /// The trigger is not due at this instant, because it has already fired for it or was changed.
    #[error("trigger {trigger} is not due at {}: it has fired, or its schedule was changed", .instant.to_rfc3339_opts(SecondsFormat::AutoSi, true))]
    NotDue {
        /// The trigger to fire.
        trigger: DocRef,
        /// The due instant to consume.
        instant: DateTime<Utc>,
    },
    /// Another backup is running; only one can run at a time.
    #[error("another backup is running; wait until it finishes")]
    BackupRunning,
    /// Concurrent commits kept changing the same entries.
    #[error("there are too many concurrent changes to the same entries; try again")]
    Contention,
}

impl Error {
    /// Returns whether the change lost against a concurrent one and can be retried after a new read (HTTP 409).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Returns whether the requested item does not exist (HTTP 404).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::BlobNotFound { .. })
    }

    /// Returns whether a blob is lost: missing, damaged or unreadable, until it is rewritten. Temporary failures, such
    /// as too many open files, do not count.
    #[must_use]
    pub const fn is_blob_lost(&self) -> bool {
        matches!(self, Self::BlobNotFound { .. } | Self::BlobUnreadable { .. } | Self::Corrupt { .. })
    }

    /// Returns whether the run that made this call has lost its job and must stop.
    #[must_use]
    pub fn is_stale_lease(&self) -> bool {
        matches!(self, Self::StaleLease { .. })
    }

    /// Returns whether there is no space for new data (HTTP 507).
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    pub(crate) fn backup(reason: impl Into<String>) -> Self {
        Self::Backup { reason: reason.into() }
    }

    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Formats the problems, one per line.
fn format_problems(problems: &[FsckProblem], more: u64) -> String {
    let mut text: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

/// Formats a number of bytes for a sentence.
#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
