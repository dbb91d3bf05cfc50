//! An open directory of the user, and the operations below it.

use std::sync::Arc;

use konnector_manifest::Limit;

use super::super::bindings::wasi::filesystem::types::ErrorCode;
use super::super::error::Result;
use super::super::memory::OpenOptions;
use super::super::path::{GuestPath, PathStep, PathTarget};
use super::Mount;
use super::file::UserFile;
use crate::capability::{ChildRef, Destination, Node, QuotaKind, TreeError};

/// A directory, identified by its id because it may be renamed while it is open.
#[derive(Clone)]
pub(crate) struct UserDirectory {
    pub(crate) mount: Arc<Mount>,
    pub(crate) id: String,
}

/// Result of looking up a path.
pub(crate) enum LookupResult {
    Stored(Node),
    /// A new file that is not committed yet.
    Uncommitted(UserFile),
}

/// Result of opening a path.
pub(crate) enum OpenedNode {
    File(UserFile),
    Directory(UserDirectory),
}

impl Mount {
    pub(crate) async fn root(self: &Arc<Self>) -> Result<UserDirectory> {
        let root = self.unless_cancelled(self.tree.root()).await?;
        Ok(UserDirectory { mount: Arc::clone(self), id: root.id })
    }

    /// Counts an open file until the permit is dropped.
    pub(super) fn acquire_open_permit(&self) -> Result<Arc<()>> {
        let (open, permits) = (&self.open_count, self.context.capabilities.limits.open_files);
        if Arc::strong_count(open) > permits as usize {
            let quota = QuotaKind::Limit { limit: Limit::OpenFiles, value: permits.into() };
            return Err(self.log_error(TreeError::QuotaExceeded(quota)));
        }
        Ok(Arc::clone(open))
    }

    async fn lookup(&self, directory: &Node, name: &str) -> Result<Option<LookupResult>> {
        if let Some(file) = self.find_uncommitted(&directory.id, name) {
            return Ok(Some(LookupResult::Uncommitted(UserFile(file))));
        }
        match self.unless_cancelled(self.find_child(directory, name)).await? {
            Some(node) => Ok(Some(LookupResult::Stored(node))),
            None => Ok(None),
        }
    }

