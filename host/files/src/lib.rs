//! The user's files. Directories and files are documents of `io.cozy.files`; the content of files is stored in blobs.

#![allow(missing_docs, reason = "names say enough within the domain; docs say what a name cannot")]

mod archive;
mod commit;
mod content;
mod ephemeral;
mod link;
mod metadata;
mod name;
mod patch;
mod permissions;
mod placement;
mod precondition;
mod reference;
mod relocation;
mod replace;
mod trash;
mod tree;
mod upload;
mod usage;
mod version;
mod writer;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use konnector_manifest::Doctype;
use konnector_store::{BlobId, BlobInfo, BlobLink, Changes, InstanceId, Links, Rev};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use archive::{ArchiveSpec, ArchiveStream, MAX_ARCHIVE_IDS};
pub use commit::FileHook;
pub use content::NewContent;
pub use link::LinkTarget;
pub use metadata::FolderOwner;
pub use name::{MAX_NAME_LEN, sanitize_name, sanitize_name_within, validate_name, with_number_suffix};
pub use patch::{FilePatch, unique_tags};
use placement::TreeLocks;
pub use placement::placement_problem;
pub use precondition::check_precondition;
pub use reference::ReferencePage;
pub use tree::parse_path;
pub use upload::{NewDirectory, upload_provenance};
use usage::UsageTracker;
pub use version::Version;
pub use writer::{ContentWriteError, ContentWriter, WrittenContent};

use konnector_documents::Core;
use konnector_documents::doctype::{FILES, KONNECTORS};
use konnector_documents::instance::Instance;
use konnector_documents::offload::Offload;
use konnector_documents::stored::{Object, Stored, to_object};
pub use konnector_documents::{Error, Result};

/// State of this layer, shared by all its handles.
pub struct FileState {
    usage: UsageTracker,
    trees: TreeLocks,
    /// Pool that packs archives of files.
    archive_offload: Offload,
    /// Default quota: bytes that the files of one instance may take.
    disk_quota: u64,
}

impl FileState {
    /// Creates the state; `disk_quota` is the number of bytes that the files of an instance may take by default.
    #[must_use]
    pub fn new(disk_quota: u64) -> Self {
        Self {
            usage: UsageTracker::default(),
            trees: TreeLocks::default(),
            archive_offload: archive::archive_pool(),
            disk_quota,
        }
    }

    /// Forgets a deleted instance.
    pub fn remove_instance(&self, instance: &InstanceId) {
        self.usage.remove(instance);
        self.trees.remove(instance);
    }
}

/// Handle of files, directories, versions and the trash. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    core: Core,
    state: Arc<FileState>,
}

impl Files {
    /// Creates the handle over a core.
    #[must_use]
    pub const fn new(core: Core, state: Arc<FileState>) -> Self {
        Self { core, state }
    }
}

/// Id of the root directory.
pub const ROOT_ID: &str = "io.cozy.files.root-dir";
/// Id of the trash.
pub const TRASH_ID: &str = "io.cozy.files.trash-dir";
/// Path of the trash.
pub const TRASH_PATH: &str = "/.cozy_trash";
/// Index from `<directory id>/<name>` to the id of the file or directory.
const CHILDREN_INDEX: &str = "files.children";
/// The indexes of files.
pub const INDEXES: [&str; 2] = [CHILDREN_INDEX, reference::REFERENCES_INDEX];

/// A file or a directory, as stored in its document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct File {
    /// Document id.
    #[serde(skip)]
    pub id: String,
    /// Revision that was read or written; `None` before it is stored.
    #[serde(skip)]
    pub rev: Option<Rev>,
    /// `file` or `directory`.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Name in the parent directory.
    pub name: String,
    /// Id of the parent directory; empty for the root.
    pub dir_id: String,
    /// Path, for directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Creation time.
    pub created_at: DateTime<Utc>,
    /// Time of the last change.
    pub updated_at: DateTime<Utc>,
    /// The user's tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Size in bytes, as a string; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// MD5 of the content in base64; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5sum: Option<String>,
    /// Media type; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Kind of media, for example `pdf` or `image`; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Whether the file is executable; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
    /// Whether the creator encrypted the content.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// Whether it is in the trash. Stored only for the trashed item itself; see [`Files::get`].
    #[serde(default)]
    pub trashed: bool,
    /// Path of the parent directory before the move to the trash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_path: Option<String>,
    /// Name before the move to the trash, if another item had that name there.
    #[serde(rename = "_restore_name", default, skip_serializing_if = "Option::is_none")]
    pub restore_name: Option<String>,
    /// Metadata from the creator.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Object,
    /// Documents that refer to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referenced_by: Vec<Reference>,
    /// Provenance in Cozy's format, such as who created the file, and when.
    #[serde(rename = "cozyMetadata", default)]
    pub cozy_metadata: Object,
    /// Blob of the content.
    #[serde(rename = "_content", default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentRef>,
}

