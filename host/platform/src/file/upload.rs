//! Content that a client sends, copies of it, and directories that a client makes.

use konnector_store::BlobInfo;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::{ContentWriter, File, Kind, NewContent, NotWritten, Room, numbered, valid_name};
use crate::instance::Instance;
use crate::stored::{Object, new_id};
use crate::{Error, Platform, Result};

/// Bytes that are copied at a time.
const PART: usize = 64 << 10;

impl Platform {
    /// Begins to take content, of as many bytes as the instance's quota leaves.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn begin_content(&self, instance: &Instance) -> Result<ContentWriter> {
        ContentWriter::begin(self, Room::of(self, instance)?).await
    }

    /// Bytes that the instance's quota leaves.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn space_left(&self, instance: &Instance) -> Result<u64> {
        let quota = instance.disk_quota.unwrap_or(self.config.disk_quota);
        Ok(quota.saturating_sub(self.disk_usage(instance)?))
    }

    /// Refuses a name that is taken, before content comes for it.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`].
    pub fn check_name_free(&self, instance: &Instance, dir_id: &str, name: &str) -> Result<()> {
        match self.child(instance, dir_id, name)? {
            None => Ok(()),
            Some(_) => Err(Error::Conflict(format!("there is a '{name}' in the directory already"))),
        }
    }

    /// Makes content that came a file, with exactly this name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for its directory; [`Error::Parameter`] for a name that is none; [`Error::Conflict`] when the name is taken.
    pub async fn create_file(&self, instance: &Instance, new: &NewContent, blob: &BlobInfo) -> Result<File> {
        let created = async {
            valid_name(&new.name)?;
            self.open_directory(instance, &new.dir_id)?;
            self.create_content(instance, new, &new.name, blob).await
        };
        self.or_discard(created.await, blob).await
    }

    /// Gives a file content that came.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when it is none, or in the trash.
    pub async fn overwrite_file(&self, instance: &Instance, new: &NewContent, blob: &BlobInfo) -> Result<File> {
        let file = self.file(instance, &new.id)?;
        let written = if file.kind == Kind::Directory || file.trashed {
            Err(Error::NotFound(format!("there is no file '{}' whose content could be replaced", new.id)))
        } else {
            self.commit_content(instance, new, blob).await
        };
        self.or_discard(written, blob).await
    }

    /// Copies a file; `name` is that of the copy, with a number where it is taken.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::TooLarge`] when the quota leaves no room.
    pub async fn copy_file(
        &self,
        instance: &Instance,
        file: &File,
        name: Option<&str>,
        dir_id: Option<&str>,
    ) -> Result<File> {
        let directory = self.open_directory(instance, dir_id.unwrap_or(&file.dir_id))?;
        let name = name.map_or_else(|| numbered(&file.name, 2), str::to_owned);
        valid_name(&name)?;
        let mut reader = self.open_file(file, 0).await?;
        let mut writer = self.begin_content(instance).await?;
        let mut part = vec![0; PART];
        loop {
            let read = reader.read(&mut part).await.map_err(Error::io("reading the content of a file"))?;
            if read == 0 {
                break;
            }
            writer
                .write(bytes::Bytes::copy_from_slice(part.get(..read).unwrap_or_default()))
                .await
                .map_err(Error::from)?;
        }
        let blob = writer.finish().await?;
        let new = NewContent {
            metadata: file.metadata.clone(),
            tags: Some(file.tags.clone()),
            executable: file.executable,
            ..NewContent::new(new_id(), directory.id, name, file.mime.clone().unwrap_or_default())
        };
        let copied = self.commit_content(instance, &new, &blob).await;
        self.or_discard(copied, &blob).await
    }

    /// Makes a directory, with exactly this name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the directory it is to lie in; [`Error::Parameter`] for a name that is none; [`Error::Conflict`] when the name
    /// is taken.
    pub async fn new_directory(
        &self,
        instance: &Instance,
        dir_id: &str,
        name: &str,
        tags: Vec<String>,
    ) -> Result<File> {
        valid_name(name)?;
        let parent = self.open_directory(instance, dir_id)?;
        self.check_name_free(instance, &parent.id, name)?;
        let directory = self.create_directory(instance, &parent, name).await?;
        if tags.is_empty() {
            return Ok(directory);
        }
        let patch = super::FilePatch { tags: Some(tags), ..Default::default() };
        self.patch_file(instance, &directory.id, &patch).await
    }

    /// Content that no file came to have is removed; should that fail, the sweep of orphans finds it.
    async fn or_discard(&self, done: Result<File>, blob: &BlobInfo) -> Result<File> {
        if done.is_err() {
            drop(self.store.blobs().remove(&blob.id).await);
        }
        done
    }
}

impl From<NotWritten> for Error {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::Full => Self::TooLarge("the file is larger than the space that is left".to_owned()),
            NotWritten::Failed(error) => error,
        }
    }
}

/// `cozyMetadata` of a file that an app or a person sends.
#[must_use]
pub fn uploaded_by(app: &str) -> Object {
    Object::from_iter([("createdByApp".to_owned(), json!(app)), ("uploadedBy".to_owned(), json!({ "slug": app }))])
}
