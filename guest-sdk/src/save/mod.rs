//! Saves items so that a run can be repeated. Items that the user has already are neither fetched nor stored again,
//! failures are reported while the rest is saved, and a run that is about to reach its time limit stops by itself and
//! continues in the next run.

mod bill;
mod bills;
mod documents;
mod file;
mod files;
mod metadata;
mod summary;

pub use bill::Bill;
pub use bills::save_bills;
pub use documents::{Item, delete_documents, save_documents, update_documents};
pub use file::File;
pub use files::{save_files, trash_files};
pub use metadata::Metadata;
pub use summary::SaveSummary;

use std::time::Duration;

use crate::progress::remaining_time;

use crate::Result;
use crate::host::{documents as documents_import, files as files_import};

/// The document type of files, which have an interface of their own.
const FILES_DOCTYPE: &str = "io.cozy.files";

/// Checks whether documents of a doctype, or files, may be saved, without saving any.
pub(crate) fn check_save_allowed(doctype: &str) -> Result<()> {
    if doctype == FILES_DOCTYPE {
        files_import::check_save()?;
    } else {
        documents_import::check_save(doctype)?;
    }
    Ok(())
}

/// Enough to save the pending items before the host ends the run.
const TIME_RESERVE: Duration = Duration::from_secs(15);

fn is_out_of_time() -> bool {
    remaining_time() < TIME_RESERVE
}
