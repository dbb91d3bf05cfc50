//! Paths and directories.

use konnector_store::Changes;

use super::{CHILDREN_INDEX, File, FileKind, ROOT_ID, child_key, validate_name};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::FILES;
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{new_id, retry_on_conflict, to_object};

/// Maximum nesting depth of directories.
pub(super) const MAX_DEPTH: usize = 32;

/// Number of index entries that are read at a time for counting, about 100 KiB.
const COUNT_PAGE_SIZE: usize = 1_000;

/// Appends a name to a path.
pub(crate) fn join_path(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

/// Returns the names in an absolute path.
///
/// # Errors
///
/// [`Error::InvalidParameter`] for `Path`, with the reason.
pub fn parse_path(path: &str) -> Result<Vec<String>> {
    let invalid_name = |error| match error {
        Error::InvalidParameter { message, .. } => {
            Error::InvalidParameter { name: "Path", message: format!("Path: '{path}' is not a valid path: {message}") }
        }
        error => error,
    };
    let names = path.split('/').filter(|name| !name.is_empty()).map(validate_name);
    let names: Vec<String> = names.collect::<Result<_>>().map_err(invalid_name)?;
    if !path.starts_with('/') || names.len() > MAX_DEPTH {
        return Err(Error::InvalidParameter {
            name: "Path",
            message: format!("'{path}' is not a valid path: it must begin with / and have at most {MAX_DEPTH} levels"),
        });
    }
    Ok(names)
}

impl Files {
    /// Returns the child of a directory with this name.
    pub fn child(&self, instance: &Instance, dir_id: &str, name: &str) -> Result<Option<File>> {
        match self.core.store().lookup(&instance.id, CHILDREN_INDEX, &child_key(dir_id, name))? {
            Some(id) => self.get(instance, &id).map(Some),
            None => Ok(None),
        }
    }

    /// Lists the children of a directory in the order of their names, after `after`, at most `limit`.
    pub fn children(&self, instance: &Instance, dir_id: &str, after: Option<&str>, limit: usize) -> Result<Vec<File>> {
        let after = after.map(|name| child_key(dir_id, name));
        let entries = self.core.store().lookup_prefix(
            &instance.id,
            CHILDREN_INDEX,
            &child_key(dir_id, ""),
            after.as_deref(),
            limit,
        )?;
        entries.into_iter().map(|(_, id)| self.get(instance, &id)).collect()
    }

    /// Counts the children of a directory.
    pub fn count_children(&self, instance: &Instance, dir_id: &str) -> Result<usize> {
        let (prefix, mut after, mut count) = (child_key(dir_id, ""), None::<String>, 0);
        loop {
            let page = self.core.store().lookup_prefix(
                &instance.id,
                CHILDREN_INDEX,
                &prefix,
                after.as_deref(),
                COUNT_PAGE_SIZE,
            )?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            count += page.len();
            after = Some(last.clone());
        }
    }

    /// Returns the name of the `n`th child after `after`, to continue from there; `None` if there are fewer.
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
            let page =
                self.core.store().lookup_prefix(&instance.id, CHILDREN_INDEX, &prefix, after.as_deref(), limit)?;
            let Some((last, _)) = page.last().filter(|_| page.len() == limit) else { return Ok(None) };
            after = Some(last.clone());
            left -= limit;
        }
        Ok(after.and_then(|key| key.strip_prefix(&prefix).map(str::to_owned)))
    }

    /// Returns the file or directory at an absolute path.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the path does not exist, [`Error::InvalidParameter`] if it is not an absolute path.
    pub fn get_by_path(&self, instance: &Instance, path: &str) -> Result<File> {
        let mut found = self.get(instance, ROOT_ID)?;
        for name in parse_path(path)? {
            found = self
                .child(instance, &found.id, &name)?
                .ok_or_else(|| Error::NotFound(format!("the path '{path}' does not exist")))?;
        }
        Ok(found)
    }

    /// Returns the directory at an absolute path, creating it and its ancestors if missing.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if a file has the name of one of them.
    pub async fn ensure_directory(&self, instance: &Instance, path: &str) -> Result<File> {
        let root = self.get(instance, ROOT_ID)?;
        self.ensure_subdirectory(instance, &root, &parse_path(path)?).await
    }

    /// Like [`Files::ensure_directory`]; also returns whether this call created it, because directories that existed
    /// before belong to the user.
    ///
    /// # Errors
    ///
    /// As [`Files::ensure_directory`].
    pub async fn find_or_create_directory(&self, instance: &Instance, path: &str) -> Result<(File, bool)> {
        let mut names = parse_path(path)?;
        let Some(last) = names.pop() else { return Ok((self.get(instance, ROOT_ID)?, false)) };
        let (root, names, last) = (self.get(instance, ROOT_ID)?, &names, &last);
        retry_on_conflict(|| async {
            let above = self.ensure_subdirectory(instance, &root, names).await?;
            self.ensure_child(instance, &above, last).await
        })
        .await
    }

    /// Returns the directory at a relative path of names, creating it and its ancestors if missing.
    ///
    /// # Errors
    ///
    /// As [`Files::ensure_directory`]; [`Error::NotFound`] if the starting directory does not exist.
    pub async fn ensure_subdirectory(&self, instance: &Instance, top: &File, names: &[String]) -> Result<File> {
        retry_on_conflict(|| async {
            let mut directory = self.get(instance, &top.id)?;
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
    /// [`Error::Conflict`] if the name is taken, [`Error::TooLarge`] if it would be nested too deeply.
    pub async fn create_directory(&self, instance: &Instance, parent: &File, name: &str) -> Result<File> {
        self.store_directory(instance, self.build_directory(instance, parent, name)?).await
    }

    /// Builds a directory in another one, without storing it.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] if it would be nested too deeply.
    pub(super) fn build_directory(&self, instance: &Instance, parent: &File, name: &str) -> Result<File> {
        let path = join_path(parent.path.as_deref().unwrap_or("/"), name);
        if path.matches('/').count() > MAX_DEPTH {
            return Err(Error::TooLarge(format!(
                "the directory '{path}' would be nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(File::directory(&new_id(), &parent.id, name, &path, self.core.clock().now(), &instance.domain))
    }

    /// Stores a directory that was built.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the name is taken.
    pub(super) async fn store_directory(&self, instance: &Instance, mut directory: File) -> Result<File> {
        let document = instance.doc(&FILES, directory.id.as_str());
        let mut changes = Changes::new();
        changes.create(document.clone(), to_object(&directory)?);
        let key = child_key(&directory.dir_id, &directory.name);
        changes.put_unique(&instance.id, CHILDREN_INDEX, key, &directory.id);
        directory.rev = Some(self.core.commit_one(changes).await?);
        self.core.publish(&document, ChangeKind::Created, &directory);
        Ok(directory)
    }

    /// Returns a directory in another one, and whether this call created it.
    async fn ensure_child(&self, instance: &Instance, parent: &File, name: &str) -> Result<(File, bool)> {
        match self.child(instance, &parent.id, name)? {
            Some(child) if child.kind == FileKind::Directory => return Ok((child, false)),
            Some(_) => return Err(Error::Conflict(format!("'{name}' is a file, not a directory"))),
            None => {}
        }
        let made = self.create_directory(instance, parent, name).await.map_err(|error| match error {
            // It existed a moment ago; the next attempt follows the current path.
            Error::NotFound(_) => Error::Conflict(format!("another request is moving the directory of '{name}'")),
            other => other,
        });
        Ok((made?, true))
    }
}
