//! Reading a directory one name at a time, without a list of all names.

use std::collections::VecDeque;

use super::bindings::wasi::filesystem::types::DirectoryEntry;
use super::descriptor::{AnyDirectory, descriptor_type};
use super::error::Result;

/// The state of reading a directory.
pub struct DirectoryEntryStream {
    directory: AnyDirectory,
    last_name: Option<String>,
    /// Entries of the current page; the user's directories are read page by page.
    page: VecDeque<(String, bool)>,
}

impl DirectoryEntryStream {
    pub(super) const fn new(directory: AnyDirectory) -> Self {
        Self { directory, last_name: None, page: VecDeque::new() }
    }

    /// Returns the size of the buffered names in bytes.
    pub(crate) fn memory_size(&self) -> usize {
        let entry = size_of::<(String, bool)>();
        self.page.capacity() * entry
            + self
                .page
                .iter()
                .map(|(name, _)| name.capacity())
                .chain(self.last_name.as_ref().map(String::capacity))
                .sum::<usize>()
    }

    pub(super) async fn next(&mut self) -> Result<Option<DirectoryEntry>> {
        let next = match &self.directory {
            AnyDirectory::Memory(directory) => {
                directory.next_entry(self.last_name.as_deref()).map(|(name, node)| (name, node.is_directory()))
            }
            AnyDirectory::User(directory) => {
                if self.page.is_empty() {
                    self.page = directory.children(self.last_name.as_deref()).await?.into();
                }
                self.page.pop_front()
            }
        };
        let Some((name, directory)) = next else { return Ok(None) };
        self.last_name = Some(name.clone());
        Ok(Some(DirectoryEntry { type_: descriptor_type(directory), name }))
    }
}
