//! What a client changes of a file besides its content: name, place, tags, what is said of it.

use chrono::{DateTime, Utc};
use konnector_store::{Changes, Rev};
use serde_json::json;

use super::placement::directory_not_found;
use super::{File, FileKind, ROOT_ID, TRASH_ID, validate_name};
use crate::doctype::FILES;
use crate::instance::Instance;
use crate::stored::{Object, retry_on_conflict, to_object};
use crate::{Error, Platform, Result};

/// A change. What is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilePatch {
    /// Another name.
    pub name: Option<String>,
    /// Another directory, by id.
    pub dir_id: Option<String>,
    /// All tags; equal ones count once.
    pub tags: Option<Vec<String>>,
    /// Whether it is a program.
    pub executable: Option<bool>,
    /// The whole `metadata`.
    pub metadata: Option<Object>,
    /// Whether it is one of the user's favourites.
    pub favorite: Option<bool>,
    /// When its maker says that it was created.
    pub created_at: Option<DateTime<Utc>>,
    /// When its maker says that it was changed; now, where nothing is said.
    pub updated_at: Option<DateTime<Utc>>,
}

impl Platform {
    /// Changes a file or directory, in one commit; `seen` is the revision that may be changed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for it or for the directory it is to lie in; [`Error::Conflict`] when the name is taken; [`Error::PreconditionFailed`]
    /// when it was changed since it was seen, and for a directory that is to lie in itself; [`Error::BadRequest`] for moving what is in the
    /// trash; [`Error::InvalidAttribute`] for what makes no sense.
    pub async fn patch_file(
        &self,
        instance: &Instance,
        id: &str,
        seen: Option<&Rev>,
        patch: &FilePatch,
    ) -> Result<File> {
        let at = &instance.doc(&FILES, id);
        retry_on_conflict(|| async {
            let missing = || Error::NotFound(format!("there is no file '{id}'"));
            let found = self.load::<File>(at)?.ok_or_else(missing)?.require_rev(seen)?;
            let rev = found.rev.clone();
            let mut file = found.into_file();
            let (mut changes, mut others) = (Changes::new(), Changes::new());
            let mut changed = self.stage_move(instance, &mut file, patch, &mut others)?;
            patch.apply(&mut file, self.clock.now())?;
            changes.put(at.clone(), &rev, to_object(&file)?).append(others);
            file.rev = Some(self.commit_if_match(at, seen, changes).await?);
            changed.push(file.clone());
            self.publish_updated(instance, &changed)?;
            Ok(file)
        })
        .await
    }

    /// The directories whose paths change with that of the file.
    fn stage_move(
        &self,
        instance: &Instance,
        file: &mut File,
        patch: &FilePatch,
        changes: &mut Changes,
    ) -> Result<Vec<File>> {
        let name = patch.name.as_deref().map(validate_name).transpose()?.unwrap_or_else(|| file.name.clone());
        let dir_id = patch.dir_id.as_deref().unwrap_or(&file.dir_id).to_owned();
        if name == file.name && dir_id == file.dir_id {
            return Ok(Vec::new());
        }
        if matches!(file.id.as_str(), ROOT_ID | TRASH_ID) {
            return Err(Error::BadRequest("the root directory and the trash stay where they are".to_owned()));
        }
        if self.file(instance, &file.id)?.trashed {
            return Err(Error::BadRequest(format!("'{}' is in the trash; restore it first", file.name)));
        }
        let to = self.writable_directory(instance, &dir_id)?;
        self.check_name_free(instance, &dir_id, &name)?;
        self.stage_relocation(instance, file, &to, name, changes)
    }

    /// A directory that things can be put into.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when it is none, or in the trash.
    pub fn writable_directory(&self, instance: &Instance, id: &str) -> Result<File> {
        match self.file(instance, id) {
            Ok(found) if found.kind == FileKind::Directory && !found.trashed && found.id != TRASH_ID => Ok(found),
            Ok(_) | Err(Error::NotFound(_)) => Err(directory_not_found(id)),
            Err(error) => Err(error),
        }
    }
}

/// Tags of a file or directory.
const MAX_TAGS: usize = 100;

impl FilePatch {
    /// A file with what the patch changes of its place, name and tags, at which rules look.
    #[must_use]
    pub fn preview(&self, file: &File) -> File {
        File {
            name: self.name.clone().unwrap_or_else(|| file.name.clone()),
            dir_id: self.dir_id.clone().unwrap_or_else(|| file.dir_id.clone()),
            tags: self.tags.clone().unwrap_or_else(|| file.tags.clone()),
            ..file.clone()
        }
    }

    fn apply(&self, file: &mut File, now: DateTime<Utc>) -> Result<()> {
        if let Some(tags) = &self.tags {
            file.tags = unique_tags(tags)?;
        }
        if let (Some(executable), FileKind::File) = (self.executable, file.kind) {
            file.executable = Some(executable);
        }
        if let Some(metadata) = &self.metadata {
            file.metadata.clone_from(metadata);
        }
        if let Some(favorite) = self.favorite {
            file.cozy_metadata.insert("favorite".to_owned(), json!(favorite));
        }
        file.created_at = self.created_at.unwrap_or(file.created_at);
        file.updated_at = self.updated_at.unwrap_or(now);
        file.check_dates()?;
        file.touch(now);
        Ok(())
    }
}

impl File {
    /// Refuses a file that was changed before it was created.
    pub(super) fn check_dates(&self) -> Result<()> {
        if self.updated_at >= self.created_at {
            return Ok(());
        }
        Err(Error::InvalidAttribute {
            name: "UpdatedAt",
            message: "UpdatedAt is before CreatedAt; a file cannot be changed before it was created".to_owned(),
        })
    }

    /// Sets when it was created and changed, as somebody who makes or replaces it says. What is known to have changed earlier than its creation
    /// was created no later.
    pub(super) fn set_dates(
        &mut self,
        created_at: Option<DateTime<Utc>>,
        updated_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        // A bill may have a date to come: who says only when it was created means nothing earlier.
        self.updated_at = updated_at.unwrap_or_else(|| created_at.map_or(now, |created| created.max(now)));
        self.created_at = created_at.unwrap_or(self.created_at.min(self.updated_at));
        self.check_dates()
    }
}

/// Each once, in the order of their first places.
///
/// # Errors
///
/// [`Error::InvalidAttribute`] when there are too many.
pub fn unique_tags(tags: &[String]) -> Result<Vec<String>> {
    if tags.len() > MAX_TAGS {
        let message = format!("there are {} tags; a file has at most {MAX_TAGS}", tags.len());
        return Err(Error::InvalidAttribute { name: "tags", message });
    }
    let mut unique: Vec<String> = Vec::new();
    for tag in tags {
        if !unique.contains(tag) {
            unique.push(tag.clone());
        }
    }
    Ok(unique)
}
