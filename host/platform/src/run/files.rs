//! The user's files, for a run: below the account's folder, recognised by their key wherever the user moved them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use konnector_manifest::{Manifest, Verb};
use konnector_sandbox::capability::{Error, Files, Quota, Stored, Target, Upload, Written};
use konnector_store::Changes;

use super::content::{ContentWriter, NotWritten, Room};
use super::{Scope, denied, folder, told};
use crate::doctype::FILES;
use crate::file::{File, NewContent, safe_name};

/// Namespace of keys, so that a key of files is never one of documents.
const KEYED: &str = "file by key";
/// The same for files that are recognised by their path.
const BY_PATH: &str = "file by path";

/// The interface `files`.
pub struct RunFiles {
    scope: Arc<Scope>,
    folder: String,
    room: Room,
}

impl RunFiles {
    /// For the folder that the job and the account name.
    pub fn new(scope: Arc<Scope>, manifest: &Manifest, room: Room) -> crate::Result<Self> {
        let folder = folder::destination(&scope, manifest)?;
        Ok(Self { scope, folder, room })
    }

    /// Whether some rule allows a verb on files at all, before anything is looked up.
    fn check(&self, verb: Verb) -> Result<(), Error> {
        if self.scope.permissions.allows_any(verb, &FILES) {
            return Ok(());
        }
        self.scope.permissions.check_type(verb, &FILES).map_err(denied)
    }

    /// A file that is there and not in the trash.
    fn keyed(&self, key: &str) -> Result<Option<File>, Error> {
        match self.scope.platform.file(&self.scope.instance, &self.scope.keyed_id(KEYED, key)) {
            Ok(file) if !file.trashed => Ok(Some(file)),
            Ok(_) | Err(crate::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(told(error)),
        }
    }
}

impl Scope {
    fn stored(&self, file: &File, written: Written) -> Result<Stored, Error> {
        Ok(Stored {
            id: file.id.clone(),
            path: self.platform.path_of(&self.instance, file).map_err(told)?,
            size: file.len(),
            mime: file.mime.clone().unwrap_or_default(),
            sha256: file.content.as_ref().map(|content| content.sha256.clone()).unwrap_or_default(),
            written,
        })
    }
}

#[async_trait]
impl Files for RunFiles {
    async fn lookup(&self, keys: Vec<String>) -> Result<Vec<Option<Stored>>, Error> {
        self.check(Verb::Get)?;
        if keys.is_empty() {
            self.check(Verb::Post)?;
        }
        keys.iter()
            .map(|key| self.keyed(key)?.map(|file| self.scope.stored(&file, Written::Unchanged)).transpose())
            .collect()
    }

    async fn create(&self, target: Target) -> Result<Box<dyn Upload>, Error> {
        self.check(Verb::Post)?;
        let name = safe_name(&target.name);
        let folders: Vec<String> = target.folder.split('/').filter(|part| !part.is_empty()).map(safe_name).collect();
        let path = folders.iter().fold(self.folder.clone(), |path, part| format!("{path}/{part}"));
        let id = match &target.key {
            Some(key) => self.scope.keyed_id(KEYED, key),
            None => self.scope.keyed_id(BY_PATH, &format!("{path}/{name}")),
        };
        let content = ContentWriter::begin(&self.scope.platform, self.room.clone()).await.map_err(told)?;
        let (scope, room) = (Arc::clone(&self.scope), self.room.clone());
        Ok(Box::new(RunUpload { scope, room, path, name, id, target, content }))
    }

    async fn read(&self, id: &str, offset: u64, max: u32) -> Result<Bytes, Error> {
        self.check(Verb::Get)?;
        let scope = &self.scope;
        let file = scope.platform.file(&scope.instance, id).map_err(told)?;
        scope.check_file(&[Verb::Get], &file).map_err(told)?;
        let part = scope.platform.read_file(&file, offset, u64::from(max.min(1 << 20))).await.map_err(told)?;
        Ok(Bytes::from(part))
    }

