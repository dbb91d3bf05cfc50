//! Paths and directories.

use konnector_store::Changes;

use super::{CHILDREN, File, Kind, ROOT_ID, child_key, valid_name};
use crate::doctype::FILES;
use crate::instance::Instance;
use crate::realtime::Happened;
use crate::stored::{new_id, object};
use crate::{Error, Platform, Result};

/// How deep directories may be nested.
pub(super) const DEEPEST: usize = 32;

/// A path with one more name.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

/// The names in an absolute path.
fn names(path: &str) -> Result<Vec<String>> {
    let names: Vec<String> = path.split('/').filter(|name| !name.is_empty()).map(valid_name).collect::<Result<_>>()?;
    if !path.starts_with('/') || names.len() > DEEPEST {
        return Err(Error::Parameter {
            name: "Path",
            message: format!("the path '{path}' does not begin with / or is nested more than {DEEPEST} deep"),
        });
    }
    Ok(names)
}

impl Platform {
    /// The child of a directory with this name.
    pub(crate) fn child(&self, instance: &Instance, dir_id: &str, name: &str) -> Result<Option<File>> {
        match self.store.lookup(&instance.id, CHILDREN, &child_key(dir_id, name))? {
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
            self.store.lookup_prefix(&instance.id, CHILDREN, &child_key(dir_id, ""), after.as_deref(), limit)?;
        entries.into_iter().map(|(_, id)| self.file(instance, &id)).collect()
    }

    /// What lies under an absolute path.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is nothing, [`Error::Parameter`] when it is no absolute path.
    pub fn file_by_path(&self, instance: &Instance, path: &str) -> Result<File> {
        let mut found = self.file(instance, ROOT_ID)?;
        for name in names(path)? {
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
        let mut directory = self.file(instance, ROOT_ID)?;
        for name in names(path)? {
            directory = self.ensure_child(instance, &directory, &name).await?;
        }
        Ok(directory)
    }

    /// Creates a directory in another one.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when the name is taken, [`Error::TooLarge`] when it would be nested too deeply.
    pub(crate) async fn create_directory(&self, instance: &Instance, parent: &File, name: &str) -> Result<File> {
        let path = join(parent.path.as_deref().unwrap_or("/"), name);
        if path.matches('/').count() > DEEPEST {
            return Err(Error::TooLarge(format!("the directory '{path}' is nested more than {DEEPEST} deep")));
        }
        let mut directory = File::directory(&new_id(), &parent.id, name, &path, self.clock.now(), &instance.domain);
        let at = instance.doc(&FILES, directory.id.as_str());
        let mut changes = Changes::new();
        changes.create(at.clone(), object(&directory)?);
        changes.unique(&instance.id, CHILDREN, child_key(&parent.id, name), &directory.id);
        directory.rev = Some(self.commit_one(changes).await?);
        self.publish(&at, Happened::Created, object(&directory)?);
        Ok(directory)
    }

    async fn ensure_child(&self, instance: &Instance, parent: &File, name: &str) -> Result<File> {
        // Twice: the second look finds what somebody else created between the first look and our commit.
        for last in [false, true] {
            match self.child(instance, &parent.id, name)? {
                Some(child) if child.kind == Kind::Directory => return Ok(child),
                Some(_) => return Err(Error::Conflict(format!("'{name}' is a file, not a directory"))),
                None => {}
            }
            match self.create_directory(instance, parent, name).await {
                Err(error) if error.is_conflict() && !last => {}
                done => return done,
            }
        }
        Err(Error::Conflict(format!("the directory '{name}' is being changed by somebody else")))
    }
}
