//! Paths and directories.

use konnector_store::Changes;

use super::{CHILDREN_INDEX, File, FileKind, ROOT_ID, child_key, validate_name};
use crate::doctype::FILES;
use crate::instance::Instance;
use crate::realtime::ChangeKind;
use crate::stored::{new_id, retry_on_conflict, to_object};
use crate::{Error, Platform, Result};

/// How deep directories may be nested.
pub(super) const MAX_DEPTH: usize = 32;

/// Entries of the index that are read at a time where only their number matters: some 100 KiB.
const COUNT_PAGE_SIZE: usize = 1_000;

/// A path with one more name.
pub(crate) fn join_path(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

/// The names in an absolute path.
fn parse_path(path: &str) -> Result<Vec<String>> {
    let names: Vec<String> =
        path.split('/').filter(|name| !name.is_empty()).map(validate_name).collect::<Result<_>>()?;
    if !path.starts_with('/') || names.len() > MAX_DEPTH {
        return Err(Error::InvalidParameter {
            name: "Path",
            message: format!("the path '{path}' does not begin with / or is nested more than {MAX_DEPTH} deep"),
        });
    }
    Ok(names)
}

impl Platform {
    /// The child of a directory with this name.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn child(&self, instance: &Instance, dir_id: &str, name: &str) -> Result<Option<File>> {
        match self.store.lookup(&instance.id, CHILDREN_INDEX, &child_key(dir_id, name))? {
            Some(id) => self.file(instance, &id).map(Some),
            None => Ok(None),
        }
    }

    /// The children of a directory in the order of their names, after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn children(&self, instance: &Instance, dir_id: &str, after: Option<&str>, limit: usize) -> Result<Vec<File>> {
        let after = after.map(|name| child_key(dir_id, name));
        let entries =
            self.store.lookup_prefix(&instance.id, CHILDREN_INDEX, &child_key(dir_id, ""), after.as_deref(), limit)?;
        entries.into_iter().map(|(_, id)| self.file(instance, &id)).collect()
    }

    /// How many children a directory has.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn count_children(&self, instance: &Instance, dir_id: &str) -> Result<usize> {
        let (prefix, mut after, mut count) = (child_key(dir_id, ""), None::<String>, 0);
        loop {
            let page =
                self.store.lookup_prefix(&instance.id, CHILDREN_INDEX, &prefix, after.as_deref(), COUNT_PAGE_SIZE)?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            count += page.len();
            after = Some(last.clone());
        }
    }

    /// The name of the `n`th child behind `after`, to go on from there; `None` when there are not so many.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn nth_child(
        &self,
        instance: &Instance,
        dir_id: &str,
        after: Option<&str>,
        n: usize,
    ) -> Result<Option<String>> {
        let (prefix, mut left) = (child_key(dir_id, ""), n);
        let mut after = after.map(|name| child_key(dir_id, name));
        while left > 0 {
            let limit = left.min(COUNT_PAGE_SIZE);
            let page = self.store.lookup_prefix(&instance.id, CHILDREN_INDEX, &prefix, after.as_deref(), limit)?;
            let Some((last, _)) = page.last().filter(|_| page.len() == limit) else { return Ok(None) };
            after = Some(last.clone());
            left -= limit;
        }
        Ok(after.and_then(|key| key.strip_prefix(&prefix).map(str::to_owned)))
    }

    /// What lies under an absolute path.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is nothing, [`Error::InvalidParameter`] when it is no absolute path.
    pub fn file_by_path(&self, instance: &Instance, path: &str) -> Result<File> {
        let mut found = self.file(instance, ROOT_ID)?;
        for name in parse_path(path)? {
            found = self
                .child(instance, &found.id, &name)?
                .ok_or_else(|| Error::NotFound(format!("there is nothing under the path '{path}'")))?;
        }
        Ok(found)
    }

    /// The directory under an absolute path, created with its ancestors where it is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when a file has the name of one of them.
    pub async fn ensure_directory(&self, instance: &Instance, path: &str) -> Result<File> {
        let root = self.file(instance, ROOT_ID)?;
        self.ensure_subdirectory(instance, &root, &parse_path(path)?).await
    }

    /// The same, and whether it was made by this call: whatever was there before is the user's.
    ///
    /// # Errors
    ///
    /// As [`Platform::ensure_directory`].
    pub(crate) async fn find_or_create_directory(&self, instance: &Instance, path: &str) -> Result<(File, bool)> {
        let mut names = parse_path(path)?;
        let Some(last) = names.pop() else { return Ok((self.file(instance, ROOT_ID)?, false)) };
        let (root, names, last) = (self.file(instance, ROOT_ID)?, &names, &last);
        retry_on_conflict(|| async {
            let above = self.ensure_subdirectory(instance, &root, names).await?;
            self.ensure_child(instance, &above, last).await
        })
        .await
    }

    /// The directory that these names lead to from another one, created with its ancestors where it is missing.
    ///
    /// # Errors
    ///
    /// As [`Platform::ensure_directory`]; [`Error::NotFound`] when the one that it begins from is gone.
    pub(crate) async fn ensure_subdirectory(&self, instance: &Instance, top: &File, names: &[String]) -> Result<File> {
        retry_on_conflict(|| async {
            let mut directory = self.file(instance, &top.id)?;
            for name in names {
                (directory, _) = self.ensure_child(instance, &directory, name).await?;
            }
            Ok(directory)
        })
        .await
    }

    /// Creates a directory in another one.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when the name is taken, [`Error::TooLarge`] when it would be nested too deeply.
    pub(crate) async fn create_directory(&self, instance: &Instance, parent: &File, name: &str) -> Result<File> {
        self.store_directory(instance, self.build_directory(instance, parent, name)?).await
    }

    /// A directory in another one, not stored yet.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] when it would be nested too deeply.
    pub(super) fn build_directory(&self, instance: &Instance, parent: &File, name: &str) -> Result<File> {
        let path = join_path(parent.path.as_deref().unwrap_or("/"), name);
        if path.matches('/').count() > MAX_DEPTH {
            return Err(Error::TooLarge(format!("the directory '{path}' is nested more than {MAX_DEPTH} deep")));
        }
        Ok(File::directory(&new_id(), &parent.id, name, &path, self.clock.now(), &instance.domain))
    }

    /// Stores a directory that was drafted.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when the name is taken.
    pub(super) async fn store_directory(&self, instance: &Instance, mut directory: File) -> Result<File> {
        let at = instance.doc(&FILES, directory.id.as_str());
        let mut changes = Changes::new();
        changes.create(at.clone(), to_object(&directory)?);
        let key = child_key(&directory.dir_id, &directory.name);
        changes.put_unique(&instance.id, CHILDREN_INDEX, key, &directory.id);
        directory.rev = Some(self.commit_one(changes).await?);
        self.publish(&at, ChangeKind::Created, &directory);
        Ok(directory)
    }

    /// A directory in another one, and whether it was made by this call.
    async fn ensure_child(&self, instance: &Instance, parent: &File, name: &str) -> Result<(File, bool)> {
        match self.child(instance, &parent.id, name)? {
            Some(child) if child.kind == FileKind::Directory => return Ok((child, false)),
            Some(_) => return Err(Error::Conflict(format!("'{name}' is a file, not a directory"))),
            None => {}
        }
        let made = self.create_directory(instance, parent, name).await.map_err(|error| match error {
            // It was there a moment ago; the next look tells where the way goes now.
            Error::NotFound(_) => Error::Conflict(format!("the directory of '{name}' is being moved by somebody else")),
            other => other,
        });
        Ok((made?, true))
    }
}
