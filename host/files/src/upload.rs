//! Uploads of clients, copies of content, and directories that a client creates.

use crate::precondition::RequireRev as _;
use chrono::{DateTime, Utc};
use konnector_store::{BlobId, BlobInfo, BlobLink};
use serde_json::json;

use super::name::with_copy_suffix;
use super::{ContentWriteError, File, FileKind, NewContent, WrittenContent, validate_name};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::FILES;
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Object, new_id, retry_on_conflict};

impl Files {
    /// Rejects a name that is taken, before content is received for it.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the name is taken.
    pub fn check_name_free(&self, instance: &Instance, dir_id: &str, name: &str) -> Result<()> {
        match self.child(instance, dir_id, name)? {
            None => Ok(()),
            Some(_) => Err(Error::Conflict(format!("the directory already has an entry '{name}'"))),
        }
    }

    /// Creates a file with exactly this name from received content.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the directory does not exist; [`Error::InvalidParameter`] for an invalid name;
    /// [`Error::Conflict`] if the name is taken.
    pub async fn create(&self, instance: &Instance, new: &NewContent, blob: &BlobInfo) -> Result<File> {
        let created = async {
            let name = validate_name(&new.name)?;
            self.writable_directory(instance, &new.dir_id)?;
            self.create_content(instance, new, &name, blob).await
        };
        self.discard_on_error(created.await, blob).await
    }

    /// Replaces the content of a file with received content.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not a file, or in the trash; [`Error::PreconditionFailed`] if it was changed since
    /// it was seen.
    pub async fn overwrite(&self, instance: &Instance, new: &NewContent, blob: &BlobInfo) -> Result<File> {
        let written = async {
            let missing =
                || Error::NotFound(format!("'{}' does not exist, is a directory, or is in the trash", new.id));
            let found = self.core.load::<File>(&instance.doc(&FILES, new.id.as_str()))?.ok_or_else(missing)?;
            if found.value.kind == FileKind::Directory || self.is_trashed(instance, &found.value)? {
                return Err(missing());
            }
            self.replace_content(instance, new, blob, found.require_rev(new.if_match.as_ref())?).await
        };
        self.discard_on_error(written.await, blob).await
    }

    /// Copies a file; `name` is that of the copy, with a number if it is taken.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file or the directory does not exist; [`Error::TooLarge`] if the quota leaves no
    /// room.
    pub async fn copy(
        &self,
        instance: &Instance,
        file: &File,
        name: Option<&str>,
        dir_id: Option<&str>,
    ) -> Result<File> {
        let directory = self.writable_directory(instance, dir_id.unwrap_or(&file.dir_id))?;
        let name = match name {
            Some(name) => validate_name(name)?,
            None if self.child(instance, &directory.id, &file.name)?.is_some() => with_copy_suffix(&file.name),
            None => file.name.clone(),
        };
        let blob = self.copy_content(instance, file).await?;
        let new = NewContent {
            metadata: file.metadata.clone(),
            tags: Some(file.tags.clone()),
            executable: file.executable,
            encrypted: file.encrypted,
            ..NewContent::new(new_id(), directory.id, name, file.mime.clone().unwrap_or_default())
        };
        let copied = self.commit_content(instance, &new, &blob).await;
        self.discard_on_error(copied, &blob).await
    }

    /// Copies the content of a file.
    pub(super) async fn copy_content(&self, instance: &Instance, file: &File) -> Result<WrittenContent> {
        let nothing = || Error::NotFound(format!("'{}' is a directory and has no content", file.name));
        let blob = file.blob_info().ok_or_else(nothing)?;
        let mut reservation = self.begin_reservation(instance).await?;
        if !reservation.reserve(blob.size) {
            return Err(ContentWriteError::QuotaExceeded.into());
        }
        // Damaged content is not copied.
        self.core
            .store()
            .verify_blob(&BlobLink { blob: blob.id, size: Some(blob.size), sha256: Some(hex::encode(blob.sha256)) })
            .await?;
        let id = self.core.store().blobs().duplicate(&blob.id).await?;
        Ok(WrittenContent { info: BlobInfo { id, ..blob }, reservation })
    }

    /// Creates a directory with exactly this name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the parent directory does not exist; [`Error::InvalidParameter`] for an invalid name;
    /// [`Error::Conflict`] if the name is taken.
    pub async fn create_directory_with(&self, instance: &Instance, dir_id: &str, new: NewDirectory) -> Result<File> {
        let (name, new) = (&validate_name(&new.name)?, &new);
        retry_on_conflict(|| async {
            let parent = self.writable_directory(instance, dir_id)?;
            self.check_name_free(instance, &parent.id, name)?;
            let mut directory = self.build_directory(instance, &parent, name)?;
            directory.set_dates(new.created_at, new.updated_at, self.core.clock().now())?;
            directory.tags.clone_from(&new.tags);
            directory.cozy_metadata.extend(new.provenance.clone());
            self.store_directory(instance, directory).await
        })
        .await
    }

    /// Deletes uploaded content that no file will refer to.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store fails; the sweep of orphaned blobs then deletes the content.
    pub async fn discard_content(&self, blob: &BlobId) -> Result<()> {
        Ok(self.core.store().blobs().remove(blob).await?)
    }

    /// Removes content that did not become part of a file; if that fails, the sweep of orphans finds it.
    async fn discard_on_error(&self, done: Result<File>, blob: &BlobInfo) -> Result<File> {
        // After a disk failure the file may still have been stored; the sweep of orphans decides.
        let unsure = matches!(done, Err(Error::Store(konnector_store::Error::Poisoned)));
        if done.is_err() && !unsure {
            drop(self.discard_content(&blob.id).await);
        }
        done
    }
}

impl From<ContentWriteError> for Error {
    fn from(error: ContentWriteError) -> Self {
        match error {
            ContentWriteError::QuotaExceeded => Self::TooLarge("the file exceeds the remaining disk quota".to_owned()),
            ContentWriteError::Failed(error) => error,
        }
    }
}

/// A directory to create.
#[derive(Debug, Clone, Default)]
pub struct NewDirectory {
    /// Name in the parent directory.
    pub name: String,
    /// The user's tags.
    pub tags: Vec<String>,
    /// Creation time; now by default.
    pub created_at: Option<DateTime<Utc>>,
    /// Time of the last change; now by default.
    pub updated_at: Option<DateTime<Utc>>,
    /// Fields of `cozyMetadata` about the creator.
    pub provenance: Object,
}

/// Returns `cozyMetadata` of a file that an app or a person sends.
#[must_use]
pub fn upload_provenance(app: &str) -> Object {
    Object::from_iter([("createdByApp".to_owned(), json!(app)), ("uploadedBy".to_owned(), json!({ "slug": app }))])
}
