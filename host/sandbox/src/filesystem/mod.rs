//! The directories of a guest, our own implementation of `wasi:filesystem`. No part of it is a directory of this
//! machine, so the known escapes (links, `..`, trailing slashes, device names) have no effect.
//!
//! - `/tmp` is empty at the start, held in memory, and discarded at the end (see [`memory`]).
//! - `/files` contains the user's files that the manifest's rules cover (see [`user`]).
//!
//! There are no links; creating one is not permitted.

mod bindings;
mod descriptor;
mod directory_entry_stream;
mod error;
mod host;
mod memory;
pub mod path;
mod path_operations;
mod stream;
mod user;

use std::sync::Arc;

pub(crate) use bindings::wasi::filesystem as interfaces;
pub(crate) use directory_entry_stream::DirectoryEntryStream;

use crate::host::Context;

/// The file system of a run.
pub(crate) struct GuestFilesystem {
    tmp: Option<Arc<memory::MemoryDirectory>>,
    files: Option<Arc<user::Mount>>,
    /// Whether `/tmp` is also the working directory.
    is_tmp_working_directory: bool,
}

impl GuestFilesystem {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        let limits = &context.capabilities.limits;
        let reporter = Arc::clone(context);
        let report = move |quota| reporter.report_file_quota("/tmp", quota);
        let quota = memory::ScratchQuota::new(limits.scratch_bytes, limits.scratch_files, report);
        // If there is not enough space even for the root directory, `/tmp` does not exist.
        let tmp = memory::MemoryDirectory::root(&quota).ok();
        let tree = context.capabilities.tree.clone();
        let files = tree.map(|tree| user::Mount::new(tree, Arc::clone(context), quota));
        Self { tmp, files, is_tmp_working_directory: false }
    }

    /// Makes `/tmp` the working directory, because a command component expects one, and creates a file in it.
    ///
    /// # Errors
    ///
    /// If the file does not fit into the quota.
    pub(crate) fn with_working_directory(
        mut self,
        file: Option<&(&'static str, String)>,
    ) -> Result<Self, interfaces::types::ErrorCode> {
        self.is_tmp_working_directory = true;
        if let Some((name, content)) = file {
            let tmp = self.tmp.as_ref().ok_or(interfaces::types::ErrorCode::Quota)?;
            tmp.create_file(name, content.as_bytes())?;
        }
        Ok(self)
    }
}