/// File or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A file, which has content.
    File,
    /// A directory, which has children.
    Directory,
}

/// A document that refers to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Doctype of the document.
    #[serde(rename = "type")]
    pub doctype: String,
    /// Id of the document.
    pub id: String,
}

/// Type of the references to an account at a vendor.
pub const SOURCE_IDENTIFIER_DOCTYPE: &str = "io.cozy.accounts.sourceAccountIdentifier";

impl Reference {
    /// Rejects a reference that does not name a document. Doctypes of references may have capitals, unlike those of
    /// documents: Cozy's `io.cozy.accounts.sourceAccountIdentifier` is one.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] for an invalid doctype or an empty id.
    pub fn check(&self) -> Result<()> {
        if self.doctype.to_ascii_lowercase().parse::<Doctype>().is_err() {
            return Err(Error::BadRequest(format!(
                "type: '{}' is not a valid doctype; use letters, digits, '_' and '.', as in io.cozy.photos.albums",
                self.doctype
            )));
        }
        if self.id.is_empty() {
            return Err(Error::BadRequest("id: the id of a reference must not be empty".to_owned()));
        }
        Ok(())
    }

    /// Returns whether the reference marks a directory as a konnector's folder. Such a reference gives the konnector
    /// access to the directory, so only the server and people may set it.
    #[must_use]
    pub fn marks_folder_owner(&self) -> bool {
        self.doctype == KONNECTORS.as_str() || self.doctype == SOURCE_IDENTIFIER_DOCTYPE
    }
}

/// Blob of a file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRef {
    /// Blob that stores the content.
    pub blob: BlobId,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

impl ContentRef {
    /// Converts the reference to the store's type.
    pub fn to_content_link(&self) -> BlobLink {
        BlobLink { blob: self.blob, size: Some(self.size), sha256: Some(self.sha256.clone()) }
    }
}

impl File {
    /// Creates a directory.
    pub fn directory(id: &str, dir_id: &str, name: &str, path: &str, now: DateTime<Utc>, domain: &str) -> Self {
        Self {
            id: id.to_owned(),
            rev: None,
            kind: FileKind::Directory,
            name: name.to_owned(),
            dir_id: dir_id.to_owned(),
            path: Some(path.to_owned()),
            created_at: now,
            updated_at: now,
            tags: Vec::new(),
            size: None,
            md5sum: None,
            mime: None,
            class: None,
            executable: None,
            encrypted: false,
            trashed: false,
            restore_path: None,
            restore_name: None,
            metadata: Object::new(),
            referenced_by: Vec::new(),
            cozy_metadata: new_cozy_metadata(now, domain),
            content: None,
        }
    }

    /// Sets written content as the content of the file.
    pub(crate) fn set_content(&mut self, blob: &BlobInfo, mime: String) {
        self.size = Some(blob.size.to_string());
        self.md5sum = Some(STANDARD.encode(blob.md5));
        self.class = Some(file_class(&mime).to_owned());
        self.mime = Some(mime);
        self.content = Some(ContentRef { blob: blob.id, sha256: hex::encode(blob.sha256), size: blob.size });
    }

    /// Returns the links of a file's document. The root is in no directory.
    pub fn links(&self, id: &str) -> Links {
        let content = self.content.as_ref().map(ContentRef::to_content_link);
        let place = (id != ROOT_ID).then(|| (CHILDREN_INDEX, child_key(&self.dir_id, &self.name)));
        let references = self.reference_keys(id).map(|key| (reference::REFERENCES_INDEX, key));
        Links { blobs: content.into_iter().collect(), unique_keys: place.into_iter().chain(references).collect() }
    }

