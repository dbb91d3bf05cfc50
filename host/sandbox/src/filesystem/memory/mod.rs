//! `/tmp`: directories and files in memory, with the semantics of a POSIX file system but without links. A removed file
//! exists for as long as it is open.
//!
//! One guest uses the tree, one call at a time. The locks exist because a store may move between threads, and are never
//! held across calls.

mod content;
mod quota;
#[cfg(test)]
mod tests;

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

pub(crate) use content::SparseContent;
use quota::NodeReservation;
pub(crate) use quota::ScratchQuota;

use super::bindings::wasi::filesystem::types::ErrorCode;
use super::path::{GuestPath, MAX_DEPTH, PathStep, PathTarget};

type Result<T> = std::result::Result<T, ErrorCode>;

/// Times of the last read and the last change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeTimes {
    pub(crate) accessed: SystemTime,
    pub(crate) modified: SystemTime,
}

impl NodeTimes {
    fn now() -> Self {
        let now = SystemTime::now();
        Self { accessed: now, modified: now }
    }
}

/// A file or directory in memory.
#[derive(Debug, Clone)]
pub(crate) enum MemoryNode {
    File(Arc<MemoryFile>),
    Directory(Arc<MemoryDirectory>),
}

/// A file in memory.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    pub(crate) inode: u64,
    content: Mutex<SparseContent>,
    times: Mutex<NodeTimes>,
    _reservation: NodeReservation,
}

/// A directory in memory.
#[derive(Debug)]
pub(crate) struct MemoryDirectory {
    pub(crate) inode: u64,
    state: Mutex<DirectoryState>,
    times: Mutex<NodeTimes>,
    reservation: NodeReservation,
}

#[derive(Debug)]
struct DirectoryState {
    /// Dangling for the root, and for a directory that was removed.
    parent: Weak<MemoryDirectory>,
    /// Whether the directory was removed, so that nothing can be added to it any more.
    is_removed: bool,
    children: BTreeMap<String, MemoryNode>,
}

/// How to open a path.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OpenOptions {
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    pub(crate) write: bool,
}

impl MemoryFile {
    fn new(quota: &Arc<ScratchQuota>) -> Result<Arc<Self>> {
        let reservation = NodeReservation::reserve(quota)?;
        let content = Mutex::new(SparseContent::new(Arc::clone(quota)));
        Ok(Arc::new(Self {
            inode: reservation.new_inode(),
            content,
            times: Mutex::new(NodeTimes::now()),
            _reservation: reservation,
        }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.content.lock().len()
    }

    pub(crate) fn read(&self, offset: u64, max: usize) -> Vec<u8> {
        self.times.lock().accessed = SystemTime::now();
        self.content.lock().read(offset, max)
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.times.lock().modified = SystemTime::now();
        self.content.lock().write(offset, bytes)
    }

    pub(crate) fn append(&self, bytes: &[u8]) -> Result<()> {
        self.write(self.len(), bytes)
    }

    pub(crate) fn set_len(&self, length: u64) -> Result<()> {
        self.times.lock().modified = SystemTime::now();
        self.content.lock().set_len(length)
    }

    pub(crate) fn times(&self) -> MutexGuard<'_, NodeTimes> {
        self.times.lock()
    }
}

impl MemoryNode {
    pub(crate) const fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    pub(crate) fn inode(&self) -> u64 {
        match self {
            Self::File(file) => file.inode,
            Self::Directory(directory) => directory.inode,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.len(),
            Self::Directory(_) => 0,
        }
    }

    pub(crate) fn times(&self) -> MutexGuard<'_, NodeTimes> {
        match self {
            Self::File(file) => file.times(),
            Self::Directory(directory) => directory.times.lock(),
        }
    }

    fn directory(self) -> Result<Arc<MemoryDirectory>> {
        match self {
            Self::Directory(directory) => Ok(directory),
            Self::File(_) => Err(ErrorCode::NotDirectory),
        }
    }

    /// Requires a directory if the path ends with a slash.
    fn check_directory_path(self, path: &GuestPath<'_>) -> Result<Self> {
        if path.is_directory_path && !self.is_directory() { Err(ErrorCode::NotDirectory) } else { Ok(self) }
    }

    /// Returns the depth of the directories nested below this one.
    fn height(&self) -> usize {
        match self {
            Self::File(_) => 0,
            Self::Directory(directory) => {
                1 + directory.state.lock().children.values().map(Self::height).max().unwrap_or(0)
            }
        }
    }
}

impl MemoryDirectory {
    /// Creates the root directory of an empty tree.
    pub(crate) fn root(quota: &Arc<ScratchQuota>) -> Result<Arc<Self>> {
        Self::new(quota, Weak::new())
    }

