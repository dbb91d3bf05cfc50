//! What can go wrong in the store, in words a reader can act on.

use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::blob::BlobId;
use crate::fsck::FsckProblem;
use crate::id::DocRef;
use crate::rev::Rev;

/// The store's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data is not in the state that the change was made for; nothing was written.
    #[error("conflict: {0}")]
    Conflict(#[from] Conflict),
    /// The run no longer holds its job: its lease ended or passed to another worker. Nothing was written.
    #[error("the lease on job {job} (epoch {epoch}) is no longer held: stop this run, its writes are refused")]
    StaleLease {
        /// The job that was leased.
        job: DocRef,
        /// The epoch of the lost lease.
        epoch: u64,
    },
    /// A document that the change needs is not there; nothing was written.
    #[error("document {document} does not exist: create it before, or in the same commit")]
    NotFound {
        /// The missing document.
        document: DocRef,
    },
    /// A content that is not there.
    #[error("blob {blob} does not exist: it was removed, or its writer never finished")]
    BlobNotFound {
        /// The missing blob.
        blob: BlobId,
    },
    /// A content that is there and cannot be read: it is no regular file, or the disk or the rights on the file forbid it.
    #[error("blob {blob} cannot be read: {source}")]
    BlobUnreadable {
        /// The blob.
        blob: BlobId,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something is larger than the store takes; nothing was written.
    #[error("{what} has {size} bytes, the limit is {limit}: shorten it")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size in bytes.
        size: usize,
        /// The largest size allowed, in bytes.
        limit: usize,
    },
    /// A value that the store cannot take, whatever its state.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// Which value.
        field: &'static str,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// Stored bytes that are not what was written.
    #[error("{what} is damaged ({reason}): run konnector fsck, or restore the last backup")]
    Corrupt {
        /// Which entry or file.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// The database does not open, even without its snapshots.
    #[error(
        "the database {} is damaged ({reason}) and reading its whole log did not help: restore the last backup into an empty \
         data folder; nothing was deleted, what was set aside is in {}",
        .path.display(), .quarantine.display()
    )]
    DatabaseCorrupt {
        /// The database folder.
        path: PathBuf,
        /// Where the copies are that were made before the repair was tried.
        quarantine: PathBuf,
        /// What sled said.
        reason: String,
    },
    /// The disk refused a write, so that nothing can be promised any more until a restart has read what is really there.
    #[error("the disk failed an earlier write, so nothing more is accepted: check the disk, then restart the server")]
    Poisoned,
    /// The store was closed.
    #[error("the store is closed: the server is shutting down")]
    Closed,
    /// Another process runs on the same data folder.
    #[error(
        "another konnector{} runs on the data folder {}: stop it, or choose another --data-dir",
        .process.map(|id| format!(" (process {id})")).unwrap_or_default(), .path.display()
    )]
    Locked {
        /// The data folder.
        path: PathBuf,
        /// The process that holds it, where it could be read.
        process: Option<u32>,
    },
    /// The data folder was written by a newer program.
    #[error(
        "the data folder {} has format {found}, and this konnector ({}) knows formats up to {supported}: use konnector {} or a newer one",
        .path.display(), env!("CARGO_PKG_VERSION"), .program.as_deref().unwrap_or("of the version that wrote it")
    )]
    UnsupportedFormat {
        /// The data folder.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format this program reads.
        supported: u32,
        /// The version of the program that wrote it, where that is known.
        program: Option<String>,
    },
    /// There is too little room on the disk for new data; nothing was written.
    #[error(
        "the disk is nearly full: {} are free for {}, and {} are kept free; make room, then try again",
        mebibytes(*.free), .path.display(), mebibytes(*.reserve)
    )]
    DiskFull {
        /// The data folder.
        path: PathBuf,
        /// What is free, in bytes.
        free: u64,
        /// What new data leaves free, in bytes.
        reserve: u64,
    },
    /// Contents that documents refer to are missing or damaged, so that a backup would not hold what they say.
    #[error("contents are missing or damaged:{}", format_problems(.problems, *.omitted))]
    BlobsDamaged {
        /// What is wrong, for as many as a person reads.
        problems: Vec<FsckProblem>,
        /// How many problems are not in the list.
        omitted: u64,
    },
    /// A backup cannot be made or used.
    #[error("the backup cannot be used: {reason}")]
    Backup {
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The operating system refused something on a file.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried, such as "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// sled failed.
    #[error("the database failed: {0}")]
    Database(#[from] sled::Error),
    /// The file of the master key cannot be used.
    #[error("the key file {} {reason}", .path.display())]
    KeyFile {
        /// The key file.
        path: PathBuf,
        /// What is wrong and what to do, continuing "the key file …".
        reason: String,
    },
    /// A sealed secret cannot be opened.
    #[error("the secret {field} of account {account} cannot be opened: {reason}")]
    Secret {
        /// The account it belongs to.
        account: String,
        /// The field it belongs to.
        field: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// Which expectation of a change was not met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// A document with this id exists.
    #[error("document {document} exists already")]
    Exists {
        /// The document.
        document: DocRef,
    },
    /// The document was changed or deleted meanwhile.
    #[error(
        "document {document} is {}, not {expected}: read it again and redo the change",
        .current.as_ref().map_or_else(|| "deleted or was never created".to_owned(), |rev| format!("at revision {rev}"))
    )]
    Revision {
        /// The document.
        document: DocRef,
        /// The revision that the change was made for.
        expected: Rev,
        /// The revision it has, `None` when there is no such document.
        current: Option<Rev>,
    },
    /// A unique key belongs to another value.
    #[error("{key:?} is taken in the index {index} by {holder}")]
    Taken {
        /// The unique index.
        index: String,
        /// The key.
        key: String,
        /// The value that has it.
        holder: String,
    },
    /// The job is not waiting in the queue.
    #[error("job {job} is not waiting: it has started, ended or was never queued")]
    NotWaiting {
        /// The job.
        job: DocRef,
    },
    /// The job is running.
    #[error("job {job} is running: end its lease first")]
    Running {
        /// The job.
        job: DocRef,
    },
    /// The trigger is not due at this instant: it has fired for it, or was changed.
    #[error("trigger {trigger} is not due at {}: it has fired, or its schedule was changed", .instant.to_rfc3339_opts(SecondsFormat::AutoSi, true))]
    NotDue {
        /// The trigger.
        trigger: DocRef,
        /// The instant that was to fire.
        instant: DateTime<Utc>,
    },
    /// Only one backup is made at a time.
    #[error("another backup is being made: wait for its end")]
    BackupRunning,
    /// Others kept changing the same entries.
    #[error("too many others are changing the same entries: try again")]
    Contention,
}

impl Error {
    /// Whether the change lost against another one and makes sense again after a new read (HTTP 409).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether something asked for is not there (HTTP 404).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::BlobNotFound { .. })
    }

    /// Whether a content is lost: missing, damaged or unreadable, and so until somebody writes it anew. Failures that pass, such as too many
    /// open files, are none of these.
    #[must_use]
    pub const fn is_blob_lost(&self) -> bool {
        matches!(self, Self::BlobNotFound { .. } | Self::BlobUnreadable { .. } | Self::Corrupt { .. })
    }

    /// Whether the run behind this call has lost its job and must stop.
    #[must_use]
    pub fn is_stale_lease(&self) -> bool {
        matches!(self, Self::StaleLease { .. })
    }

    /// Whether there is no room for new data (HTTP 507).
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

/// One problem a line.
fn format_problems(problems: &[FsckProblem], more: u64) -> String {
    let mut text: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

/// Bytes for a sentence.
#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
