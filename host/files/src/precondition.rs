//! Conditional changes. A client that names a revision changes that revision, or nothing (RFC 9110 §13.1.1).

use konnector_store::{Changes, DocRef, Rev};

use super::File;
use crate::Files;
use crate::{Error, Result};
use konnector_documents::stored::Stored;

/// Check of the revision that a client saw.
pub(super) trait RequireRev: Sized {
    /// Rejects a revision other than the one that was seen; `None` accepts any. The commit requires the revision that
    /// was read here, which rules out changes in between.
    ///
    /// # Errors
    ///
    /// [`Error::PreconditionFailed`] if the file has another revision.
    fn require_rev(self, seen: Option<&Rev>) -> Result<Self>;
}

impl RequireRev for Stored<File> {
    fn require_rev(self, seen: Option<&Rev>) -> Result<Self> {
        check_rev(&self.rev, seen).map(|()| self)
    }
}

impl Files {
    /// Commits the change of a file, which must be the first of the changes; returns its new revision.
    ///
    /// # Errors
    ///
    /// [`Error::PreconditionFailed`] if the file was changed since it was seen, [`Error::Conflict`] if no revision was
    /// given or another document changed.
    pub(super) async fn commit_if_match(&self, document: &DocRef, seen: Option<&Rev>, changes: Changes) -> Result<Rev> {
        let done = self.core.commit_one(changes).await;
        if let (Err(Error::Conflict(_)), Some(found)) = (&done, self.core.store().get(document)?) {
            check_rev(&found.rev, seen)?;
        }
        done
    }
}

/// Rejects a file that has changed since it was seen, before any work; the commit checks again.
///
/// # Errors
///
/// [`Error::PreconditionFailed`] if the file has another revision.
pub fn check_precondition(file: &File, seen: Option<&Rev>) -> Result<()> {
    file.rev.as_ref().map_or(Ok(()), |rev| check_rev(rev, seen))
}

fn check_rev(rev: &Rev, seen: Option<&Rev>) -> Result<()> {
    match seen {
        Some(seen) if seen != rev => Err(Error::PreconditionFailed {
            name: "If-Match",
            message: format!("the file is at revision '{rev}', not '{seen}'; read it again"),
        }),
        _ => Ok(()),
    }
}
