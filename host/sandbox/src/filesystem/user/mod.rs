//! `/files`, which contains the user's files, through [`capability::Tree`](crate::capability::Tree).
//!
//! A file that is being written is a [`Draft`](crate::capability::Draft) until it is closed or synced; then its content
//! becomes visible as a whole. Until then, others read the previous content. Within the run, a new file has its name
//! from the moment it is opened, so it can be opened again, inspected, renamed and removed.

mod directory;
mod file;
mod file_content;

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use konnector_manifest::Limit;

pub(crate) use directory::{LookupResult, OpenedNode, UserDirectory};
pub(crate) use file::UserFile;

use super::bindings::wasi::filesystem::types::ErrorCode;
use super::error::{FilesystemError, Result};
use super::memory;
use crate::capability::{Level, QuotaKind, Tree, TreeError};
use crate::host::{Context, LeaseLost};

/// Uncommitted files of a run, by the directory's id and the name.
type UncommittedFiles = HashMap<(String, String), Weak<file::SharedFile>>;

/// The user's files as one run sees them.
pub(crate) struct Mount {
    tree: Arc<dyn Tree>,
    context: Arc<Context>,
    /// Quota for the files that are not written sequentially and therefore held in memory.
    scratch: Arc<memory::ScratchQuota>,
    /// Each open file holds a clone.
    open_count: Arc<()>,
    /// Number of the next opened file.
    next_number: AtomicU64,
    uncommitted: Mutex<UncommittedFiles>,
    /// Map from the id of each existing file that is open for writing. Opening one again shares the same draft.
    open_for_writing_by_id: Mutex<HashMap<String, Weak<file::SharedFile>>>,
    /// Whether the lease was lost where this could not be reported, that is, in a dropped stream.
    lease_lost: AtomicBool,
}

impl Mount {
    pub(crate) fn new(tree: Arc<dyn Tree>, context: Arc<Context>, scratch: Arc<memory::ScratchQuota>) -> Arc<Self> {
        let (open_count, next_number, uncommitted, open_for_writing_by_id, lease_lost) = Default::default();
        Arc::new(Self {
            tree,
            context,
            scratch,
            open_count,
            next_number,
            uncommitted,
            open_for_writing_by_id,
            lease_lost,
        })
    }

    /// Waits for an operation on the user's files, unless the run is cancelled first.
    async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T, TreeError>>) -> Result<T> {
        if self.lease_lost.load(Ordering::Relaxed) {
            return Err(LeaseLost::LeaseLost.into());
        }
        let result = tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => Err(TreeError::Cancelled),
            result = work => result,
        };
        result.map_err(|error| self.log_error(error))
    }

    /// Logs the details of an error, because its code alone does not help an author.
    fn log_error(&self, error: TreeError) -> FilesystemError {
        match &error {
            TreeError::QuotaExceeded(quota) => self.context.report_file_quota("/files", *quota),
            TreeError::Denied(_) | TreeError::InvalidName(_) | TreeError::Other(_) => {
                self.context.logs.write_line(Level::Warn, &format!("/files: {error}"));
            }
            _ => {}
        }
        error.into()
    }

    /// Counts one more change. A run may change as many names as files.
    fn check_change_quota(&self) -> Result<()> {
        let Context { meter, capabilities, .. } = &*self.context;
        let value = capabilities.limits.files;
        if meter.files.total() + meter.name_changes.get() >= value {
            return Err(self.log_error(TreeError::QuotaExceeded(QuotaKind::Limit { limit: Limit::Files, value })));
        }
        Ok(())
    }

    /// Charges bytes that are about to be written to a file.
    fn charge_bytes(&self, bytes: u64) -> Result<()> {
        let Context { meter, capabilities, .. } = &*self.context;
        let value = capabilities.limits.file_bytes;
        if meter.file_bytes.get().saturating_add(bytes) > value {
            return Err(self.log_error(TreeError::QuotaExceeded(QuotaKind::Limit { limit: Limit::FileContent, value })));
        }
        meter.file_bytes.add(bytes);
        Ok(())
    }

    /// Reports a file that could not be saved, because closing a file returns no result to the guest.
    fn report_unsaved(&self, path: &str, failure: &FilesystemError) {
        match failure {
            FilesystemError::Code(code) => {
                self.context.meter.files_not_saved.add(1);
                // The message of the standard continues with the POSIX name of the code.
                let reason = match code {
                    ErrorCode::Quota => "a limit of the run has been reached",
                    code => code.message().split(", similar").next().unwrap_or_default(),
                };
                let message = format!("/files{path} was not saved when it was closed: {reason}");
                self.context.logs.write_line(Level::Error, &message);
            }
            FilesystemError::Trap(_) => self.lease_lost.store(true, Ordering::Relaxed),
        }
    }

    fn uncommitted(&self) -> MutexGuard<'_, UncommittedFiles> {
        self.uncommitted.lock()
    }

    fn open_for_writing_by_id(&self) -> MutexGuard<'_, HashMap<String, Weak<file::SharedFile>>> {
        self.open_for_writing_by_id.lock()
    }

    /// Finds an uncommitted file of this run.
    fn find_uncommitted(&self, directory: &str, name: &str) -> Option<Arc<file::SharedFile>> {
        self.uncommitted().get(&(directory.to_owned(), name.to_owned())).and_then(Weak::upgrade)
    }
}
