//! Content on its way to a file.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use konnector_manifest::Verb;
use konnector_sandbox::capability::{CapabilityError, QuotaKind, SaveOutcome, SavedFile, Target, Upload};
use konnector_store::BlobInfo;

use super::super::folder::RunFolder;
use super::super::{Scope, told};
use super::reference;
use crate::file::{ContentWriter, NotWritten};
use crate::file::{File, NewContent, Reference};
use crate::stored::{Object, retry_on_conflict};

/// An upload that is not finished.
pub(super) struct RunUpload {
    scope: Arc<Scope>,
    folder: Arc<RunFolder>,
    name: String,
    id: String,
    target: Target,
    references: Vec<Reference>,
    content: ContentWriter,
}

impl RunUpload {
    /// Begins one.
    pub(super) async fn begin(
        (scope, folder): (&Arc<Scope>, &Arc<RunFolder>),
        name: String,
        id: String,
        target: Target,
    ) -> Result<Self, CapabilityError> {
        let references = target.references.iter().map(reference).collect::<Result<_, _>>()?;
        let content = scope.platform.begin_content(&scope.instance).await.map_err(told)?;
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

    /// The file that gets new content; one in the trash counts as gone.
    fn before(&self) -> Result<Option<File>, CapabilityError> {
        match self.scope.platform.file(&self.scope.instance, &self.id) {
            Ok(file) => Ok(Some(file).filter(|file| !file.trashed)),
            Err(crate::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(told(error)),
        }
    }
}

#[async_trait]
impl Upload for RunUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), CapabilityError> {
        self.content.write(chunk).await.map_err(|error| match error {
            NotWritten::Full => CapabilityError::QuotaExceeded(QuotaKind::Storage),
            NotWritten::Failed(error) => told(error),
        })
    }

    async fn commit(self: Box<Self>) -> Result<SavedFile, CapabilityError> {
        let (before, metadata) = (self.before()?, self.metadata());
        let Self { scope, folder, name, id, target, references, content } = *self;
        // What the author says goes before what the content shows.
        let mime = target.mime.unwrap_or_else(|| content.mime(&name));
        let blob = content.finish().await.map_err(told)?;
        if let Some(file) = before.as_ref().filter(|file| is_same(file, &blob, &metadata, &references))
            && let Some(content) = &file.content
            // The same content heals one that is missing or damaged.
            && scope.platform.is_sound(content).await.map_err(told)?
        {
            scope.discard(&blob).await;
            return Ok(SavedFile { file: scope.file(file)?, outcome: SaveOutcome::Unchanged });
        }
        let written = if before.is_some() { SaveOutcome::Updated } else { SaveOutcome::Created };
        let below = target.folder;
        let new = New { below, name, id, mime, created_at: target.created_at, metadata, references };
        match scope.store_content(&folder, before.as_ref(), new, &blob).await {
            Ok(file) => Ok(SavedFile { file: scope.file(&file)?, outcome: written }),
            Err(error) => {
                scope.discard(&blob).await;
                Err(error)
            }
        }
    }
}

/// What becomes a file.
#[derive(Clone)]
struct New {
    /// The folder it lies in, below that of the run.
    below: String,
    name: String,
    id: String,
    mime: String,
    created_at: Option<i64>,
    metadata: Object,
    references: Vec<Reference>,
}

impl Scope {
    async fn store_content(
        &self,
        folder: &RunFolder,
        before: Option<&File>,
        new: New,
        blob: &BlobInfo,
    ) -> Result<File, CapabilityError> {
        if let Some(file) = before {
            self.check_file(&[Verb::Put], file).map_err(told)?;
        }
        // The user may move, trash or delete the folder and the file at any time: then both are looked for again.
        let stored = retry_on_conflict(|| async {
            let directory = folder.ensure_below(self, &new.below).await?;
            let new = new.clone();
            let content = NewContent {
                created_at: new.created_at.and_then(DateTime::from_timestamp_millis),
                metadata: new.metadata,
                references: new.references,
                origin: self.origin(),
                ..NewContent::new(new.id, directory.id, new.name, new.mime)
            };
            self.platform.commit_content(&self.instance, &content, blob).await.map_err(|error| match error {
                crate::Error::NotFound(what) => crate::Error::Conflict(what),
                other => other,
            })
        });
        stored.await.map_err(told)
    }

    /// Removes content that no file came to have; should that fail, the sweep of orphans finds it.
    async fn discard(&self, blob: &BlobInfo) {
        drop(self.platform.store.blobs().remove(&blob.id).await);
    }
}

/// Whether storing would change nothing.
fn is_same(file: &File, blob: &BlobInfo, metadata: &Object, references: &[Reference]) -> bool {
    file.content.as_ref().is_some_and(|content| content.sha256 == hex::encode(blob.sha256))
        && file.metadata == *metadata
        && references.iter().all(|reference| file.referenced_by.contains(reference))
}