    async fn remove(&self, keys: Vec<String>) -> Result<u32, Error> {
        self.check(Verb::Delete)?;
        let scope = &self.scope;
        let mut removed = 0;
        for key in keys {
            let Some(file) = self.keyed(&key)? else { continue };
            scope.check_file(&[Verb::Delete], &file).map_err(told)?;
            let fence = |changes: &mut Changes| scope.fence(changes);
            removed += u32::from(scope.platform.trash_file(&scope.instance, &file.id, &fence).await.map_err(told)?);
        }
        Ok(removed)
    }
}

/// Content on its way to a file.
struct RunUpload {
    scope: Arc<Scope>,
    room: Room,
    path: String,
    name: String,
    id: String,
    target: Target,
    content: ContentWriter,
}

#[async_trait]
impl Upload for RunUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.content.write(chunk).await.map_err(|error| match error {
            NotWritten::Full => Error::QuotaExceeded(Quota::Storage),
            NotWritten::Failed(error) => told(error),
        })
    }

    async fn commit(self: Box<Self>) -> Result<Stored, Error> {
        let Self { scope, room, path, name, id, target, content } = *self;
        // What the author says goes before what the content shows.
        let mime = target.mime.clone().unwrap_or_else(|| content.mime(&name));
        let platform = &scope.platform;
        let before = match platform.file(&scope.instance, &id) {
            Ok(file) => Some(file).filter(|file| !file.trashed),
            Err(crate::Error::NotFound(_)) => None,
            Err(error) => return Err(told(error)),
        };
        let blob = content.finish().await.map_err(told)?;
        let discard = |error: Error| async {
            // The blob has no owner yet; should removing it fail, the sweep of orphans finds it.
            drop(platform.store.blobs().remove(&blob.id).await);
            Err(error)
        };
        let same = before
            .as_ref()
            .and_then(|file| file.content.as_ref())
            .is_some_and(|old| old.sha256 == hex::encode(blob.sha256));
        if let Some(file) = before.as_ref().filter(|file| same && file.metadata == target.metadata) {
            drop(platform.store.blobs().remove(&blob.id).await);
            return scope.stored(file, Written::Unchanged);
        }
        let checked = match &before {
            Some(file) => scope.check_file(&[Verb::Put], file),
            None => Ok(()),
        };
        if let Err(refused) = checked {
            return discard(told(refused)).await;
        }
        let fence = |changes: &mut Changes| scope.fence(changes);
        let directory = match platform.ensure_directory(&scope.instance, &path, &fence).await {
            Ok(directory) => directory,
            Err(error) => return discard(told(error)).await,
        };
        let mut metadata = target.metadata;
        if let Some(key) = &target.key {
            // Cozy's name for the key, for clients that look for it.
            metadata.entry("fileIdAttributes").or_insert_with(|| key.as_str().into());
        }
        let new = NewContent {
            id,
            dir_id: directory.id,
            name,
            mime,
            created_at: target.created_at.and_then(|at| DateTime::from_timestamp_millis(i64::try_from(at).ok()?)),
            metadata,
            origin: scope.origin(),
        };
        match platform.commit_content(&scope.instance, &new, &blob, &fence).await {
            Ok(file) => {
                room.account(before.as_ref().map_or(0, File::len), file.len());
                scope.stored(&file, if before.is_some() { Written::Updated } else { Written::Created })
            }
            Err(error) => discard(told(error)).await,
        }
    }
}

impl crate::Platform {
    /// Bytes that the files of an instance take.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn disk_usage(&self, instance: &crate::instance::Instance) -> crate::Result<u64> {
        let mut used = 0;
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(&instance.id, &FILES, after.as_deref(), 500)?;
            let Some(last) = page.last() else { return Ok(used) };
            after = Some(last.id.clone());
            for document in &page {
                let size = document
                    .body
                    .get("size")
                    .and_then(serde_json::Value::as_str)
                    .and_then(|size| size.parse::<u64>().ok());
                used += size.unwrap_or_default();
            }
        }
    }
}
