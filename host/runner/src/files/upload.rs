//! Uploads of file content.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use konnector_manifest::Verb;
use konnector_sandbox::capability::{CapabilityError, QuotaKind, SaveOutcome, SavedFile, Target, Upload};
use konnector_store::BlobInfo;

use super::super::folder::RunFolder;
use super::super::{RunContext, to_capability_error};
use super::parse_reference;
use konnector_documents::stored::{Object, retry_on_conflict};
use konnector_files::{ContentWriteError, ContentWriter};
use konnector_files::{File, NewContent, Reference};

/// An unfinished upload.
pub(super) struct RunUpload {
    scope: Arc<RunContext>,
    folder: Arc<RunFolder>,
    name: String,
    id: String,
    target: Target,
    references: Vec<Reference>,
    content: ContentWriter,
}

impl RunUpload {
    /// Starts an upload.
    pub(super) async fn begin(
        (scope, folder): (&Arc<RunContext>, &Arc<RunFolder>),
        name: String,
        id: String,
        target: Target,
    ) -> Result<Self, CapabilityError> {
        let references = target.references.iter().map(parse_reference).collect::<Result<_, _>>()?;
        let content = scope.domain.files().create_content_writer(&scope.instance).await.map_err(to_capability_error)?;
        let (scope, folder) = (Arc::clone(scope), Arc::clone(folder));
        Ok(Self { scope, folder, name, id, target, references, content })
    }

    /// The file's `metadata`.
    fn metadata(&self) -> Object {
        let mut metadata = self.target.metadata.clone();
        if let Some(key) = &self.target.key {
            // Cozy's name for the key, for clients that look for it.
            metadata.entry("fileIdAttributes").or_insert_with(|| key.as_str().into());
        }
        metadata
    }

    /// Returns the file whose content will be replaced; a file in the trash counts as deleted.
    fn current_file(&self) -> Result<Option<File>, CapabilityError> {
        match self.scope.domain.files().get(&self.scope.instance, &self.id) {
            Ok(file) => Ok(Some(file).filter(|file| !file.trashed)),
            Err(crate::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(to_capability_error(error)),
        }
    }
}

#[async_trait]
impl Upload for RunUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), CapabilityError> {
        self.content.write(chunk).await.map_err(|error| match error {
            ContentWriteError::QuotaExceeded => CapabilityError::QuotaExceeded(QuotaKind::Storage),
            ContentWriteError::Failed(error) => to_capability_error(error),
        })
    }

    async fn commit(self: Box<Self>) -> Result<SavedFile, CapabilityError> {
        let (before, metadata) = (self.current_file()?, self.metadata());
        let Self { scope, folder, name, id, target, references, content } = *self;
        // The author's media type takes precedence over the detected one.
        let mime = target.mime.unwrap_or_else(|| content.mime(&name));
        let blob = content.finish().await.map_err(to_capability_error)?;
        if let Some(file) = before.as_ref().filter(|file| is_same(file, &blob, &metadata, &references))
            && let Some(content) = &file.content
            // Storing the same content again repairs content that is missing or damaged.
            && scope.domain.files().is_content_intact(content).await.map_err(to_capability_error)?
        {
            scope.discard(&blob).await;
            return Ok(SavedFile { file: scope.to_guest_file(file)?, outcome: SaveOutcome::Unchanged });
        }
        let written = if before.is_some() { SaveOutcome::Updated } else { SaveOutcome::Created };
        let below = target.folder;
        let new = NewUpload { folder: below, name, id, mime, created_at: target.created_at, metadata, references };
        match scope.store_content(&folder, before.as_ref(), new, &blob).await {
            Ok(file) => Ok(SavedFile { file: scope.to_guest_file(&file)?, outcome: written }),
            Err(error) => {
                scope.discard(&blob).await;
                Err(error)
            }
        }
    }
}

/// Attributes of the file to create.
#[derive(Clone)]
struct NewUpload {
    /// Folder, relative to the folder of the run.
    folder: String,
    name: String,
    id: String,
    mime: String,
    created_at: Option<i64>,
    metadata: Object,
    references: Vec<Reference>,
}

impl RunContext {
    async fn store_content(
        &self,
        folder: &RunFolder,
        before: Option<&File>,
        new: NewUpload,
        blob: &BlobInfo,
    ) -> Result<File, CapabilityError> {
        if let Some(file) = before {
            self.check_file(&[Verb::Put], file).map_err(to_capability_error)?;
        }
        // The user may move, trash or delete the folder and the file at any time; after a conflict both are looked up
        // again.
        let stored = retry_on_conflict(|| async {
            let directory = folder.ensure_subdirectory(self, &new.folder).await?;
            let new = new.clone();
            let content = NewContent {
                created_at: new.created_at.and_then(DateTime::from_timestamp_millis),
                metadata: new.metadata,
                references: new.references,
                provenance: self.provenance(),
                ..NewContent::new(new.id, directory.id, new.name, new.mime)
            };
            self.domain.files().commit_content(&self.instance, &content, blob).await.map_err(|error| match error {
                crate::Error::NotFound(what) => crate::Error::Conflict(what),
                other => other,
            })
        });
        stored.await.map_err(to_capability_error)
    }

    /// Deletes a blob that no file uses; if that fails, the sweep of orphans finds it.
    async fn discard(&self, blob: &BlobInfo) {
        drop(self.domain.core().store().blobs().remove(&blob.id).await);
    }
}

/// Returns whether the file already has this content, this metadata and these references.
fn is_same(file: &File, blob: &BlobInfo, metadata: &Object, references: &[Reference]) -> bool {
    file.content.as_ref().is_some_and(|content| content.sha256 == hex::encode(blob.sha256))
        && file.metadata == *metadata
        && references.iter().all(|reference| file.referenced_by.contains(reference))
}
