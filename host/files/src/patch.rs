//! Changes that a client makes to a file apart from its content: name, place, tags, metadata.

use crate::precondition::RequireRev as _;
use chrono::{DateTime, Utc};
use konnector_store::{Changes, Rev};
use serde_json::json;

use super::placement::directory_not_found;
use super::{File, FileKind, ROOT_ID, TRASH_ID, validate_name};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::FILES;
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Object, retry_on_conflict, to_object};

/// Change of a file's attributes. Fields that are `None` stay as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilePatch {
    /// New name.
    pub name: Option<String>,
    /// Id of the new parent directory.
    pub dir_id: Option<String>,
    /// All tags; duplicates count once.
    pub tags: Option<Vec<String>>,
    /// Whether the file is executable.
    pub executable: Option<bool>,
    /// The whole `metadata`.
    pub metadata: Option<Object>,
    /// Whether the file is one of the user's favourites.
    pub favorite: Option<bool>,
    /// Creation time as stated by the creator.
    pub created_at: Option<DateTime<Utc>>,
    /// Time of the last change as stated by the creator; now if `None`.
    pub updated_at: Option<DateTime<Utc>>,
}

impl Files {
    /// Changes a file or directory, in one commit; `seen` is the revision that may be changed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file or its new directory does not exist; [`Error::Conflict`] if the name is taken;
    /// [`Error::PreconditionFailed`] if it was changed since it was seen, or if a directory would contain itself;
    /// [`Error::BadRequest`] for moving a file in the trash; [`Error::InvalidAttribute`] for an invalid value.
    pub async fn patch(&self, instance: &Instance, id: &str, seen: Option<&Rev>, patch: &FilePatch) -> Result<File> {
        let document = &instance.doc(&FILES, id);
        retry_on_conflict(|| async {
            let missing = || Error::NotFound(format!("there is no file '{id}'"));
            let found = self.core.load::<File>(document)?.ok_or_else(missing)?.require_rev(seen)?;
            let rev = found.rev.clone();
            let mut file = File::from(found);
            let (mut changes, mut others) = (Changes::new(), Changes::new());
            let mut changed = self.stage_move(instance, &mut file, patch, &mut others)?;
            patch.apply(&mut file, self.core.clock().now())?;
            changes.put(document.clone(), &rev, to_object(&file)?).append(others);
            file.rev = Some(self.commit_if_match(document, seen, changes).await?);
            changed.push(file.clone());
            self.publish_updated(instance, &changed)?;
            Ok(file)
        })
        .await
    }

    /// Stages a new place or name of a file; returns the directories whose paths change as well.
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
            return Err(Error::BadRequest("the root directory and the trash cannot be moved or renamed".to_owned()));
        }
        if self.is_trashed(instance, file)? {
            return Err(Error::BadRequest(format!("'{}' is in the trash; restore it first", file.name)));
        }
        let to = self.writable_directory(instance, &dir_id)?;
        self.check_name_free(instance, &dir_id, &name)?;
        self.stage_relocation(instance, file, &to, name, changes)
    }

    /// Returns a directory into which files can be put.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not a directory, or in the trash.
    pub fn writable_directory(&self, instance: &Instance, id: &str) -> Result<File> {
        match self.get(instance, id) {
            Ok(found) if found.kind == FileKind::Directory && !found.trashed && found.id != TRASH_ID => Ok(found),
            Ok(_) | Err(Error::NotFound(_)) => Err(directory_not_found(id)),
            Err(error) => Err(error),
        }
    }
}

/// Maximum number of tags of a file or directory.
const MAX_TAGS: usize = 100;

impl FilePatch {
    /// Returns a file with the patch's place, name and tags applied, for the check of rules.
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
    /// Rejects a file whose last change is earlier than its creation.
    pub(super) fn check_dates(&self) -> Result<()> {
        if self.updated_at >= self.created_at {
            return Ok(());
        }
        Err(Error::InvalidAttribute {
            name: "UpdatedAt",
            message: "UpdatedAt is before CreatedAt; a file cannot be changed before it was created".to_owned(),
        })
    }

    /// Sets when it was created and changed, as stated by the client that creates or replaces it. If the last change is
    /// before the creation, the creation time is moved back to it.
    pub(super) fn set_dates(
        &mut self,
        created_at: Option<DateTime<Utc>>,
        updated_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        // A bill may have a future date. If only the creation time is stated, the last change is not before it.
        self.updated_at = updated_at.unwrap_or_else(|| created_at.map_or(now, |created| created.max(now)));
        self.created_at = created_at.unwrap_or(self.created_at.min(self.updated_at));
        self.check_dates()
    }
}

/// Returns each tag once, in the order of first occurrence.
///
/// # Errors
///
/// [`Error::InvalidAttribute`] if there are too many.
pub fn unique_tags(tags: &[String]) -> Result<Vec<String>> {
    if tags.len() > MAX_TAGS {
        let message = format!("the file has too many tags ({}); at most {MAX_TAGS} are allowed", tags.len());
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
