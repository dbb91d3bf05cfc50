//! `/tmp`: directories and files in memory, as a POSIX file system has them, without links. A file that was removed lives on as long as
//! somebody has it open.
//!
//! One guest works with it, one call at a time; the locks are there because a store may change threads, and are never held across another
//! one's.

mod content;
mod quota;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

pub(crate) use content::Content;
use quota::NodeRoom;
pub(crate) use quota::Quota;

use super::bindings::wasi::filesystem::types::ErrorCode;
use super::path::{DEEPEST, Last, Path, Step};

type Result<T> = std::result::Result<T, ErrorCode>;

/// When something was last read and changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) accessed: SystemTime,
    pub(crate) modified: SystemTime,
}

impl Times {
    fn now() -> Self {
        let now = SystemTime::now();
        Self { accessed: now, modified: now }
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    File(Arc<File>),
    Directory(Arc<Directory>),
}

/// A file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) inode: u64,
    content: Mutex<Content>,
    times: Mutex<Times>,
    _room: NodeRoom,
}

/// A directory.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) inode: u64,
    entries: Mutex<Entries>,
    times: Mutex<Times>,
    room: NodeRoom,
}

#[derive(Debug)]
struct Entries {
    /// Nothing for the root, and for a directory that was removed.
    parent: Weak<Directory>,
    /// It was removed: nothing can be put into it any more.
    removed: bool,
    children: BTreeMap<String, Node>,
}

/// What is to be opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opening {
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    pub(crate) write: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl File {
    fn new(quota: &Arc<Quota>) -> Result<Arc<Self>> {
        let room = NodeRoom::take(quota)?;
        let content = Mutex::new(Content::new(Arc::clone(quota)));
        Ok(Arc::new(Self { inode: room.inode(), content, times: Mutex::new(Times::now()), _room: room }))
    }

    pub(crate) fn len(&self) -> u64 {
        lock(&self.content).len()
    }

    pub(crate) fn read(&self, offset: u64, max: usize) -> Vec<u8> {
        lock(&self.times).accessed = SystemTime::now();
        lock(&self.content).read(offset, max)
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        lock(&self.times).modified = SystemTime::now();
        lock(&self.content).write(offset, bytes)
    }

    pub(crate) fn append(&self, bytes: &[u8]) -> Result<()> {
        self.write(self.len(), bytes)
    }

    pub(crate) fn set_len(&self, length: u64) -> Result<()> {
        lock(&self.times).modified = SystemTime::now();
        lock(&self.content).set_len(length)
    }

    pub(crate) fn times(&self) -> MutexGuard<'_, Times> {
        lock(&self.times)
    }
}

impl Node {
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

    pub(crate) fn times(&self) -> MutexGuard<'_, Times> {
        match self {
            Self::File(file) => file.times(),
            Self::Directory(directory) => lock(&directory.times),
        }
    }

    fn directory(self) -> Result<Arc<Directory>> {
        match self {
            Self::Directory(directory) => Ok(directory),
            Self::File(_) => Err(ErrorCode::NotDirectory),
        }
    }

    /// A path that ends with a slash means a directory.
    fn named_by(self, path: &Path<'_>) -> Result<Self> {
        if path.names_directory && !self.is_directory() { Err(ErrorCode::NotDirectory) } else { Ok(self) }
    }

    /// Directories below it, one in the other.
    fn height(&self) -> usize {
        match self {
            Self::File(_) => 0,
            Self::Directory(directory) => {
                1 + lock(&directory.entries).children.values().map(Self::height).max().unwrap_or(0)
            }
        }
    }
}

impl Directory {
    /// The topmost directory of an empty tree.
    pub(crate) fn root(quota: &Arc<Quota>) -> Result<Arc<Self>> {
        Self::new(quota, Weak::new())
    }

    fn new(quota: &Arc<Quota>, parent: Weak<Self>) -> Result<Arc<Self>> {
        let room = NodeRoom::take(quota)?;
        let entries = Mutex::new(Entries { parent, removed: false, children: BTreeMap::new() });
        Ok(Arc::new(Self { inode: room.inode(), entries, times: Mutex::new(Times::now()), room }))
    }