    fn new(quota: &Arc<ScratchQuota>, parent: Weak<Self>) -> Result<Arc<Self>> {
        let reservation = NodeReservation::reserve(quota)?;
        let entries = Mutex::new(DirectoryState { parent, is_removed: false, children: BTreeMap::new() });
        Ok(Arc::new(Self {
            inode: reservation.new_inode(),
            state: entries,
            times: Mutex::new(NodeTimes::now()),
            reservation,
        }))
    }

    pub(crate) fn times(&self) -> MutexGuard<'_, NodeTimes> {
        self.times.lock()
    }

    fn child(&self, name: &str) -> Option<MemoryNode> {
        self.state.lock().children.get(name).cloned()
    }

    fn parent(&self) -> Option<Arc<Self>> {
        self.state.lock().parent.upgrade()
    }

    /// Returns the directories that contain this one, the nearest first.
    fn ancestors(self: &Arc<Self>) -> impl Iterator<Item = Arc<Self>> {
        std::iter::successors(self.parent(), |directory| directory.parent())
    }

    fn is_empty(&self) -> bool {
        self.state.lock().children.is_empty()
    }

    fn insert(self: &Arc<Self>, name: &str, node: MemoryNode) -> Result<()> {
        if let MemoryNode::Directory(directory) = &node {
            directory.state.lock().parent = Arc::downgrade(self);
        }
        let mut entries = self.state.lock();
        if entries.is_removed {
            return Err(ErrorCode::NoEntry);
        }
        entries.children.insert(name.to_owned(), node);
        drop(entries);
        self.times.lock().modified = SystemTime::now();
        Ok(())
    }

    fn remove(&self, name: &str) {
        self.state.lock().children.remove(name);
        self.times.lock().modified = SystemTime::now();
    }

    /// Checks whether a subtree of `height` nested directories may be added to this directory.
    fn check_depth(self: &Arc<Self>, height: usize) -> Result<()> {
        let deep = self.ancestors().count() + height;
        if deep > MAX_DEPTH { Err(ErrorCode::NameTooLong) } else { Ok(()) }
    }

    fn walk(self: &Arc<Self>, steps: &[PathStep<'_>]) -> Result<Arc<Self>> {
        let mut ancestors = vec![Arc::clone(self)];
        for step in steps {
            match step {
                // Not to the parent, which a rename may have changed since, because a walk returns the way it came.
                PathStep::Parent => drop(ancestors.pop()),
                PathStep::Child(name) => {
                    let current = ancestors.last().ok_or(ErrorCode::NotPermitted)?;
                    let next = current.child(name).ok_or(ErrorCode::NoEntry)?.directory()?;
                    ancestors.push(next);
                }
            }
        }
        ancestors.pop().ok_or(ErrorCode::NotPermitted)
    }

    /// Returns the node at a path.
    pub(crate) fn find(self: &Arc<Self>, path: &GuestPath<'_>) -> Result<MemoryNode> {
        let (before, last) = path.split_target();
        let directory = self.walk(before)?;
        match last {
            PathTarget::Current | PathTarget::Parent => Ok(MemoryNode::Directory(directory)),
            PathTarget::Child(name) => directory.child(name).ok_or(ErrorCode::NoEntry)?.check_directory_path(path),
        }
    }

    /// Opens the node at a path, or creates a file there.
    pub(crate) fn open(self: &Arc<Self>, path: &GuestPath<'_>, options: OpenOptions) -> Result<MemoryNode> {
        let (before, last) = path.split_target();
        let directory = self.walk(before)?;
        if options.create && path.is_directory_path && matches!(last, PathTarget::Child(_)) {
            return Err(ErrorCode::IsDirectory);
        }
        let found = match last {
            PathTarget::Current | PathTarget::Parent => Some(MemoryNode::Directory(Arc::clone(&directory))),
            PathTarget::Child(name) => directory.child(name),
        };
        let node = match (found, last) {
            (Some(_), _) if options.create && options.exclusive => return Err(ErrorCode::Exist),
            (Some(node), _) => node.check_directory_path(path)?,
            (None, PathTarget::Child(name)) if options.create => {
                let file = MemoryNode::File(MemoryFile::new(directory.reservation.quota())?);
                directory.insert(name, file.clone())?;
                file
            }
            (None, _) => return Err(ErrorCode::NoEntry),
        };
        match &node {
            MemoryNode::Directory(_) if options.write || options.create || options.truncate => {
                Err(ErrorCode::IsDirectory)
            }
            MemoryNode::File(_) if options.directory => Err(ErrorCode::NotDirectory),
            MemoryNode::File(file) if options.truncate => file.set_len(0).map(|()| node),
            _ => Ok(node),
        }
    }

    /// Creates a file for the host.
    pub(crate) fn create_file(self: &Arc<Self>, name: &str, content: &[u8]) -> Result<()> {
        let file = MemoryFile::new(self.reservation.quota())?;
        file.write(0, content)?;
        self.insert(name, MemoryNode::File(file))
    }

    /// Creates a directory.
    pub(crate) fn create_directory(self: &Arc<Self>, path: &GuestPath<'_>) -> Result<()> {
        let (before, last) = path.split_target();
        let directory = self.walk(before)?;
        let PathTarget::Child(name) = last else { return Err(ErrorCode::Exist) };
        if directory.child(name).is_some() {
            return Err(ErrorCode::Exist);
        }
        directory.check_depth(1)?;
        let new = Self::new(directory.reservation.quota(), Arc::downgrade(&directory))?;
        directory.insert(name, MemoryNode::Directory(new))
    }

    /// Removes a file.
    pub(crate) fn remove_file(self: &Arc<Self>, path: &GuestPath<'_>) -> Result<()> {
        let (before, last) = path.split_target();
        let directory = self.walk(before)?;
        let PathTarget::Child(name) = last else { return Err(ErrorCode::IsDirectory) };
        match directory.child(name).ok_or(ErrorCode::NoEntry)?.check_directory_path(path)? {
            MemoryNode::Directory(_) => Err(ErrorCode::IsDirectory),
            MemoryNode::File(_) => {
                directory.remove(name);
                Ok(())
            }
        }
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(self: &Arc<Self>, path: &GuestPath<'_>) -> Result<()> {
        let (before, last) = path.split_target();
        let directory = self.walk(before)?;
        let name = match last {
            PathTarget::Child(name) => name,
            PathTarget::Current => return Err(ErrorCode::Invalid),
            PathTarget::Parent => return Err(ErrorCode::NotEmpty),
        };
        let removed = directory.child(name).ok_or(ErrorCode::NoEntry)?.directory()?;
        if !removed.is_empty() {
            return Err(ErrorCode::NotEmpty);
        }
        removed.mark_removed();
        directory.remove(name);
        Ok(())
    }

    fn mark_removed(&self) {
        let mut entries = self.state.lock();
        entries.is_removed = true;
        entries.parent = Weak::new();
    }

    /// Moves a file or directory; replaces an existing file or empty directory.
    pub(crate) fn rename(
        self: &Arc<Self>,
        from: &GuestPath<'_>,
        to_base: &Arc<Self>,
        to: &GuestPath<'_>,
    ) -> Result<()> {
        let ((from_steps, from_last), (to_steps, to_last)) = (from.split_target(), to.split_target());
        let (old, new) = (self.walk(from_steps)?, to_base.walk(to_steps)?);
        let (PathTarget::Child(from_name), PathTarget::Child(to_name)) = (from_last, to_last) else {
            return Err(ErrorCode::Busy);
        };
        let moved = old.child(from_name).ok_or(ErrorCode::NoEntry)?.check_directory_path(from)?;
        if to.is_directory_path && !moved.is_directory() {
            return Err(ErrorCode::NotDirectory);
        }
        if let MemoryNode::Directory(directory) = &moved {
            let is_descendant =
                std::iter::once(Arc::clone(&new)).chain(new.ancestors()).any(|above| Arc::ptr_eq(&above, directory));
            if is_descendant {
                return Err(ErrorCode::Invalid);
            }
            new.check_depth(moved.height())?;
        }
        let existing = new.child(to_name);
        if let Some(MemoryNode::Directory(existing)) = &existing
            && std::iter::once(Arc::clone(&old)).chain(old.ancestors()).any(|above| Arc::ptr_eq(&above, existing))
        {
            return Err(ErrorCode::NotEmpty);
        }
        match (&moved, existing) {
            (_, Some(existing)) if existing.inode() == moved.inode() => return Ok(()),
            (MemoryNode::Directory(_), Some(MemoryNode::File(_))) => return Err(ErrorCode::NotDirectory),
            (MemoryNode::File(_), Some(MemoryNode::Directory(_))) => return Err(ErrorCode::IsDirectory),
            (MemoryNode::Directory(_), Some(MemoryNode::Directory(existing))) => {
                if !existing.is_empty() {
                    return Err(ErrorCode::NotEmpty);
                }
                existing.mark_removed();
            }
            (MemoryNode::File(_), Some(MemoryNode::File(_))) | (_, None) => {}
        }
        new.insert(to_name, moved)?;
        old.remove(from_name);
        Ok(())
    }

    /// Returns the first name after `after`, and its node.
    pub(crate) fn next_entry(&self, after: Option<&str>) -> Option<(String, MemoryNode)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.state.lock();
        let (name, node) = entries.children.range::<str, _>((from, Bound::Unbounded)).next()?;
        Some((name.clone(), node.clone()))
    }
}
