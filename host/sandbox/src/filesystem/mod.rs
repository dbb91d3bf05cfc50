//! The directories of a guest: our own `wasi:filesystem`. No part of it is a directory of this machine, so none of the ways out of one
//! (links, `..`, trailing slashes, device names) leads anywhere.
//!
//! - `/tmp` is empty at the start, lies in memory, and is gone at the end (see [`memory`]).
//! - `/files` is the user's files, as far as the manifest's rules reach (see [`user`]).
//!
//! There are no links: making one is not permitted.

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

/// What a run has of files.
pub(crate) struct GuestFilesystem {
    tmp: Option<Arc<memory::MemoryDirectory>>,
    files: Option<Arc<user::Mount>>,
    /// `/tmp` is the working directory, too.
    is_tmp_working_directory: bool,
}

impl GuestFilesystem {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        let limits = &context.capabilities.limits;
        let quota = memory::ScratchQuota::new(limits.scratch_bytes, limits.scratch_files.saturating_add(1));
        // Without room for even the topmost directory there is none.
        let tmp = memory::MemoryDirectory::root(&quota).ok();
        let tree = context.capabilities.tree.clone();
        let files = tree.map(|tree| user::Mount::new(tree, Arc::clone(context), quota));
        Self { tmp, files, is_tmp_working_directory: false }
    }

    /// Makes `/tmp` the working directory, as a command component expects to have one, with a file of its own in it.
    ///
    /// # Errors
    /// The file has no room there.
    pub(crate) fn with_working_directory(
        mut self,
        file: Option<&(&'static str, String)>,
    ) -> Result<Self, interfaces::types::ErrorCode> {
        self.is_tmp_working_directory = true;
        if let Some((name, content)) = file {
            let tmp = self.tmp.as_ref().ok_or(interfaces::types::ErrorCode::InsufficientSpace)?;
            tmp.create_file(name, content.as_bytes())?;
        }
        Ok(self)
    }
}
