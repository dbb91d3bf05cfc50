//! A directory of the user's that is open, and what can be done below it.

use std::sync::Arc;

use super::super::bindings::wasi::filesystem::types::ErrorCode;
use super::super::failure::Result;
use super::super::memory::Opening;
use super::super::path::{Last, Path, Step};
use super::Mount;
use super::file::File;
use crate::capability::{Destination, Node, Place, Quota, TreeError};

/// A directory, by its id: it may be renamed while it is open.
#[derive(Clone)]
pub(crate) struct Directory {
    pub(crate) mount: Arc<Mount>,
    pub(crate) id: String,
}

/// What lies under a path.
pub(crate) enum Found {
    Stored(Node),
    /// A new file that is not committed yet.
    Unborn(File),
}

/// What was opened.
pub(crate) enum Opened {
    File(File),
    Directory(Directory),
}

impl Mount {
    pub(crate) async fn root(self: &Arc<Self>) -> Result<Directory> {
        let root = self.ask(self.tree.root()).await?;
        Ok(Directory { mount: Arc::clone(self), id: root.id })
    }

    /// Counts an open file, as long as the answer lives.
    pub(super) fn take_open(&self) -> Result<Arc<()>> {
        let open = &self.open;
        if Arc::strong_count(open) > self.context.capabilities.limits.open_files as usize {
            return Err(self.refused(TreeError::Full(Quota::Uploads)));
        }
        Ok(Arc::clone(open))
    }

    async fn lookup(&self, directory: &Node, name: &str) -> Result<Option<Found>> {
        if let Some(unborn) = self.unborn_at(&directory.id, name) {
            return Ok(Some(Found::Unborn(File(unborn))));
        }
        match self.ask(self.ask_child(directory, name)).await? {
            Some(node) => Ok(Some(Found::Stored(node))),
            None => Ok(None),
        }
    }

