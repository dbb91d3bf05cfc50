//! What a check finds.

use serde::Serialize;

use crate::blob::BlobId;
use crate::kv::Batch;

/// Something in a store that does not fit the rest. Each is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FsckProblem {
    /// An entry that nothing else tells cannot be read.
    #[error("{what} cannot be read: {reason}")]
    Damaged {
        /// Which entry.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// An entry of no kind that this program writes.
    #[error("{what} is none that this program writes")]
    Unknown {
        /// Which entry.
        what: String,
    },
    /// A document is not what its type says, so that what it refers to is not known.
    #[serde(rename = "unclear")]
    #[error("document {document} is not what its type says: {reason}")]
    InvalidDocument {
        /// The document.
        document: String,
        /// What does not fit.
        reason: String,
    },
    /// A document does not fit the one that it belongs to.
    #[error("document {document} is not where it says: {reason}")]
    Misplaced {
        /// The document.
        document: String,
        /// What does not fit.
        reason: String,
    },
    /// A content that a document refers to is not there.
    #[serde(rename = "content_missing")]
    #[error("a content of document {document}, blob {blob}, is missing")]
    BlobMissing {
        /// The document.
        document: String,
        /// The blob.
        blob: BlobId,
    },
    /// A content is not what the document says.
    #[serde(rename = "content_damaged")]
    #[error("a content of document {document}, blob {blob}, is damaged: {reason}")]
    BlobDamaged {
        /// The document.
        document: String,
        /// The blob.
        blob: BlobId,
        /// What does not fit.
        reason: String,
    },
    /// Two documents refer to one content, which goes with the first of them that is deleted.
    #[serde(rename = "content_shared")]
    #[error("a content of document {document}, blob {blob}, belongs to another document too")]
    BlobShared {
        /// The document.
        document: String,
        /// The blob.
        blob: BlobId,
    },
    /// No document refers to a content.
    #[serde(rename = "content_unused")]
    #[error("no document refers to blob {blob}")]
    BlobOrphaned {
        /// The blob.
        blob: BlobId,
    },
    /// An entry that follows from another one is not there.
    #[error("{what} of {owner} is missing")]
    Missing {
        /// What should be there.
        what: String,
        /// What it follows from.
        #[serde(rename = "of")]
        owner: String,
    },
    /// An entry that follows from another one says something else, or cannot be read.
    #[serde(rename = "differs")]
    #[error("{what} of {of} says something else")]
    Mismatch {
        /// Which entry.
        what: String,
        /// What it follows from.
        of: String,
    },
    /// An entry that follows from nothing, or cannot be read.
    #[error("{what} belongs to nothing: {reason}")]
    Stray {
        /// Which entry.
        what: String,
        /// Why it should not be there.
        reason: String,
    },
    /// Two claim what only one can have.
    #[error("{what} of {of} is held by {holder}, which has a right to it too")]
    Contested {
        /// What both claim.
        what: String,
        /// Who does not have it.
        of: String,
        /// Who has it.
        holder: String,
    },
}

impl FsckProblem {
    /// What a repair does about it; `None` where only a person can decide.
    #[must_use]
    pub const fn repair_hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } | Self::Mismatch { .. } => Some("it is written anew"),
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

    /// What a person can do about it where no repair can.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "a newer version may have written it: use that one",
            Self::BlobShared { .. } => "download the file and upload it again under another name",
            Self::Misplaced { .. } => {
                "move it into a directory that is there, which writes its path anew (PATCH /files/ID)"
            }
            Self::Contested { .. } => "rename or delete one of the two",
            _ if self.repair_hint().is_some() => "run konnector fsck --repair",
            _ => "restore the last backup into an empty data folder, or delete what is damaged",
        }
    }
}

/// A problem, and what would repair it.
#[derive(Debug)]
pub(crate) struct FsckFinding {
    pub(crate) problem: FsckProblem,
    pub(super) repair: Option<Repair>,
}

/// Changes nothing but what follows from something else.
#[derive(Debug)]
pub(super) enum Repair {
    Write(Batch),
    RemoveBlob(BlobId),
}
