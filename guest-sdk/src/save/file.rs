use chrono::NaiveDate;

use super::Metadata;
use super::metadata::midnight;
use crate::bindings::konnector::host::files::{Reference, Target};
use crate::http::FileSource;

/// A file to save below the account's folder.
#[derive(Debug)]
#[must_use = "a file is saved by `save_files`"]
pub struct File {
    pub(super) source: FileSource,
    folder: String,
    name: String,
    key: Option<String>,
    mime: Option<String>,
    created_on: Option<NaiveDate>,
    metadata: Metadata,
    references: Vec<Reference>,
    pub(super) overwrite: bool,
}

impl File {
    /// Creates a file with that name, from a URL, a request or bytes. The host replaces characters that a file name
    /// must not contain.
    pub fn new(name: impl Into<String>, source: impl Into<FileSource>) -> Self {
        Self {
            source: source.into(),
            folder: String::new(),
            name: name.into(),
            key: None,
            mime: None,
            created_on: None,
            metadata: Metadata::new(),
            references: Vec::new(),
            overwrite: false,
        }
    }

    /// Creates a file named after the last segment of its URL.
    pub fn from_source(source: impl Into<FileSource>) -> Self {
        let source = source.into();
        let name = source.name().unwrap_or_default().to_owned();
        Self::new(name, source)
    }

    /// Sets the folder of the file, as a path below the account's folder: `2026/invoices`.
    pub fn folder(mut self, folder: impl Into<String>) -> Self {
        self.folder = folder.into();
        self
    }

    /// Sets the key that identifies the file in later runs, even if the user moved it, for example the vendor's own
    /// number. The default is the folder and the name.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the media type; the default is detected from the content and the name.
    pub fn mime(mut self, mime: impl Into<String>) -> Self {
        self.mime = Some(mime.into());
        self
    }

    /// Sets the date that the user's files show for it.
    pub fn created_on(mut self, day: NaiveDate) -> Self {
        self.created_on = Some(day);
        self
    }

    /// Sets the metadata of the file.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Adds a reference to a document that it belongs to, for example the album of a photo.
    pub fn reference(mut self, doctype: impl Into<String>, id: impl Into<String>) -> Self {
        self.references.push(Reference { doctype: doctype.into(), id: id.into() });
        self
    }

    /// Stores the content even if the user has the file already. Use it if the content has changed.
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Returns the key, which by default consists of folder and name.
    pub(super) fn lookup_key(&self) -> String {
        self.key.clone().unwrap_or_else(|| self.label())
    }

    /// Returns the name of the file in a report.
    pub(super) fn label(&self) -> String {
        if self.folder.is_empty() { self.name.clone() } else { format!("{}/{}", self.folder, self.name) }
    }

    pub(super) fn target(&self) -> Target {
        Target {
            folder: self.folder.clone(),
            name: self.name.clone(),
            key: Some(self.lookup_key()),
            mime: self.mime.clone(),
            created_at: self.created_on.map(midnight),
            metadata: self.metadata.to_json(),
            references: self.references.clone(),
        }
    }
}
