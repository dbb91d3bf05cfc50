//! The user's files as an in-memory directory. `/Closed` is read-only, `/Hidden` is invisible, a file with the
//! content `fail` cannot be committed, and one with the content `lost` costs the run its lease.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use konnector_sandbox::capability::{
    ChildRef, ContentReader, Destination, Draft, Node, QuotaKind, SaveOutcome, Tree, TreeError,
};

/// A file or directory.
#[derive(Clone)]
struct FakeNode {
    parent: String,
    name: String,
    /// `None` for a directory.
    content: Option<Bytes>,
}

/// Files by id; the root's is `0`.
#[derive(Default)]
struct FakeNodes {
    items: BTreeMap<String, FakeNode>,
    last: u32,
    /// The capacity in bytes.
    capacity: Option<usize>,
}

/// The files.
#[derive(Clone)]
pub struct FakeTree(Arc<Mutex<FakeNodes>>);

impl Default for FakeTree {
    fn default() -> Self {
        let tree = Self(Arc::default());
        let root = FakeNode { parent: String::new(), name: String::new(), content: None };
        tree.items().items.insert("0".to_owned(), root);
        for name in ["Closed", "Hidden"] {
            tree.items().add("0", name, None);
        }
        tree
    }
}

impl FakeTree {
    /// A tree with a capacity in bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        let tree = Self::default();
        tree.items().capacity = Some(bytes);
        tree
    }

    /// Adds a file.
    pub fn put(&self, directory: &str, name: &str, content: &'static [u8]) {
        let mut items = self.items();
        let parent = items.items.iter().find(|(_, item)| item.name == directory).map(|(id, _)| id.clone());
        items.add(&parent.expect("the directory"), name, Some(Bytes::from_static(content)));
    }

    /// Paths with the beginning of each content, one per line.
    pub fn listing(&self) -> String {
        let items = self.items();
        let line = |(id, item): (&String, &FakeNode)| {
            let path = items.path(id);
            match &item.content {
                None => format!("{path}/"),
                Some(bytes) => {
                    let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
                    format!("{path} ({} bytes) {beginning:?}", bytes.len())
                }
            }
        };
        let mut lines: Vec<String> = items.items.iter().skip(1).map(line).collect();
        lines.sort();
        lines.join("\n")
    }

    fn items(&self) -> MutexGuard<'_, FakeNodes> {
        self.0.lock().unwrap()
    }
}

impl FakeNodes {
    fn add(&mut self, parent: &str, name: &str, content: Option<Bytes>) -> String {
        self.last += 1;
        let id = self.last.to_string();
        self.items.insert(id.clone(), FakeNode { parent: parent.to_owned(), name: name.to_owned(), content });
        id
    }

    fn path(&self, id: &str) -> String {
        match self.items.get(id) {
            Some(item) if !item.parent.is_empty() => format!("{}/{}", self.path(&item.parent), item.name),
            _ => String::new(),
        }
    }

    fn node(&self, id: &str) -> Result<Node, TreeError> {
        let item = self.items.get(id).ok_or(TreeError::NotFound)?;
        let path = Some(self.path(id)).filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        if path.starts_with("/Hidden") {
            return Err(TreeError::NotFound);
        }
        Ok(Node {
            id: id.to_owned(),
            path,
            is_directory: item.content.is_none(),
            is_readable: true,
            size: item.content.as_ref().map_or(0, Bytes::len) as u64,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        })
    }

    fn child(&self, child: ChildRef<'_>) -> Result<Node, TreeError> {
        let found = self.items.iter().find(|(_, item)| item.parent == child.directory && item.name == child.name);
        self.node(found.ok_or(TreeError::NotFound)?.0)
    }

    fn check(&self, directory: &str, name: &str) -> Result<(), TreeError> {
        if self.path(directory).starts_with("/Closed") {
            return Err(TreeError::Denied("the manifest has no rule for POST on io.cozy.files".to_owned()));
        }
        if name.len() > 200 {
            return Err(TreeError::TooLong);
        }
        let safe = name.replace(|c: char| c.is_control() || c == '\u{202e}', "").replace(['\\', ':'], "-");
        let safe = if safe.starts_with("CON.") { format!("_{safe}") } else { safe };
        if safe == name { Ok(()) } else { Err(TreeError::InvalidName(safe)) }
    }

    fn check_write(&self, to: &Destination) -> Result<(), TreeError> {
        match to {
            Destination::New { directory, name } => self.check(directory, name),
            Destination::Existing(id) => {
                let item = self.items.get(id).ok_or(TreeError::NotFound)?;
                self.check(&item.parent, &item.name)
            }
        }
    }

    fn is_empty(&self, id: &str) -> bool {
        !self.items.values().any(|item| item.parent == id)
    }
}

struct FakeTreeContent(Bytes);

#[async_trait]
impl ContentReader for FakeTreeContent {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, TreeError> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        Ok(self.0.slice(from..from.saturating_add(max).min(self.0.len())))
    }
}