    async fn find_child(&self, directory: &Node, name: &str) -> Result<Option<Node>, TreeError> {
        match self.tree.child(ChildRef { directory: &directory.id, name }).await {
            Ok(node) => Ok(Some(node)),
            Err(TreeError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl LookupResult {
    const fn is_directory(&self) -> bool {
        matches!(self, Self::Stored(node) if node.is_directory)
    }

    fn check_directory_path(self, path: &GuestPath<'_>) -> Result<Self> {
        if path.is_directory_path && !self.is_directory() { Err(ErrorCode::NotDirectory.into()) } else { Ok(self) }
    }
}

impl UserDirectory {
    pub(crate) async fn node(&self) -> Result<Node> {
        self.mount.unless_cancelled(self.mount.tree.node(&self.id)).await
    }

    /// Walks along the steps and returns the directory where they end.
    async fn walk(&self, steps: &[PathStep<'_>]) -> Result<Node> {
        let mut ancestors = vec![self.node().await?];
        for step in steps {
            match step {
                PathStep::Parent => drop(ancestors.pop()),
                PathStep::Child(name) => {
                    let current = ancestors.last().ok_or(ErrorCode::NotPermitted)?;
                    match self.mount.lookup(current, name).await?.ok_or(ErrorCode::NoEntry)? {
                        LookupResult::Stored(node) if node.is_directory => ancestors.push(node),
                        LookupResult::Stored(_) | LookupResult::Uncommitted(_) => {
                            return Err(ErrorCode::NotDirectory.into());
                        }
                    }
                }
            }
        }
        Ok(ancestors.pop().ok_or(ErrorCode::NotPermitted)?)
    }

    /// Locates the target of a path. Returns the directory, the name, and the node there.
    async fn locate<'a>(
        &self,
        path: &'a GuestPath<'_>,
        error: ErrorCode,
    ) -> Result<(Node, &'a str, Option<LookupResult>)> {
        let (before, last) = path.split_target();
        let directory = self.walk(before).await?;
        let PathTarget::Child(name) = last else { return Err(error.into()) };
        let found = self.mount.lookup(&directory, name).await?;
        Ok((directory, name, found))
    }

    /// Result of looking up a path.
    pub(crate) async fn find(&self, path: &GuestPath<'_>) -> Result<LookupResult> {
        let (before, last) = path.split_target();
        let directory = self.walk(before).await?;
        match last {
            PathTarget::Current | PathTarget::Parent => Ok(LookupResult::Stored(directory)),
            PathTarget::Child(name) => {
                self.mount.lookup(&directory, name).await?.ok_or(ErrorCode::NoEntry)?.check_directory_path(path)
            }
        }
    }

    /// Opens the node at a path, or creates a file there.
    pub(crate) async fn open(&self, path: &GuestPath<'_>, options: OpenOptions) -> Result<OpenedNode> {
        let mount = &self.mount;
        let (before, last) = path.split_target();
        let directory = self.walk(before).await?;
        if options.create && path.is_directory_path && matches!(last, PathTarget::Child(_)) {
            return Err(ErrorCode::IsDirectory.into());
        }
        let found = match last {
            PathTarget::Current | PathTarget::Parent => Some(LookupResult::Stored(directory.clone())),
            PathTarget::Child(name) => mount.lookup(&directory, name).await?,
        };
        let found = match (found, last) {
            (Some(_), _) if options.create && options.exclusive => return Err(ErrorCode::Exist.into()),
            (Some(found), _) => found.check_directory_path(path)?,
            (None, PathTarget::Child(name)) if options.create => {
                return Ok(OpenedNode::File(mount.create(&directory, name).await?));
            }
            (None, _) => return Err(ErrorCode::NoEntry.into()),
        };
        match found {
            LookupResult::Stored(node) if node.is_directory => {
                if options.write || options.create || options.truncate {
                    return Err(ErrorCode::IsDirectory.into());
                }
                Ok(OpenedNode::Directory(Self { mount: Arc::clone(mount), id: node.id }))
            }
            LookupResult::Stored(_) | LookupResult::Uncommitted(_) if options.directory => {
                Err(ErrorCode::NotDirectory.into())
            }
            LookupResult::Stored(node) if options.write => {
                Ok(OpenedNode::File(mount.open_for_writing(node, options.truncate).await?))
            }
            LookupResult::Stored(node) => Ok(OpenedNode::File(mount.open_for_reading(node).await?)),
            LookupResult::Uncommitted(file) => {
                if options.truncate {
                    file.set_len(0).await?;
                }
                Ok(OpenedNode::File(file))
            }
        }
    }

    /// Creates a directory.
    pub(crate) async fn create_directory(&self, path: &GuestPath<'_>) -> Result<()> {
        let (directory, name, found) = self.locate(path, ErrorCode::Exist).await?;
        if found.is_some() {
            return Err(ErrorCode::Exist.into());
        }
        self.mount.check_change_quota()?;
        self.mount
            .unless_cancelled(self.mount.tree.create_directory(ChildRef { directory: &directory.id, name }))
            .await?;
        self.mount.context.meter.name_changes.add(1);
        Ok(())
    }

    /// Removes a file.
    pub(crate) async fn remove_file(&self, path: &GuestPath<'_>) -> Result<()> {
        let (directory, name, found) = self.locate(path, ErrorCode::IsDirectory).await?;
        let child = ChildRef { directory: &directory.id, name };
        match found.ok_or(ErrorCode::NoEntry)?.check_directory_path(path)? {
            LookupResult::Stored(node) if node.is_directory => Err(ErrorCode::IsDirectory.into()),
            LookupResult::Uncommitted(file) => {
                self.mount.rename_uncommitted(&file.0, child, None);
                Ok(())
            }
            LookupResult::Stored(_) => self.remove(child, false).await,
        }
    }

    /// Removes an empty directory.
    pub(crate) async fn remove_directory(&self, path: &GuestPath<'_>) -> Result<()> {
        let (directory, name, found) = self.locate(path, ErrorCode::Invalid).await?;
        if !found.ok_or(ErrorCode::NoEntry)?.is_directory() {
            return Err(ErrorCode::NotDirectory.into());
        }
        self.remove(ChildRef { directory: &directory.id, name }, true).await
    }

    async fn remove(&self, child: ChildRef<'_>, directory: bool) -> Result<()> {
        self.mount.check_change_quota()?;
        self.mount.unless_cancelled(self.mount.tree.remove(child, directory)).await?;
        let meter = &self.mount.context.meter;
        if directory {
            meter.name_changes.add(1)
        } else {
            meter.files.deleted.add(1)
        }
        Ok(())
    }

    /// Moves a file or directory; replaces an existing node if that is possible.
    pub(crate) async fn rename(&self, from: &GuestPath<'_>, to_base: &Self, to: &GuestPath<'_>) -> Result<()> {
        let mount = &self.mount;
        let (old, old_name, moved) = self.locate(from, ErrorCode::Busy).await?;
        let moved = moved.ok_or(ErrorCode::NoEntry)?.check_directory_path(from)?;
        let (new, new_name, existing) = to_base.locate(to, ErrorCode::Busy).await?;
        if to.is_directory_path && !moved.is_directory() {
            return Err(ErrorCode::NotDirectory.into());
        }
        let (from, to) =
            (ChildRef { directory: &old.id, name: old_name }, ChildRef { directory: &new.id, name: new_name });
        if from == to {
            return Ok(());
        }
        match (moved, existing) {
            (LookupResult::Uncommitted(file), None) => {
                let destination = Destination::New { directory: new.id.clone(), name: new_name.to_owned() };
                mount.unless_cancelled(mount.tree.check_write(&destination)).await?;
                mount.rename_uncommitted(&file.0, from, Some((&new, new_name)));
                Ok(())
            }
            (LookupResult::Uncommitted(file), Some(LookupResult::Stored(existing))) => {
                if existing.is_directory {
                    return Err(ErrorCode::IsDirectory.into());
                }
                mount.unless_cancelled(mount.tree.check_write(&Destination::Existing(existing.id.clone()))).await?;
                mount.replace_with_uncommitted(&file.0, from, existing);
                Ok(())
            }
            (LookupResult::Uncommitted(file), Some(LookupResult::Uncommitted(existing))) => {
                mount.rename_uncommitted(&existing.0, to, None);
                mount.rename_uncommitted(&file.0, from, Some((&new, new_name)));
                Ok(())
            }
            (LookupResult::Stored(moved), Some(LookupResult::Uncommitted(existing))) => {
                if moved.is_directory {
                    return Err(ErrorCode::NotDirectory.into());
                }
                mount.rename_uncommitted(&existing.0, to, None);
                self.rename_stored(from, to).await
            }
            (LookupResult::Stored(_), Some(LookupResult::Stored(_)) | None) => self.rename_stored(from, to).await,
        }
    }

    async fn rename_stored(&self, from: ChildRef<'_>, to: ChildRef<'_>) -> Result<()> {
        self.mount.check_change_quota()?;
        self.mount.unless_cancelled(self.mount.tree.rename(from, to)).await?;
        self.mount.context.meter.name_changes.add(1);
        Ok(())
    }

    /// Returns the next children after a name; the flag says whether a child is a directory.
    pub(crate) async fn children(&self, after: Option<&str>) -> Result<Vec<(String, bool)>> {
        let children = self.mount.unless_cancelled(self.mount.tree.children(&self.id, after)).await?;
        Ok(children.into_iter().map(|(name, node)| (name, node.is_directory)).collect())
    }
}