    /// Returns the blob of the content. `None` for a directory.
    pub(crate) fn blob_info(&self) -> Option<BlobInfo> {
        let ContentRef { blob, sha256, size } = self.content.as_ref()?;
        let md5 = STANDARD.decode(self.md5sum.as_ref()?).ok()?.try_into().ok()?;
        let mut digest = [0; 32];
        hex::decode_to_slice(sha256, &mut digest).ok()?;
        Some(BlobInfo { id: *blob, size: *size, md5, sha256: digest })
    }

    /// Returns the size of the content in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.content.as_ref().map_or(0, |content| content.size)
    }

    /// Returns whether the content is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Returns `cozyMetadata` for a new file.
pub fn new_cozy_metadata(now: DateTime<Utc>, domain: &str) -> Object {
    let metadata = json!({
        "doctypeVersion": "1", "metadataVersion": 1, "createdAt": now, "updatedAt": now, "createdOn": instance_url(domain),
    });
    match metadata {
        Value::Object(members) => members,
        _ => Object::new(),
    }
}

/// Returns the URL of an instance in the form that `cozyMetadata` uses.
fn instance_url(domain: &str) -> String {
    format!("http://{domain}/")
}

/// Returns Cozy's class of a media type.
fn file_class(mime: &str) -> &'static str {
    match mime.split_once('/').unwrap_or((mime, "")) {
        ("application", "pdf") => "pdf",
        ("image", _) => "image",
        ("audio", _) => "audio",
        ("video", _) => "video",
        ("text", "x-markdown" | "markdown") => "text",
        ("text", "vcard" | "x-vcard") => "files",
        ("text", _) => "text",
        ("application", "zip" | "gzip" | "x-tar" | "x-7z-compressed") => "zip",
        ("application", "vnd.ms-excel" | "vnd.openxmlformats-officedocument.spreadsheetml.sheet") => "spreadsheet",
        _ => "files",
    }
}

/// Stages the creation of the root directory and the trash of a new instance.
fn stage_root_directories(instance: &Instance, changes: &mut Changes, now: DateTime<Utc>) -> Result<()> {
    let root = File::directory(ROOT_ID, "", "", "/", now, &instance.domain);
    let trash = File::directory(TRASH_ID, ROOT_ID, ".cozy_trash", TRASH_PATH, now, &instance.domain);
    changes.create(instance.doc(&FILES, ROOT_ID), to_object(&root)?);
    changes.create(instance.doc(&FILES, TRASH_ID), to_object(&trash)?);
    changes.put_unique(&instance.id, CHILDREN_INDEX, child_key(ROOT_ID, ".cozy_trash"), TRASH_ID);
    Ok(())
}

/// Returns the key of a child in the index. Keys are bounded because names are.
pub(crate) fn child_key(dir_id: &str, name: &str) -> String {
    format!("{dir_id}/{name}")
}

impl Files {
    /// Returns a file or directory. Everything in a trashed directory counts as trashed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no file has this id.
    pub fn get(&self, instance: &Instance, id: &str) -> Result<File> {
        let found = self.core.load::<File>(&instance.doc(&FILES, id))?;
        let mut file = found.map(File::from).ok_or_else(|| Error::NotFound(format!("there is no file '{id}'")))?;
        file.trashed = self.is_trashed(instance, &file)?;
        Ok(file)
    }

    /// Returns whether a file is in the trash or in a trashed directory. Decides about the state that was read, so that
    /// a check and the commit after it see the same revision.
    pub(crate) fn is_trashed(&self, instance: &Instance, file: &File) -> Result<bool> {
        if file.trashed || file.dir_id == ROOT_ID {
            return Ok(file.trashed);
        }
        if let Some(path) = &file.path {
            return Ok(File::is_trash_path(path));
        }
        let directory = self.core.load::<File>(&instance.doc(&FILES, file.dir_id.as_str()))?;
        Ok(directory.and_then(|directory| directory.value.path).is_some_and(|path| File::is_trash_path(&path)))
    }

    /// Returns the path of a file or directory.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if its directory does not exist.
    pub fn path_of(&self, instance: &Instance, file: &File) -> Result<String> {
        if let Some(path) = &file.path {
            return Ok(path.clone());
        }
        let parent = self.get(instance, &file.dir_id)?;
        Ok(tree::join_path(parent.path.as_deref().unwrap_or("/"), &file.name))
    }
}

impl From<Stored<Self>> for File {
    fn from(stored: Stored<Self>) -> Self {
        Self { id: stored.id, rev: Some(stored.rev), ..stored.value }
    }
}
