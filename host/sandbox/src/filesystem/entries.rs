//! Reading a directory: one name after the other, without a list of all of them.

use std::collections::VecDeque;

use super::bindings::wasi::filesystem::types::DirectoryEntry;
use super::descriptor::{Directory, kind};
use super::failure::Result;

/// A directory that is being read.
pub struct Entries {
    directory: Directory,
    last: Option<String>,
    /// The user's directories come page by page.
    page: VecDeque<(String, bool)>,
}

impl Entries {
    pub(super) const fn new(directory: Directory) -> Self {
        Self { directory, last: None, page: VecDeque::new() }
    }

    /// Bytes of the names that are kept.
    pub(crate) fn weight(&self) -> usize {
        let entry = size_of::<(String, bool)>();
        self.page.capacity() * entry
            + self
                .page
                .iter()
                .map(|(name, _)| name.capacity())
                .chain(self.last.as_ref().map(String::capacity))
                .sum::<usize>()
    }

    pub(super) async fn next(&mut self) -> Result<Option<DirectoryEntry>> {
        let next = match &self.directory {
            Directory::Memory(directory) => {
                directory.next(self.last.as_deref()).map(|(name, node)| (name, node.is_directory()))
            }
            Directory::User(directory) => {
                if self.page.is_empty() {
                    self.page = directory.children(self.last.as_deref()).await?.into();
                }
                self.page.pop_front()
            }
        };
        let Some((name, directory)) = next else { return Ok(None) };
        self.last = Some(name.clone());
        Ok(Some(DirectoryEntry { type_: kind(directory), name }))
    }
}
