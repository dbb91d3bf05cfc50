//! The user's files for a run. They are below the account's folder, and are identified by keys even if the user moved
//! them.

mod content;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use konnector_manifest::{Doctype, Verb};
use konnector_sandbox::capability::{
    CapabilityError, Details, Entry, File as GuestFile, Files, Folder, Listing, Locator, Object, OpenFile, Reference,
    Target, Upload,
};
use konnector_store::Error as StoreError;

use super::folder::{RunFolder, path_segments};
use super::{RunContext, to_capability_error, to_denied_error};
use content::RunContent;
use konnector_documents::cursor;
use konnector_documents::doctype::FILES;
use konnector_files::{self, File, FileKind, sanitize_name};
use upload::RunUpload;

/// Namespace of file keys, so that they never coincide with keys of documents.
const KEY_NAMESPACE: &str = "file by key";
/// Namespace of files that are identified by their path.
const PATH_NAMESPACE: &str = "file by path";
/// Maximum number of attempts to read content that is being replaced.
const MAX_ATTEMPTS: usize = 3;
/// Maximum number of bytes of contents that one run verifies against their checksums in look-ups. That is half a second
/// of hashing, and more than the bills of several years.
const MAX_VERIFIED_BYTES: u64 = 256 << 20;
/// Maximum length of a reference's id, in bytes.
const MAX_REFERENCE_ID_LEN: usize = 512;

/// Implementation of the interface `files`.
pub struct RunFiles {
    scope: Arc<RunContext>,
    folder: Arc<RunFolder>,
    /// Remaining bytes of contents to verify against their checksums in look-ups.
    verify_budget: AtomicU64,
}

impl RunFiles {
    /// Creates the interface for files below the folder of the run.
    pub fn new(scope: Arc<RunContext>, folder: RunFolder) -> Self {
        Self { scope, folder: Arc::new(folder), verify_budget: AtomicU64::new(MAX_VERIFIED_BYTES) }
    }

    /// Checks that a rule allows a verb on files, before any look-up.
    fn check_verb(&self, verb: Verb) -> Result<(), CapabilityError> {
        self.scope.permissions.check_any(verb, &FILES).map_err(to_denied_error)
    }

    /// Returns an existing file outside the trash.
    fn find_by_key(&self, key: &str) -> Result<Option<File>, CapabilityError> {
        match self.scope.domain.files().get(&self.scope.instance, &self.scope.id_for_key(KEY_NAMESPACE, key)) {
            Ok(file) if !file.trashed => Ok(Some(file)),
            Ok(_) | Err(crate::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(to_capability_error(error)),
        }
    }

    /// Returns whether the content of a file can be read. Otherwise the konnector fetches it again.
    async fn has_content(&self, file: &File) -> Result<bool, CapabilityError> {
        let Some(content) = &file.content else { return Ok(true) };
        let domain = &self.scope.domain;
        if !domain.files().is_content_present(content).await.map_err(to_capability_error)? {
            tracing::error!(
                file = file.id, blob = %content.blob,
                "the content of a file is missing; its konnector will fetch it again"
            );
            return Ok(false);
        }
        // The whole content is verified within the budget of the run; fsck and backups find damage beyond that.
        let left = self.verify_budget.load(Ordering::Relaxed);
        let Some(left) = left.checked_sub(content.size) else { return Ok(true) };
        self.verify_budget.store(left, Ordering::Relaxed);
        domain.files().is_content_intact(content).await.map_err(to_capability_error)
    }

    /// Returns a file or folder on which the rules allow a verb.
    fn locate(&self, verb: Verb, locator: &Locator) -> Result<File, CapabilityError> {
        self.check_verb(verb)?;
        let scope = &self.scope;
        let file = match locator {
            Locator::Id(id) => scope.domain.files().get(&scope.instance, id).map_err(to_capability_error)?,
            Locator::Key(key) => self
                .find_by_key(key)?
                .ok_or_else(|| CapabilityError::NotFound(format!("there is no file with the key '{key}'")))?,
        };
        scope.check_file(&[verb], &file).map_err(to_capability_error)?;
        Ok(file)
    }

    /// Returns the path of a folder below the account's, as of the start of the run.
    fn folder_path(&self, folder: &str) -> String {
        path_segments(folder).fold(self.folder.path().to_owned(), |path, name| format!("{path}/{name}"))
    }
}

impl RunContext {
    /// Converts a file to the form that the guest sees.
    fn to_guest_file(&self, file: &File) -> Result<GuestFile, CapabilityError> {
        Ok(GuestFile {
            id: file.id.clone(),
            path: self.domain.files().path_of(&self.instance, file).map_err(to_capability_error)?,
            size: file.len(),
            mime: file.mime.clone().unwrap_or_default(),
            sha256: file.content.as_ref().map(|content| content.sha256.clone()).unwrap_or_default(),
        })
    }