struct FakeDraft {
    tree: FakeTree,
    content: Vec<u8>,
}

#[async_trait]
impl Draft for FakeDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), TreeError> {
        // Yields to another task, as a disk operation would.
        tokio::task::yield_now().await;
        self.content.extend_from_slice(&chunk);
        let room = self.tree.items().capacity;
        if room.is_some_and(|room| self.content.len() > room) {
            Err(TreeError::QuotaExceeded(QuotaKind::Storage))
        } else {
            Ok(())
        }
    }

    async fn into_bytes(self: Box<Self>) -> Result<Bytes, TreeError> {
        Ok(self.content.into())
    }

    async fn commit(self: Box<Self>, to: &Destination) -> Result<(Node, SaveOutcome), TreeError> {
        tokio::task::yield_now().await;
        match self.content.as_slice() {
            b"fail" => return Err(TreeError::Other("the disk is full".to_owned())),
            b"lost" => return Err(TreeError::LeaseLost),
            _ => {}
        }
        let mut items = self.tree.items();
        items.check_write(to)?;
        let content = Some(Bytes::from(self.content));
        match to {
            Destination::New { directory, name } => {
                let id = items.add(directory, name, content);
                Ok((items.node(&id)?, SaveOutcome::Created))
            }
            Destination::Existing(id) => {
                let item = items.items.get_mut(id).ok_or(TreeError::NotFound)?;
                let written = if item.content == content { SaveOutcome::Unchanged } else { SaveOutcome::Updated };
                item.content = content;
                Ok((items.node(id)?, written))
            }
        }
    }
}

#[async_trait]
impl Tree for FakeTree {
    async fn root(&self) -> Result<Node, TreeError> {
        self.items().node("0")
    }

    async fn node(&self, id: &str) -> Result<Node, TreeError> {
        self.items().node(id)
    }

    async fn child(&self, child: ChildRef<'_>) -> Result<Node, TreeError> {
        self.items().child(child)
    }

    async fn children(&self, directory: &str, after: Option<&str>) -> Result<Vec<(String, Node)>, TreeError> {
        let items = self.items();
        let mut names: Vec<&FakeNode> = items.items.values().filter(|item| item.parent == directory).collect();
        names.sort_by_key(|item| &item.name);
        let next = names.iter().filter(|item| after.is_none_or(|after| item.name.as_str() > after));
        let node = |name: &str| items.child(ChildRef { directory, name }).ok().map(|node| (name.to_owned(), node));
        Ok(next.filter_map(|item| node(&item.name)).take(3).collect())
    }

    async fn open(&self, id: &str) -> Result<Box<dyn ContentReader>, TreeError> {
        let content = self.items().items.get(id).and_then(|item| item.content.clone());
        Ok(Box::new(FakeTreeContent(content.ok_or(TreeError::NotFound)?)))
    }

    async fn check_write(&self, to: &Destination) -> Result<(), TreeError> {
        self.items().check_write(to)
    }

    async fn create_draft(&self) -> Result<Box<dyn Draft>, TreeError> {
        Ok(Box::new(FakeDraft { tree: self.clone(), content: Vec::new() }))
    }

    async fn create_directory(&self, child: ChildRef<'_>) -> Result<Node, TreeError> {
        let mut items = self.items();
        items.check(child.directory, child.name)?;
        if items.path(child.directory).matches('/').count() >= 32 {
            return Err(TreeError::TooLong);
        }
        let id = items.add(child.directory, child.name, None);
        items.node(&id)
    }

    async fn rename(&self, from: ChildRef<'_>, to: ChildRef<'_>) -> Result<(), TreeError> {
        let mut items = self.items();
        items.check(from.directory, from.name)?;
        items.check(to.directory, to.name)?;
        let moved = items.child(from)?;
        let into = items.path(to.directory);
        if into == moved.path || into.starts_with(&format!("{}/", moved.path)) {
            return Err(TreeError::MoveIntoItself);
        }
        if let Ok(existing) = items.child(to) {
            match (moved.is_directory, existing.is_directory) {
                (true, false) => return Err(TreeError::NotDirectory),
                (false, true) => return Err(TreeError::IsDirectory),
                (true, true) if !items.is_empty(&existing.id) => return Err(TreeError::NotEmpty),
                _ => drop(items.items.remove(&existing.id)),
            }
        }
        let item = items.items.get_mut(&moved.id).ok_or(TreeError::NotFound)?;
        (item.parent, item.name) = (to.directory.to_owned(), to.name.to_owned());
        Ok(())
    }

    async fn remove(&self, child: ChildRef<'_>, directory: bool) -> Result<(), TreeError> {
        let mut items = self.items();
        items.check(child.directory, child.name)?;
        let removed = items.child(child)?;
        if directory && !items.is_empty(&removed.id) {
            return Err(TreeError::NotEmpty);
        }
        items.items.remove(&removed.id);
        Ok(())
    }
}