    pub(crate) fn times(&self) -> MutexGuard<'_, Times> {
        lock(&self.times)
    }

    fn child(&self, name: &str) -> Option<Node> {
        lock(&self.entries).children.get(name).cloned()
    }

    fn parent(&self) -> Option<Arc<Self>> {
        lock(&self.entries).parent.upgrade()
    }

    /// The directories that it lies in, the nearest first.
    fn ancestors(self: &Arc<Self>) -> impl Iterator<Item = Arc<Self>> {
        std::iter::successors(self.parent(), |directory| directory.parent())
    }

    fn is_empty(&self) -> bool {
        lock(&self.entries).children.is_empty()
    }

    fn put(self: &Arc<Self>, name: &str, node: Node) -> Result<()> {
        if let Node::Directory(directory) = &node {
            lock(&directory.entries).parent = Arc::downgrade(self);
        }
        let mut entries = lock(&self.entries);
        if entries.removed {
            return Err(ErrorCode::NoEntry);
        }
        entries.children.insert(name.to_owned(), node);
        drop(entries);
        lock(&self.times).modified = SystemTime::now();
        Ok(())
    }

    fn take(&self, name: &str) {
        lock(&self.entries).children.remove(name);
        lock(&self.times).modified = SystemTime::now();
    }

    /// Whether something `height` directories high may be put into it.
    fn check_room_above(self: &Arc<Self>, height: usize) -> Result<()> {
        let deep = self.ancestors().count() + height;
        if deep > DEEPEST { Err(ErrorCode::NameTooLong) } else { Ok(()) }
    }

    fn go(self: &Arc<Self>, steps: &[Step<'_>]) -> Result<Arc<Self>> {
        let mut trail = vec![Arc::clone(self)];
        for step in steps {
            match step {
                // Not to the parent, which a rename may have changed since: a walk goes back the way it came.
                Step::Up => drop(trail.pop()),
                Step::Down(name) => {
                    let here = trail.last().ok_or(ErrorCode::NotPermitted)?;
                    let next = here.child(name).ok_or(ErrorCode::NoEntry)?.directory()?;
                    trail.push(next);
                }
            }
        }
        trail.pop().ok_or(ErrorCode::NotPermitted)
    }

    /// What lies under a path.
    pub(crate) fn find(self: &Arc<Self>, path: &Path<'_>) -> Result<Node> {
        let (before, last) = path.split();
        let directory = self.go(before)?;
        match last {
            Last::Here | Last::Above => Ok(Node::Directory(directory)),
            Last::Child(name) => directory.child(name).ok_or(ErrorCode::NoEntry)?.named_by(path),
        }
    }

    /// Opens what lies under a path, or creates a file there.
    pub(crate) fn open(self: &Arc<Self>, path: &Path<'_>, how: Opening) -> Result<Node> {
        let (before, last) = path.split();
        let directory = self.go(before)?;
        if how.create && path.names_directory && matches!(last, Last::Child(_)) {
            return Err(ErrorCode::IsDirectory);
        }
        let found = match last {
            Last::Here | Last::Above => Some(Node::Directory(Arc::clone(&directory))),
            Last::Child(name) => directory.child(name),
        };
        let node = match (found, last) {
            (Some(_), _) if how.create && how.exclusive => return Err(ErrorCode::Exist),
            (Some(node), _) => node.named_by(path)?,
            (None, Last::Child(name)) if how.create => {
                let file = Node::File(File::new(directory.room.quota())?);
                directory.put(name, file.clone())?;
                file
            }
            (None, _) => return Err(ErrorCode::NoEntry),
        };
        match &node {
            Node::Directory(_) if how.write || how.create || how.truncate => Err(ErrorCode::IsDirectory),
            Node::File(_) if how.directory => Err(ErrorCode::NotDirectory),
            Node::File(file) if how.truncate => file.set_len(0).map(|()| node),
            _ => Ok(node),
        }
    }

    /// Makes a file of the host's.
    pub(crate) fn create_file(self: &Arc<Self>, name: &str, content: &[u8]) -> Result<()> {
        let file = File::new(self.room.quota())?;
        file.write(0, content)?;
        self.put(name, Node::File(file))
    }

    /// Makes a directory.
    pub(crate) fn create_directory(self: &Arc<Self>, path: &Path<'_>) -> Result<()> {
        let (before, last) = path.split();
        let directory = self.go(before)?;
        let Last::Child(name) = last else { return Err(ErrorCode::Exist) };
        if directory.child(name).is_some() {
            return Err(ErrorCode::Exist);
        }
        directory.check_room_above(1)?;
        let new = Self::new(directory.room.quota(), Arc::downgrade(&directory))?;
        directory.put(name, Node::Directory(new))
    }

    /// Removes a file.
    pub(crate) fn remove_file(self: &Arc<Self>, path: &Path<'_>) -> Result<()> {
        let (before, last) = path.split();
        let directory = self.go(before)?;
        let Last::Child(name) = last else { return Err(ErrorCode::IsDirectory) };
        match directory.child(name).ok_or(ErrorCode::NoEntry)?.named_by(path)? {
            Node::Directory(_) => Err(ErrorCode::IsDirectory),
            Node::File(_) => {
                directory.take(name);
                Ok(())
            }
        }
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(self: &Arc<Self>, path: &Path<'_>) -> Result<()> {
        let (before, last) = path.split();
        let directory = self.go(before)?;
        let name = match last {
            Last::Child(name) => name,
            Last::Here => return Err(ErrorCode::Invalid),
            Last::Above => return Err(ErrorCode::NotEmpty),
        };
        let gone = directory.child(name).ok_or(ErrorCode::NoEntry)?.directory()?;
        if !gone.is_empty() {
            return Err(ErrorCode::NotEmpty);
        }
        gone.mark_removed();
        directory.take(name);
        Ok(())
    }

    fn mark_removed(&self) {
        let mut entries = lock(&self.entries);
        entries.removed = true;
        entries.parent = Weak::new();
    }

    /// Moves a file or directory; a file, or an empty directory, that is there already goes.
    pub(crate) fn rename(self: &Arc<Self>, from: &Path<'_>, to_base: &Arc<Self>, to: &Path<'_>) -> Result<()> {
        let ((from_steps, from_last), (to_steps, to_last)) = (from.split(), to.split());
        let (old, new) = (self.go(from_steps)?, to_base.go(to_steps)?);
        let (Last::Child(from_name), Last::Child(to_name)) = (from_last, to_last) else { return Err(ErrorCode::Busy) };
        let moved = old.child(from_name).ok_or(ErrorCode::NoEntry)?.named_by(from)?;
        if to.names_directory && !moved.is_directory() {
            return Err(ErrorCode::NotDirectory);
        }
        if let Node::Directory(directory) = &moved {
            let inside =
                std::iter::once(Arc::clone(&new)).chain(new.ancestors()).any(|above| Arc::ptr_eq(&above, directory));
            if inside {
                return Err(ErrorCode::Invalid);
            }
            new.check_room_above(moved.height())?;
        }
        let there = new.child(to_name);
        if let Some(Node::Directory(there)) = &there
            && std::iter::once(Arc::clone(&old)).chain(old.ancestors()).any(|above| Arc::ptr_eq(&above, there))
        {
            return Err(ErrorCode::NotEmpty);
        }
        match (&moved, there) {
            (_, Some(there)) if there.inode() == moved.inode() => return Ok(()),
            (Node::Directory(_), Some(Node::File(_))) => return Err(ErrorCode::NotDirectory),
            (Node::File(_), Some(Node::Directory(_))) => return Err(ErrorCode::IsDirectory),
            (Node::Directory(_), Some(Node::Directory(there))) => {
                if !there.is_empty() {
                    return Err(ErrorCode::NotEmpty);
                }
                there.mark_removed();
            }
            (Node::File(_), Some(Node::File(_))) | (_, None) => {}
        }
        new.put(to_name, moved)?;
        old.take(from_name);
        Ok(())
    }

    /// The first name after `after`, and what it stands for.
    pub(crate) fn next(&self, after: Option<&str>) -> Option<(String, Node)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = lock(&self.entries);
        let (name, node) = entries.children.range::<str, _>((from, Bound::Unbounded)).next()?;
        Some((name.clone(), node.clone()))
    }
}
