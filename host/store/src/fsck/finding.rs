//! What a check finds.

use serde::Serialize;

use crate::blob::BlobId;
use crate::kv::Batch;

/// Something in a store that does not fit the rest. Each is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
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
    #[error("document {document} is not what its type says: {reason}")]
    Unclear {
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
    #[error("a content of document {document}, blob {blob}, is missing")]
    ContentMissing {
        /// The document.
        document: String,
        /// The blob.
        blob: BlobId,
    },
    /// A content is not what the document says.
    #[error("a content of document {document}, blob {blob}, is damaged: {reason}")]
    ContentDamaged {
        /// The document.
        document: String,
        /// The blob.
        blob: BlobId,
        /// What does not fit.
        reason: String,
    },
    /// Two documents refer to one content, which goes with the first of them that is deleted.
    #[error("a content of document {document}, blob {blob}, belongs to another document too")]
    ContentShared {
        /// The document.
        document: String,
        /// The blob.
        blob: BlobId,
    },
    /// No document refers to a content.
    #[error("no document refers to blob {blob}")]
    ContentUnused {
        /// The blob.
        blob: BlobId,
    },
    /// An entry that follows from another one is not there.
    #[error("{what} of {of} is missing")]
    Missing {
        /// What should be there.
        what: String,
        /// What it follows from.
        of: String,
    },
    /// An entry that follows from another one says something else, or cannot be read.
    #[error("{what} of {of} says something else")]
    Differs {
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

impl Problem {
    /// What a repair does about it; `None` where only a person can decide.
    #[must_use]
    pub const fn repair(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } | Self::Differs { .. } => Some("it is written anew"),
            Self::Stray { .. } | Self::ContentUnused { .. } => Some("it is removed"),
            Self::Damaged { .. }
            | Self::Unknown { .. }
            | Self::Unclear { .. }
            | Self::Misplaced { .. }
            | Self::ContentMissing { .. }
            | Self::ContentDamaged { .. }
            | Self::ContentShared { .. }
            | Self::Contested { .. } => None,
        }
    }

    /// What a person can do about it where no repair can.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "a newer version may have written it: use that one",
            Self::ContentShared { .. } => "download the file and upload it again under another name",
            Self::Misplaced { .. } => {
                "move it into a directory that is there, which writes its path anew (PATCH /files/ID)"
            }
            Self::Contested { .. } => "rename or delete one of the two",
            _ if self.repair().is_some() => "run konnector fsck --repair",
            _ => "restore the last backup into an empty data folder, or delete what is damaged",
        }
    }
}

/// A problem, and what would repair it.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) problem: Problem,
    pub(super) remedy: Option<Remedy>,
}

/// Changes nothing but what follows from something else.
#[derive(Debug)]
pub(super) enum Remedy {
    Write(Batch),
    RemoveBlob(BlobId),
}
