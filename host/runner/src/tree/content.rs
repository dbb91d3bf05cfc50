//! File contents in `/files`: reads from the store, and drafts.

use std::io::SeekFrom;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use konnector_sandbox::capability::{ContentReader, Destination, Draft, Node, QuotaKind, SaveOutcome, TreeError};
use konnector_store::{BlobInfo, BlobLink, VerifiedReader};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{RunTree, WRITE, to_create_error, to_tree_error};
use crate::Error;
use konnector_documents::stored::new_id;
use konnector_files::{ContentWriteError, ContentWriter};
use konnector_files::{File, FileKind, NewContent};

/// The content of a file at the time it was opened.
pub struct TreeContent {
    reader: VerifiedReader,
    /// Position of the reader; `None` after a read that failed or was cancelled.
    position: Option<u64>,
    size: u64,
}

impl TreeContent {
    pub const fn new(reader: VerifiedReader, size: u64) -> Self {
        Self { reader, position: Some(0), size }
    }

    async fn read_at(&mut self, offset: u64, max_len: usize) -> std::io::Result<Bytes> {
        if self.position.take() != Some(offset) {
            self.reader.seek(SeekFrom::Start(offset)).await?;
        }
        let mut part = BytesMut::with_capacity(max_len);
        while part.len() < max_len && self.reader.read_buf(&mut part).await? > 0 {}
        self.position = Some(offset + part.len() as u64);
        Ok(part.freeze())
    }
}

#[async_trait]
impl ContentReader for TreeContent {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, TreeError> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Bytes::new());
        }
        let read = self.read_at(offset, max.min(left)).await;
        read.map_err(|error| to_tree_error(Error::io("reading the content of a file")(error)))
    }
}

/// Content that is being written for a file.
pub struct TreeDraft {
    tree: RunTree,
    content: ContentWriter,
}

impl TreeDraft {
    pub const fn new(tree: RunTree, content: ContentWriter) -> Self {
        Self { tree, content }
    }
}

#[async_trait]
impl Draft for TreeDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), TreeError> {
        self.content.write(chunk).await.map_err(|error| match error {
            ContentWriteError::QuotaExceeded => TreeError::QuotaExceeded(QuotaKind::Storage),
            ContentWriteError::Failed(error) => to_tree_error(error),
        })
    }

    async fn into_bytes(self: Box<Self>) -> Result<Bytes, TreeError> {
        let domain = &self.tree.scope.domain;
        let blob = self.content.finish().await.map_err(to_tree_error)?;
        let content = BlobLink { blob: blob.id, size: Some(blob.size), sha256: Some(hex::encode(blob.sha256)) };
        let bytes = domain.core().store().read_blob(&content).await.map_err(|error| to_tree_error(error.into()));
        discard_blob(&self.tree, &blob).await;
        bytes.map(Bytes::from)
    }

    async fn commit(self: Box<Self>, to: &Destination) -> Result<(Node, SaveOutcome), TreeError> {
        let Self { tree, content } = *self;
        let name = match to {
            Destination::New { name, .. } => name.clone(),
            Destination::Existing(id) => tree.file(id).await?.name,
        };
        let mime = content.mime(&name);
        let blob = content.finish().await.map_err(to_tree_error)?;
        let committed = match to {
            Destination::New { directory, name } => create(&tree, directory, name, mime, &blob).await,
            Destination::Existing(id) => replace(&tree, id, mime, &blob).await,
        };
        match committed {
            Ok((file, written)) => Ok((tree.node(&file)?, written)),
            Err(error) => {
                discard_blob(&tree, &blob).await;
                Err(error)
            }
        }
    }
}

/// Deletes a blob without an owner; if that fails, the sweep of orphans finds it.
async fn discard_blob(tree: &RunTree, blob: &BlobInfo) {
    drop(tree.scope.domain.core().store().blobs().remove(&blob.id).await);
}

async fn create(
    tree: &RunTree,
    directory: &str,
    name: &str,
    mime: String,
    blob: &BlobInfo,
) -> Result<(File, SaveOutcome), TreeError> {
    let scope = &tree.scope;
    let directory = tree.directory(directory).await?;
    tree.check_new(&directory, name, FileKind::File, Some(mime.clone()))?;
    let new =
        NewContent { provenance: scope.provenance(), ..NewContent::new(new_id(), directory.id, name.to_owned(), mime) };
    let file = scope.domain.files().create_content(&scope.instance, &new, name, blob).await.map_err(to_create_error)?;
    Ok((file, SaveOutcome::Created))
}

async fn replace(tree: &RunTree, id: &str, mime: String, blob: &BlobInfo) -> Result<(File, SaveOutcome), TreeError> {
    let scope = &tree.scope;
    let before = tree.file(id).await?;
    tree.check(WRITE, &before)?;
    // Storing the same content again repairs content that is missing or damaged.
    if let Some(old) = before.content.as_ref().filter(|old| old.sha256 == hex::encode(blob.sha256))
        && scope.domain.files().is_content_intact(old).await.map_err(to_tree_error)?
    {
        discard_blob(tree, blob).await;
        return Ok((before, SaveOutcome::Unchanged));
    }
    let new = NewContent {
        metadata: before.metadata.clone(),
        provenance: scope.provenance(),
        ..NewContent::new(id.to_owned(), before.dir_id.clone(), before.name.clone(), mime)
    };
    let file = scope.domain.files().commit_content(&scope.instance, &new, blob).await.map_err(to_tree_error)?;
    Ok((file, SaveOutcome::Updated))
}
