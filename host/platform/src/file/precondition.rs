//! Changes of what a client saw: whoever names a revision changes that one, or nothing (RFC 9110 §13.1.1).

use konnector_store::{Changes, DocRef, Rev};

use super::File;
use crate::stored::Stored;
use crate::{Error, Platform, Result};

impl Stored<File> {
    /// Refuses to go on from another revision than the one that was seen; `None` goes on from any. The commit that follows insists on the
    /// revision that was read here, so that nothing comes in between.
    ///
    /// # Errors
    ///
    /// [`Error::PreconditionFailed`].
    pub(super) fn require_rev(self, seen: Option<&Rev>) -> Result<Self> {
        check_rev(&self.rev, seen).map(|()| self)
    }
}

impl Platform {
    /// Commits the change of a file, which comes first among the changes; answers its new revision.
    ///
    /// # Errors
    ///
    /// [`Error::PreconditionFailed`] when somebody else changed what was seen, [`Error::Conflict`] when nothing was seen or something else changed.
    pub(super) async fn commit_if_match(&self, at: &DocRef, seen: Option<&Rev>, changes: Changes) -> Result<Rev> {
        let done = self.commit_one(changes).await;
        if let (Err(Error::Conflict(_)), Some(found)) = (&done, self.store.get(at)?) {
            check_rev(&found.rev, seen)?;
        }
        done
    }
}

/// Refuses a file that is not as it was seen, before anything is done for it; the commit checks again.
///
/// # Errors
///
/// [`Error::PreconditionFailed`].
pub fn check_precondition(file: &File, seen: Option<&Rev>) -> Result<()> {
    file.rev.as_ref().map_or(Ok(()), |rev| check_rev(rev, seen))
}

fn check_rev(rev: &Rev, seen: Option<&Rev>) -> Result<()> {
    match seen {
        Some(seen) if seen != rev => Err(Error::PreconditionFailed {
            name: "If-Match",
            message: format!("'{seen}' is not the newest revision of the file, '{rev}' is"),
        }),
        _ => Ok(()),
    }
}
