//! Checks blobs: which are referenced, and whether they match their documents.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::{BlobLink, DocumentSchema, FsckProblem, PAGE_SIZE};
use crate::blob::BlobId;
use crate::document::{self, DocumentRecord};
use crate::error::{Error, Result};
use crate::id::DocRef;
use crate::store::Store;
use crate::{key, view};

impl Store {
    /// Returns blobs that no document refers to, created before `before`, or before this process opened the store
    /// exclusively, because no other process could still refer to those. For a sweep, leave enough time for the slowest
    /// upload, because a blob is written before the commit that refers to it.
    ///
    /// Reads every document, page by page.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a document cannot be read, because it may refer to a blob. Otherwise as [`Store::get`],
    /// and [`Error::Io`].
    pub async fn orphaned_blobs(&self, schema: &dyn DocumentSchema, before: DateTime<Utc>) -> Result<Vec<BlobId>> {
        let mut orphans: HashSet<BlobId> = self.blobs().list().await?.into_iter().collect();
        let before = self.opened_at().map_or(before, |opened| opened.max(before));
        orphans.retain(|blob| blob.created_at() < before);
        let mut range = key::all_instances();
        while !orphans.is_empty() {
            let page = self.kv().scan(&range.from, &range.to, PAGE_SIZE, false)?;
            let Some((last, _)) = page.last() else { break };
            range.start_after(last);
            for (key, bytes) in page.iter().filter(|(key, _)| key::is_document(key)) {
                for blob in self.linked_blobs(schema, key, bytes)? {
                    orphans.remove(&blob);
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(orphans.into_iter().collect())
    }

    /// Returns the blobs that the document under a key refers to.
    fn linked_blobs(&self, schema: &dyn DocumentSchema, key: &[u8], bytes: &[u8]) -> Result<Vec<BlobId>> {
        let record: DocumentRecord = view::decode(key, bytes)?;
        let corrupt =
            |reason: String| Error::Corrupt { what: format!("the document under key {}", key.escape_ascii()), reason };
        let instance = key::instance(key).ok_or_else(|| corrupt("it belongs to no instance".to_owned()))?;
        let document_ref = DocRef::new(&instance, &record.doctype, key::document_id(key)?);
        let mut used: Vec<BlobId> = record.body.blob().into_iter().collect();
        if let Some(document) = document::resolve(self.kv(), self.blobs(), &document_ref, Some(record))? {
            let links = schema.links(&document_ref, &document.body).map_err(corrupt)?;
            used.extend(links.blobs.into_iter().map(|link| link.blob));
        }
        Ok(used)
    }

    /// Returns the problem of a blob. `first` means that no other document that refers to the blob was found.
    pub(super) async fn check_blob(
        &self,
        document: &DocRef,
        link: &BlobLink,
        first: bool,
        deep: bool,
    ) -> Result<Option<FsckProblem>> {
        let (document, blob) = (document.to_string(), link.blob);
        let damaged = |document, reason| Ok(Some(FsckProblem::BlobDamaged { document, blob, reason }));
        if !first || link.size.is_some() {
            match self.blobs().size(&blob).await {
                Err(error) => return problem_from_error(document, blob, error).map(Some),
                Ok(_) if !first => return Ok(Some(FsckProblem::BlobShared { document, blob })),
                Ok(size) => {
                    if let Some(recorded) = link.size.filter(|recorded| *recorded != size) {
                        return damaged(document, format!("it is {size} bytes long instead of {recorded}"));
                    }
                }
            }
        }
        let Some(recorded) = link.sha256.as_ref().filter(|_| deep) else { return Ok(None) };
        let mut reader = match self.blobs().open(&blob).await {
            Ok(reader) => reader,
            Err(error) => return problem_from_error(document, blob, error).map(Some),
        };
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
                Err(error) => return damaged(document, format!("it cannot be read: {error}")),
            }
        }
        let found = hex::encode(hash.finalize());
        if found == *recorded {
            Ok(None)
        } else {
            damaged(document, format!("its SHA-256 is {found} instead of {recorded}"))
        }
    }
}

/// Returns the problem of a blob that could not be read.
fn problem_from_error(document: String, blob: BlobId, error: Error) -> Result<FsckProblem> {
    match error {
        Error::BlobNotFound { .. } => Ok(FsckProblem::BlobMissing { document, blob }),
        Error::BlobUnreadable { source, .. } => {
            Ok(FsckProblem::BlobDamaged { document, blob, reason: format!("it cannot be read: {source}") })
        }
        other => Err(other),
    }
}
