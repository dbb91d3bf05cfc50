//! The interface `files` in the host's own types. Folders are paths below the account's folder, `/`-separated.

use async_trait::async_trait;
use bytes::Bytes;

use super::{CapabilityError, Locator, Object, SaveOutcome};

/// Metadata of a stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Id of the file's document.
    pub id: String,
    /// Path in the user's files.
    pub path: String,
    /// Size of the content in bytes.
    pub size: u64,
    /// Media type.
    pub mime: String,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// A folder in the user's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Id of the folder's document.
    pub id: String,
    /// Path in the user's files.
    pub path: String,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File(File),
    /// A folder.
    Folder(Folder),
}

/// One page of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Entries, sorted by name.
    pub entries: Vec<Entry>,
    /// Cursor of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

/// A document that a file belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Doctype of the document.
    pub doctype: String,
    /// Id of the document.
    pub id: String,
}

/// Attributes of a file or folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// The file or folder.
    pub entry: Entry,
    /// Creation date in milliseconds since 1970.
    pub created_at: i64,
    /// Date of the last change in milliseconds since 1970.
    pub updated_at: i64,
    /// The field `metadata` of the document.
    pub metadata: Object,
    /// The documents that the file or folder belongs to.
    pub references: Vec<Reference>,
}

/// Destination and attributes of a new file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// Path of the folder below the account's folder.
    pub folder: String,
    /// File name, not yet sanitised.
    pub name: String,
    /// Natural key, by which later runs find the file.
    pub key: Option<String>,
    /// Media type.
    pub mime: Option<String>,
    /// Creation date in milliseconds since 1970.
    pub created_at: Option<i64>,
    /// The field `metadata` of the new file.
    pub metadata: Object,
    /// References to add.
    pub references: Vec<Reference>,
}

/// A file that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFile {
    /// The stored file.
    pub file: File,
    /// Effect of the write.
    pub outcome: SaveOutcome,
}

/// The WIT interface `files`. Every method checks the manifest's rules; every write is durable when it returns.
#[async_trait]
pub trait Files: Send + Sync {
    /// Fails if `begin_upload` would fail for any target.
    async fn check_save(&self) -> Result<(), CapabilityError>;
    /// Returns the files with these keys that are not in the trash, in the order of the keys.
    async fn lookup(&self, keys: Vec<String>) -> Result<Vec<Option<File>>, CapabilityError>;
    /// Begins an upload. Immediately rejects a target that the rules or the name forbid.
    async fn begin_upload(&self, target: Target) -> Result<Box<dyn Upload>, CapabilityError>;
    /// Opens the current content of a file.
    async fn open(&self, locator: &Locator) -> Result<Box<dyn OpenFile>, CapabilityError>;
    /// Returns the attributes of a file or folder.
    async fn describe(&self, locator: &Locator) -> Result<Details, CapabilityError>;
    /// Sets fields of a file's `metadata`, and removes those that are null (RFC 7396).
    async fn merge_metadata(&self, locator: &Locator, patch: Object) -> Result<(), CapabilityError>;
    /// Adds references that the file or folder does not have.
    async fn add_references(&self, locator: &Locator, references: Vec<Reference>) -> Result<(), CapabilityError>;
    /// Removes references that the file or folder has.
    async fn remove_references(&self, locator: &Locator, references: Vec<Reference>) -> Result<(), CapabilityError>;
    /// Moves and renames a file below the account's folder.
    async fn move_file(&self, locator: &Locator, folder: &str, name: &str) -> Result<File, CapabilityError>;
    /// Moves files to the trash; returns the number of files that existed.
    async fn trash(&self, locators: Vec<Locator>) -> Result<u32, CapabilityError>;
    /// Returns the folder, creating it if it does not exist.
    async fn ensure_folder(&self, folder: &str) -> Result<Folder, CapabilityError>;
    /// Returns a page of a folder's entries; `limit` is 1 to 1,000.
    async fn list_folder(&self, folder: &str, limit: u32, cursor: Option<String>) -> Result<Listing, CapabilityError>;
}

/// An unfinished upload. Dropping it discards the content.
#[async_trait]
pub trait Upload: Send {
    /// Appends a chunk.
    async fn write(&mut self, chunk: Bytes) -> Result<(), CapabilityError>;
    /// Makes the content visible as a whole; durable when it returns.
    async fn commit(self: Box<Self>) -> Result<SavedFile, CapabilityError>;
}

/// One snapshot of a file's content.
#[async_trait]
pub trait OpenFile: Send {
    /// Size of the content in bytes.
    fn size(&self) -> u64;
    /// Reads at most `max` bytes from `offset`; returns none at or after the end.
    ///
    /// Cancel-safe: dropping a call does not affect the next one.
    async fn read(&mut self, offset: u64, max: u32) -> Result<Bytes, CapabilityError>;
}
