//! The findings of a check.

use serde::Serialize;

use crate::blob::BlobId;
use crate::kv::Batch;

/// An inconsistency in a store. Each one is displayed as one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FsckProblem {
    /// A source entry, which cannot be derived from others, cannot be read.
    #[error("{what} cannot be read: {reason}")]
    Damaged {
        /// Description of the entry, with its key.
        what: String,
        /// Description of the mismatch.
        reason: String,
    },
    /// An entry of a kind that this program does not write.
    #[error("{what} is of an unknown kind")]
    Unknown {
        /// Description of the entry, with its key.
        what: String,
    },
    /// A document does not match its type, so its references are unknown.
    #[serde(rename = "unclear")]
    #[error("document {document} does not match its type: {reason}")]
    InvalidDocument {
        /// The document, as `type/id`.
        document: String,
        /// Description of the mismatch.
        reason: String,
    },
    /// A document does not match the one that it belongs to.
    #[error("document {document} is misplaced: {reason}")]
    Misplaced {
        /// The document, as `type/id`.
        document: String,
        /// Description of the mismatch.
        reason: String,
    },
    /// A blob that a document refers to does not exist.
    #[serde(rename = "content_missing")]
    #[error("blob {blob} of document {document} is missing")]
    BlobMissing {
        /// The document, as `type/id`.
        document: String,
        /// The blob that the document refers to.
        blob: BlobId,
    },
    /// A blob does not match the document's description.
    #[serde(rename = "content_damaged")]
    #[error("blob {blob} of document {document} is damaged: {reason}")]
    BlobDamaged {
        /// The document, as `type/id`.
        document: String,
        /// The blob that the document refers to.
        blob: BlobId,
        /// Description of the mismatch.
        reason: String,
    },
    /// Two documents refer to one blob, which is deleted with the first of them.
    #[serde(rename = "content_shared")]
    #[error("blob {blob} of document {document} also belongs to another document")]
    BlobShared {
        /// The document, as `type/id`.
        document: String,
        /// The blob that the document refers to.
        blob: BlobId,
    },
    /// No document refers to a blob.
    #[serde(rename = "content_unused")]
    #[error("no document refers to blob {blob}")]
    BlobOrphaned {
        /// The blob without a document.
        blob: BlobId,
    },
    /// A derived entry does not exist.
    #[error("{what} of {owner} is missing")]
    Missing {
        /// The missing entry.
        what: String,
        /// The source entry from which it is derived.
        #[serde(rename = "of")]
        owner: String,
    },
    /// A derived entry has a different value than expected, or cannot be read.
    #[serde(rename = "differs")]
    #[error("{what} of {of} has a wrong value")]
    Mismatch {
        /// Description of the entry, with its key.
        what: String,
        /// The source entry from which it is derived.
        of: String,
    },
    /// An entry without a source, or one that cannot be read.
    #[error("{what} is invalid: {reason}")]
    Stray {
        /// Description of the entry, with its key.
        what: String,
        /// Why it should not exist.
        reason: String,
    },
    /// Two documents claim an entry that only one can own.
    #[error("{what} of {of} is held by {holder}, which also claims it")]
    Contested {
        /// The claimed entry.
        what: String,
        /// The claimant that does not own the entry.
        of: String,
        /// The owner of the entry.
        holder: String,
    },
}

impl FsckProblem {
    /// Returns what a repair does about the problem; `None` if only a person can decide.
    #[must_use]
    pub const fn repair_hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } | Self::Mismatch { .. } => Some("it is rewritten"),
            Self::Stray { .. } | Self::BlobOrphaned { .. } => Some("it is removed"),
            Self::Damaged { .. }
            | Self::Unknown { .. }
            | Self::InvalidDocument { .. }
            | Self::Misplaced { .. }
            | Self::BlobMissing { .. }
            | Self::BlobDamaged { .. }
            | Self::BlobShared { .. }
            | Self::Contested { .. } => None,
        }
    }

    /// Returns what a person can do about it if no repair can.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "a newer version may have written it; use that version",
            Self::BlobShared { .. } => "download the file and upload it again under another name",
            Self::Misplaced { .. } => "move it into an existing directory, which rewrites its path (PATCH /files/ID)",
            Self::Contested { .. } => "rename or delete one of the two",
            _ if self.repair_hint().is_some() => "run konnector fsck --repair",
            Self::BlobMissing { .. } | Self::BlobDamaged { .. } => {
                "start the server and write the item again: konnector konnectors update SLUG for a konnector, a run of \
                 its konnector or a new upload for a file; otherwise restore the last backup into an empty data folder"
            }
            _ => "restore the last backup into an empty data folder",
        }
    }
}

/// A problem and its repair.
#[derive(Debug)]
pub(crate) struct FsckFinding {
    pub(crate) problem: FsckProblem,
    pub(super) repair: Option<Repair>,
}

/// A repair; it changes only derived entries.
#[derive(Debug)]
pub(super) enum Repair {
    Write(Batch),
    RemoveBlob(BlobId),
}