    async fn ask_child(&self, directory: &Node, name: &str) -> Result<Option<Node>, TreeError> {
        match self.tree.child(Place { directory: &directory.id, name }).await {
            Ok(node) => Ok(Some(node)),
            Err(TreeError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Found {
    const fn is_directory(&self) -> bool {
        matches!(self, Self::Stored(node) if node.directory)
    }

    fn named_by(self, path: &Path<'_>) -> Result<Self> {
        if path.names_directory && !self.is_directory() { Err(ErrorCode::NotDirectory.into()) } else { Ok(self) }
    }
}

impl Directory {
    pub(crate) async fn node(&self) -> Result<Node> {
        self.mount.ask(self.mount.tree.node(&self.id)).await
    }

    /// Walks; answers the directory where the walk ends.
    async fn go(&self, steps: &[Step<'_>]) -> Result<Node> {
        let mut trail = vec![self.node().await?];
        for step in steps {
            match step {
                Step::Up => drop(trail.pop()),
                Step::Down(name) => {
                    let here = trail.last().ok_or(ErrorCode::NotPermitted)?;
                    match self.mount.lookup(here, name).await?.ok_or(ErrorCode::NoEntry)? {
                        Found::Stored(node) if node.directory => trail.push(node),
                        Found::Stored(_) | Found::Unborn(_) => return Err(ErrorCode::NotDirectory.into()),
                    }
                }
            }
        }
        Ok(trail.pop().ok_or(ErrorCode::NotPermitted)?)
    }

    /// The directory of what a path names, its name, and what is there.
    async fn place<'a>(&self, path: &'a Path<'_>, here: ErrorCode) -> Result<(Node, &'a str, Option<Found>)> {
        let (before, last) = path.split();
        let directory = self.go(before).await?;
        let Last::Child(name) = last else { return Err(here.into()) };
        let found = self.mount.lookup(&directory, name).await?;
        Ok((directory, name, found))
    }

    /// What lies under a path.
    pub(crate) async fn find(&self, path: &Path<'_>) -> Result<Found> {
        let (before, last) = path.split();
        let directory = self.go(before).await?;
        match last {
            Last::Here | Last::Above => Ok(Found::Stored(directory)),
            Last::Child(name) => self.mount.lookup(&directory, name).await?.ok_or(ErrorCode::NoEntry)?.named_by(path),
        }
    }

    /// Opens what lies under a path, or creates a file there.
    pub(crate) async fn open(&self, path: &Path<'_>, how: Opening) -> Result<Opened> {
        let mount = &self.mount;
        let (before, last) = path.split();
        let directory = self.go(before).await?;
        if how.create && path.names_directory && matches!(last, Last::Child(_)) {
            return Err(ErrorCode::IsDirectory.into());
        }
        let found = match last {
            Last::Here | Last::Above => Some(Found::Stored(directory.clone())),
            Last::Child(name) => mount.lookup(&directory, name).await?,
        };
        let found = match (found, last) {
            (Some(_), _) if how.create && how.exclusive => return Err(ErrorCode::Exist.into()),
            (Some(found), _) => found.named_by(path)?,
            (None, Last::Child(name)) if how.create => return Ok(Opened::File(mount.create(&directory, name).await?)),
            (None, _) => return Err(ErrorCode::NoEntry.into()),
        };
        match found {
            Found::Stored(node) if node.directory => {
                if how.write || how.create || how.truncate {
                    return Err(ErrorCode::IsDirectory.into());
                }
                Ok(Opened::Directory(Self { mount: Arc::clone(mount), id: node.id }))
            }
            Found::Stored(_) | Found::Unborn(_) if how.directory => Err(ErrorCode::NotDirectory.into()),
            Found::Stored(node) if how.write => Ok(Opened::File(mount.open_for_writing(node, how.truncate).await?)),
            Found::Stored(node) => Ok(Opened::File(mount.open_for_reading(node).await?)),
            Found::Unborn(file) => {
                if how.truncate {
                    file.set_len(0).await?;
                }
                Ok(Opened::File(file))
            }
        }
    }

    /// Makes a directory.
    pub(crate) async fn create_directory(&self, path: &Path<'_>) -> Result<()> {
        let (directory, name, found) = self.place(path, ErrorCode::Exist).await?;
        if found.is_some() {
            return Err(ErrorCode::Exist.into());
        }
        self.mount.count_change()?;
        self.mount.ask(self.mount.tree.create_directory(Place { directory: &directory.id, name })).await?;
        self.mount.context.meter.name_changes.add(1);
        Ok(())
    }

    /// Removes a file.
    pub(crate) async fn remove_file(&self, path: &Path<'_>) -> Result<()> {
        let (directory, name, found) = self.place(path, ErrorCode::IsDirectory).await?;
        let at = Place { directory: &directory.id, name };
        match found.ok_or(ErrorCode::NoEntry)?.named_by(path)? {
            Found::Stored(node) if node.directory => Err(ErrorCode::IsDirectory.into()),
            Found::Unborn(file) => {
                self.mount.rename_unborn(&file.0, at, None);
                Ok(())
            }
            Found::Stored(_) => self.remove(at, false).await,
        }
    }

    /// Removes an empty directory.
    pub(crate) async fn remove_directory(&self, path: &Path<'_>) -> Result<()> {
        let (directory, name, found) = self.place(path, ErrorCode::Invalid).await?;
        if !found.ok_or(ErrorCode::NoEntry)?.is_directory() {
            return Err(ErrorCode::NotDirectory.into());
        }
        self.remove(Place { directory: &directory.id, name }, true).await
    }

    async fn remove(&self, at: Place<'_>, directory: bool) -> Result<()> {
        self.mount.count_change()?;
        self.mount.ask(self.mount.tree.remove(at, directory)).await?;
        let meter = &self.mount.context.meter;
        if directory {
            meter.name_changes.add(1)
        } else {
            meter.files.deleted.add(1)
        }
        Ok(())
    }

    /// Moves a file or directory; what is there already is replaced where that is possible.
    pub(crate) async fn rename(&self, from: &Path<'_>, to_base: &Self, to: &Path<'_>) -> Result<()> {
        let mount = &self.mount;
        let (old, old_name, moved) = self.place(from, ErrorCode::Busy).await?;
        let moved = moved.ok_or(ErrorCode::NoEntry)?.named_by(from)?;
        let (new, new_name, there) = to_base.place(to, ErrorCode::Busy).await?;
        if to.names_directory && !moved.is_directory() {
            return Err(ErrorCode::NotDirectory.into());
        }
        let (from, to) = (Place { directory: &old.id, name: old_name }, Place { directory: &new.id, name: new_name });
        if from == to {
            return Ok(());
        }
        match (moved, there) {
            (Found::Unborn(file), None) => {
                let destination = Destination::New { directory: new.id.clone(), name: new_name.to_owned() };
                mount.ask(mount.tree.check_write(&destination)).await?;
                mount.rename_unborn(&file.0, from, Some((&new, new_name)));
                Ok(())
            }
            (Found::Unborn(file), Some(Found::Stored(there))) => {
                if there.directory {
                    return Err(ErrorCode::IsDirectory.into());
                }
                mount.ask(mount.tree.check_write(&Destination::Existing(there.id.clone()))).await?;
                mount.replace_by_unborn(&file.0, from, there);
                Ok(())
            }
            (Found::Unborn(file), Some(Found::Unborn(there))) => {
                mount.rename_unborn(&there.0, to, None);
                mount.rename_unborn(&file.0, from, Some((&new, new_name)));
                Ok(())
            }
            (Found::Stored(moved), Some(Found::Unborn(there))) => {
                if moved.directory {
                    return Err(ErrorCode::NotDirectory.into());
                }
                mount.rename_unborn(&there.0, to, None);
                self.rename_stored(from, to).await
            }
            (Found::Stored(_), Some(Found::Stored(_)) | None) => self.rename_stored(from, to).await,
        }
    }

    async fn rename_stored(&self, from: Place<'_>, to: Place<'_>) -> Result<()> {
        self.mount.count_change()?;
        self.mount.ask(self.mount.tree.rename(from, to)).await?;
        self.mount.context.meter.name_changes.add(1);
        Ok(())
    }

    /// The next children after a name, with whether each is a directory.
    pub(crate) async fn children(&self, after: Option<&str>) -> Result<Vec<(String, bool)>> {
        let children = self.mount.ask(self.mount.tree.children(&self.id, after)).await?;
        Ok(children.into_iter().map(|(name, node)| (name, node.directory)).collect())
    }
}