    /// Converts a file or folder to the entry that the guest sees.
    fn to_entry(&self, file: &File) -> Result<Entry, CapabilityError> {
        Ok(match file.kind {
            FileKind::File => Entry::File(self.to_guest_file(file)?),
            FileKind::Directory => {
                Entry::Folder(Folder { id: file.id.clone(), path: file.path.clone().unwrap_or_default() })
            }
        })
    }
}

#[async_trait]
impl Files for RunFiles {
    async fn check_save(&self) -> Result<(), CapabilityError> {
        self.check_verb(Verb::Get)?;
        self.check_verb(Verb::Post)
    }

    async fn lookup(&self, keys: Vec<String>) -> Result<Vec<Option<GuestFile>>, CapabilityError> {
        self.check_verb(Verb::Get)?;
        let mut found = Vec::with_capacity(keys.len());
        for key in &keys {
            let file = match self.find_by_key(key)? {
                Some(file) if self.has_content(&file).await? => Some(self.scope.to_guest_file(&file)?),
                _ => None,
            };
            found.push(file);
        }
        Ok(found)
    }

    async fn begin_upload(&self, target: Target) -> Result<Box<dyn Upload>, CapabilityError> {
        self.check_verb(Verb::Post)?;
        let name = sanitize_name(&target.name);
        let id = match &target.key {
            Some(key) => self.scope.id_for_key(KEY_NAMESPACE, key),
            None => self.scope.id_for_key(PATH_NAMESPACE, &format!("{}/{name}", self.folder_path(&target.folder))),
        };
        Ok(Box::new(RunUpload::begin((&self.scope, &self.folder), name, id, target).await?))
    }

    async fn open(&self, locator: &Locator) -> Result<Box<dyn OpenFile>, CapabilityError> {
        for last in (0..MAX_ATTEMPTS).rev() {
            let file = self.locate(Verb::Get, locator)?;
            match self.scope.domain.files().open_content(&file).await {
                Ok(reader) => return Ok(Box::new(RunContent { reader, size: file.len() })),
                // The content was replaced after the document was read, and the old content was deleted.
                Err(crate::Error::Store(StoreError::BlobNotFound { .. }))
                    if last > 0
                        && !self
                            .scope
                            .domain
                            .files()
                            .has_same_content(&self.scope.instance, &file)
                            .map_err(to_capability_error)? => {}
                Err(crate::Error::Store(error)) if error.is_blob_lost() => {
                    tracing::error!(%error, "the content of a file is missing or damaged");
                    return Err(CapabilityError::NotFound(format!(
                        "the content of '{}' is lost; save it again",
                        file.name
                    )));
                }
                Err(error) => return Err(to_capability_error(error)),
            }
        }
        Err(CapabilityError::Conflict("the file is being changed concurrently; try again".to_owned()))
    }

    async fn describe(&self, locator: &Locator) -> Result<Details, CapabilityError> {
        let file = self.locate(Verb::Get, locator)?;
        Ok(Details {
            entry: self.scope.to_entry(&file)?,
            created_at: file.created_at.timestamp_millis(),
            updated_at: file.updated_at.timestamp_millis(),
            metadata: file.metadata,
            references: file
                .referenced_by
                .into_iter()
                .map(|reference| Reference { doctype: reference.doctype, id: reference.id })
                .collect(),
        })
    }

    async fn merge_metadata(&self, locator: &Locator, patch: Object) -> Result<(), CapabilityError> {
        let (scope, file) = (&self.scope, self.locate(Verb::Patch, locator)?);
        scope.domain.files().merge_metadata(&scope.instance, &file.id, &patch).await.map_err(to_capability_error)?;
        Ok(())
    }

    async fn add_references(&self, locator: &Locator, references: Vec<Reference>) -> Result<(), CapabilityError> {
        let (scope, file) = (&self.scope, self.locate(Verb::Patch, locator)?);
        let references = references.iter().map(parse_reference).collect::<Result<Vec<_>, _>>()?;
        scope
            .domain
            .files()
            .add_references(&scope.instance, &file.id, &references)
            .await
            .map_err(to_capability_error)?;
        Ok(())
    }

    async fn remove_references(&self, locator: &Locator, references: Vec<Reference>) -> Result<(), CapabilityError> {
        let (scope, file) = (&self.scope, self.locate(Verb::Patch, locator)?);
        let references = references.iter().map(parse_reference).collect::<Result<Vec<_>, _>>()?;
        scope
            .domain
            .files()
            .remove_references(&scope.instance, &file.id, &references)
            .await
            .map_err(to_capability_error)?;
        Ok(())
    }

