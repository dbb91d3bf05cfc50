//! The user's files, for a run: below the account's folder, recognised by their key wherever the user moved them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use konnector_manifest::{Manifest, Verb};
use konnector_sandbox::capability::{Error, Files, Object, Quota, Stored, Target, Upload, Written};
use konnector_store::{BlobWriter, Changes};

use super::{Scope, denied, folder, told};
use crate::doctype::FILES;
use crate::file::{File, NewContent, safe_name};

/// Namespace of keys, so that a key of files is never one of documents.
const KEYED: &str = "file by key";
/// The same for files that are recognised by their path.
const BY_PATH: &str = "file by path";
/// How much of the beginning is kept to find out the media type.
const HEAD: usize = 8 << 10;

/// The interface `files`.
pub struct RunFiles {
    scope: Arc<Scope>,
    folder: String,
    used: u64,
    quota: u64,
}

impl RunFiles {
    /// For the folder that the job and the account name.
    pub fn new(scope: Arc<Scope>, manifest: &Manifest) -> crate::Result<Self> {
        let folder = folder::destination(&scope, manifest)?;
        let quota = scope.instance.disk_quota.unwrap_or(scope.platform.config.disk_quota);
        let used = scope.platform.disk_usage(&scope.instance)?;
        Ok(Self { scope, folder, used, quota })
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

    fn body(file: &File) -> Object {
        crate::stored::object(file).unwrap_or_default()
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
        let writer = self.scope.platform.store.blobs().create().await.map_err(|error| told(error.into()))?;
        Ok(Box::new(RunUpload {
            scope: Arc::clone(&self.scope),
            room: self.quota.saturating_sub(self.used),
            path,
            name,
            id,
            target,
            writer,
            head: Vec::new(),
            size: 0,
        }))
    }

    async fn read(&self, id: &str, offset: u64, max: u32) -> Result<Bytes, Error> {
        self.check(Verb::Get)?;
        let scope = &self.scope;
        let file = scope.platform.file(&scope.instance, id).map_err(told)?;
        scope.permissions.check_document(Verb::Get, &FILES, id, &Scope::body(&file)).map_err(denied)?;
        let part = scope.platform.read_file(&file, offset, u64::from(max.min(1 << 20))).await.map_err(told)?;
        Ok(Bytes::from(part))
    }

    async fn remove(&self, keys: Vec<String>) -> Result<u32, Error> {
        self.check(Verb::Delete)?;
        let scope = &self.scope;
        let mut removed = 0;
        for key in keys {
            let Some(file) = self.keyed(&key)? else { continue };
            scope.permissions.check_document(Verb::Delete, &FILES, &file.id, &Scope::body(&file)).map_err(denied)?;
            let fence = |changes: &mut Changes| scope.fence(changes);
            removed += u32::from(scope.platform.trash_file(&scope.instance, &file.id, &fence).await.map_err(told)?);
        }
        Ok(removed)
    }
}

/// Content on its way to a file.
struct RunUpload {
    scope: Arc<Scope>,
    /// Bytes that the quota leaves.
    room: u64,
    path: String,
    name: String,
    id: String,
    target: Target,
    writer: Box<dyn BlobWriter>,
    head: Vec<u8>,
    size: u64,
}

impl RunUpload {
    /// What the author says, else what the content shows, else what the name promises.
    fn mime(&self) -> String {
        if let Some(mime) = &self.target.mime {
            return mime.clone();
        }
        if let Some(kind) = infer::get(&self.head) {
            return kind.mime_type().to_owned();
        }
        mime_guess::from_path(&self.name).first_or_octet_stream().to_string()
    }
}

#[async_trait]
impl Upload for RunUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.size += chunk.len() as u64;
        if self.size > self.room {
            return Err(Error::QuotaExceeded(Quota::Storage));
        }
        let missing = HEAD.saturating_sub(self.head.len());
        self.head.extend(chunk.iter().take(missing));
        self.writer.write(chunk).await.map_err(|error| told(error.into()))
    }

    async fn commit(self: Box<Self>) -> Result<Stored, Error> {
        let mime = self.mime();
        let Self { scope, path, name, id, target, writer, .. } = *self;
        let platform = &scope.platform;
        let before = match platform.file(&scope.instance, &id) {
            Ok(file) => Some(file).filter(|file| !file.trashed),
            Err(crate::Error::NotFound(_)) => None,
            Err(error) => return Err(told(error)),
        };
        let blob = writer.finish().await.map_err(|error| told(error.into()))?;
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
            Some(file) => scope.permissions.check_document(Verb::Put, &FILES, &id, &Scope::body(file)),
            None => Ok(()),
        };
        if let Err(refused) = checked {
            return discard(denied(refused)).await;
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
            Ok(file) => scope.stored(&file, if before.is_some() { Written::Updated } else { Written::Created }),
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