    async fn move_file(&self, locator: &Locator, folder: &str, name: &str) -> Result<GuestFile, CapabilityError> {
        let (scope, file) = (&self.scope, self.locate(Verb::Patch, locator)?);
        if file.kind == FileKind::Directory {
            return Err(CapabilityError::Invalid("locator: only files can be moved, not folders".to_owned()));
        }
        let top = self.folder.find(scope).await.map_err(to_capability_error)?.map(|top| top.id);
        let above = scope.domain.files().ancestors(&scope.instance, &file).map_err(to_capability_error)?;
        if file.trashed || !above.iter().any(|directory| Some(&directory.id) == top.as_ref()) {
            let (path, folder) = (
                scope.domain.files().path_of(&scope.instance, &file).map_err(to_capability_error)?,
                self.folder.path(),
            );
            return Err(CapabilityError::Denied(format!(
                "the file {path} is outside the folder {folder}; only files in this folder can be moved"
            )));
        }
        let directory = self.folder.ensure_subdirectory(scope, folder).await.map_err(to_capability_error)?;
        let name = sanitize_name(name);
        let there = File { dir_id: directory.id.clone(), name: name.clone(), ..file.clone() };
        scope.check_permission_gain(&file, &there).map_err(to_capability_error)?;
        let moved = scope.domain.files().move_to_free_name(&scope.instance, &file.id, &directory, &name).await;
        scope.to_guest_file(&moved.map_err(to_capability_error)?)
    }

    async fn trash(&self, locators: Vec<Locator>) -> Result<u32, CapabilityError> {
        self.check_verb(Verb::Delete)?;
        let scope = &self.scope;
        let mut trashed = 0;
        for locator in locators {
            let file = match self.locate(Verb::Delete, &locator) {
                Ok(file) if file.kind == FileKind::File => file,
                Ok(_) => {
                    return Err(CapabilityError::Invalid(
                        "locators: only files can be moved to the trash, not folders".to_owned(),
                    ));
                }
                Err(CapabilityError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            trashed += u32::from(
                scope.domain.files().try_trash(&scope.instance, &file.id).await.map_err(to_capability_error)?,
            );
        }
        Ok(trashed)
    }

    async fn ensure_folder(&self, folder: &str) -> Result<Folder, CapabilityError> {
        self.check_verb(Verb::Post)?;
        let directory = self.folder.ensure_subdirectory(&self.scope, folder).await.map_err(to_capability_error)?;
        Ok(Folder { id: directory.id, path: directory.path.unwrap_or_default() })
    }

    async fn list_folder(&self, folder: &str, limit: u32, cursor: Option<String>) -> Result<Listing, CapabilityError> {
        self.check_verb(Verb::Get)?;
        let (scope, limit) = (&self.scope, usize::try_from(limit).unwrap_or(usize::MAX));
        let directory = match self.folder.find_subdirectory(scope, folder).await.map_err(to_capability_error)? {
            Some(found) if found.kind == FileKind::Directory => found,
            Some(found) => {
                return Err(CapabilityError::Invalid(format!("folder: '{}' is a file, not a folder", found.name)));
            }
            None => return Ok(Listing { entries: Vec::new(), next_cursor: None }),
        };
        let list = format!("files/{}", directory.id);
        let invalid = || CapabilityError::Invalid("cursor: it does not come from a page of this folder".to_owned());
        let start = cursor.map(|text| cursor::decode(&list, &text).ok_or_else(invalid)).transpose()?;
        let children = scope
            .domain
            .files()
            .children(&scope.instance, &directory.id, start.as_deref(), limit)
            .map_err(to_capability_error)?;
        let last = children.last().filter(|_| children.len() == limit);
        let next = last.map(|last| cursor::encode(&list, &last.name));
        let mut entries = Vec::new();
        for file in &children {
            if scope
                .domain
                .files()
                .is_allowed(&scope.instance, &scope.permissions, &[Verb::Get], file)
                .map_err(to_capability_error)?
            {
                entries.push(scope.to_entry(file)?);
            }
        }
        Ok(Listing { entries, next_cursor: next })
    }
}

/// Validates a reference. The ids that a file's document refers to must at least have the form of a name.
fn parse_reference(given: &Reference) -> Result<konnector_files::Reference, CapabilityError> {
    given.doctype.parse::<Doctype>().map_err(|error| {
        CapabilityError::Invalid(format!("references: '{}' is not a valid doctype: {error}", given.doctype))
    })?;
    if given.id.is_empty() || given.id.len() > MAX_REFERENCE_ID_LEN || given.id.chars().any(char::is_control) {
        return Err(CapabilityError::Invalid(format!(
            "references: '{}' is not a valid document id",
            given.id.escape_default()
        )));
    }
    let reference = konnector_files::Reference { doctype: given.doctype.clone(), id: given.id.clone() };
    if reference.marks_folder_owner() {
        return Err(CapabilityError::Denied(format!(
            "references: a konnector must not set references of the doctype {}, which mark the owner of a folder",
            given.doctype
        )));
    }
    Ok(reference)
}
