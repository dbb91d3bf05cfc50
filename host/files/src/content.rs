//! Content of files: turns a finished blob into a visible file, in one commit.

use crate::precondition::RequireRev as _;
use konnector_store::{BlobInfo, Changes, Rev, VerifiedReader};
use serde_json::{Value, json};

use super::replace::Retention;
use super::{
    CHILDREN_INDEX, ContentRef, File, FileKind, Reference, child_key, instance_url, new_cozy_metadata,
    with_number_suffix,
};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::FILES;
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Object, Stored, new_id, retry_on_conflict, to_object};

/// Maximum number of names that are tried, up to `bill (100).pdf`, because each attempt is a look-up in the index.
const MAX_NAME_SUFFIX: u32 = 100;

/// Fields of `cozyMetadata` that belong to the content.
const UPLOAD_FIELDS: [&str; 3] = ["uploadedAt", "uploadedBy", "uploadedOn"];

/// A file that is to be created, or to get new content.
#[derive(Debug, Clone, PartialEq)]
pub struct NewContent {
    /// Document id.
    pub id: String,
    /// The revision that may be replaced; any if `None`.
    pub if_match: Option<Rev>,
    /// Id of the directory that contains it.
    pub dir_id: String,
    /// Name; a number is added if another file has it.
    pub name: String,
    /// Media type.
    pub mime: String,
    /// Creation time, if the creator states one.
    pub created_at: Option<chrono::DateTime<chrono::Utc>>,
    /// Time of the last change, if the creator states one; now otherwise.
    pub updated_at: Option<chrono::DateTime<chrono::Utc>>,
    /// The user's tags; `None` leaves the present ones.
    pub tags: Option<Vec<String>>,
    /// Whether the file is executable; `None` leaves it as it is.
    pub executable: Option<bool>,
    /// Whether the creator encrypted the content.
    pub encrypted: bool,
    /// `metadata` of the file.
    pub metadata: Object,
    /// Documents that the file belongs to, in addition to the present ones.
    pub references: Vec<Reference>,
    /// Additional fields of `cozyMetadata`.
    pub provenance: Object,
}

impl NewContent {
    /// Describes a file that does not exist yet.
    #[must_use]
    pub fn with_new_id(dir_id: String, name: String, mime: String) -> Self {
        Self::new(new_id(), dir_id, name, mime)
    }

    /// Describes content with only the required fields.
    #[must_use]
    pub fn new(id: String, dir_id: String, name: String, mime: String) -> Self {
        Self {
            id,
            if_match: None,
            dir_id,
            name,
            mime,
            created_at: None,
            updated_at: None,
            tags: None,
            executable: None,
            encrypted: false,
            metadata: Object::new(),
            references: Vec::new(),
            provenance: Object::new(),
        }
    }
}

impl Files {
    /// Creates a file from written content, or gives an existing file (same id) that content. The file keeps the name
    /// and place that the user gave it.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if a hundred names are taken.
    pub async fn commit_content(&self, instance: &Instance, new: &NewContent, blob: &BlobInfo) -> Result<File> {
        let document = instance.doc(&FILES, new.id.as_str());
        if let Some(found) = self.core.load::<File>(&document)? {
            return self.replace_content(instance, new, blob, found.require_rev(new.if_match.as_ref())?).await;
        }
        // Another request may take the name between the check and the commit.
        retry_on_conflict(|| async {
            let name = self.free_name(instance, &new.dir_id, &new.name)?;
            self.create_content(instance, new, &name, blob).await
        })
        .await
    }

    /// Creates a file with exactly this name from written content.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the name is taken.
    pub async fn create_content(
        &self,
        instance: &Instance,
        new: &NewContent,
        name: &str,
        blob: &BlobInfo,
    ) -> Result<File> {
        let mut file = self.new_file(instance, new, name, blob)?;
        let document = instance.doc(&FILES, file.id.as_str());
        let mut changes = Changes::new();
        changes.create(document.clone(), to_object(&file)?);
        changes.put_unique(&instance.id, CHILDREN_INDEX, child_key(&file.dir_id, &file.name), &file.id);
        file.rev = Some(self.core.commit_one(changes).await?);
        self.core.publish(&document, ChangeKind::Created, &file);
        Ok(file)
    }

    /// Replaces the content of a file; the former content may become a version. A file in the trash is moved back to
    /// where it would be created.
    pub(super) async fn replace_content(
        &self,
        instance: &Instance,
        new: &NewContent,
        blob: &BlobInfo,
        found: Stored<File>,
    ) -> Result<File> {
        let now = self.core.clock().now();
        let trashed = self.is_trashed(instance, &found.value)?;
        self.replace(instance, found, new.if_match.as_ref(), Retention::ByRule, |file, changes| {
            if trashed {
                changes.remove_unique(&instance.id, CHILDREN_INDEX, child_key(&file.dir_id, &file.name));
                file.name = self.free_name(instance, &new.dir_id, &new.name)?;
                file.dir_id.clone_from(&new.dir_id);
                file.clear_trash_fields();
                changes.put_unique(&instance.id, CHILDREN_INDEX, child_key(&file.dir_id, &file.name), &file.id);
            }
            file.set_content(blob, new.mime.clone());
            file.metadata.clone_from(&new.metadata);
            file.executable = new.executable.or(file.executable);
            file.encrypted = new.encrypted;
            if let Some(tags) = &new.tags {
                file.tags.clone_from(tags);
            }
            file.set_dates(new.created_at, new.updated_at, now)?;
            file.add_references(&new.references)?;
            file.record_upload(&new.provenance, now, &instance.domain);
            Ok(())
        })
        .await
    }

    /// Returns the name, with a number appended if it is taken.
    pub(super) fn free_name(&self, instance: &Instance, dir_id: &str, name: &str) -> Result<String> {
        for number in 1..=MAX_NAME_SUFFIX {
            let candidate = if number == 1 { name.to_owned() } else { with_number_suffix(name, number) };
            if self.child(instance, dir_id, &candidate)?.is_none() {
                return Ok(candidate);
            }
        }
        Err(Error::Conflict(format!(
            "'{name}' and its numbered variants up to ({MAX_NAME_SUFFIX}) are taken; choose another name"
        )))
    }

    fn new_file(&self, instance: &Instance, new: &NewContent, name: &str, blob: &BlobInfo) -> Result<File> {
        let now = self.core.clock().now();
        let mut cozy_metadata = new_cozy_metadata(now, &instance.domain);
        cozy_metadata.extend(new.provenance.clone());
        let mut file = File {
            id: new.id.clone(),
            rev: None,
            kind: FileKind::File,
            name: name.to_owned(),
            dir_id: new.dir_id.clone(),
            path: None,
            created_at: now,
            updated_at: now,
            tags: new.tags.clone().unwrap_or_default(),
            size: None,
            md5sum: None,
            mime: None,
            class: None,
            executable: Some(new.executable.unwrap_or_default()),
            encrypted: new.encrypted,
            trashed: false,
            restore_path: None,
            restore_name: None,
            metadata: new.metadata.clone(),
            referenced_by: new.references.clone(),
            cozy_metadata,
            content: None,
        };
        file.set_dates(new.created_at, new.updated_at, now)?;
        file.set_content(blob, new.mime.clone());
        file.record_upload(&new.provenance, now, &instance.domain);
        Ok(file)
    }

    /// Opens the content of a file for reading, and verifies the checksum during reading. The last bytes are returned
    /// only if the whole content is intact. The reader keeps that content even if the content of the file is replaced
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a directory; [`Error::Store`] if the content is missing or has a size other than the one
    /// that was written.
    pub async fn open_content(&self, file: &File) -> Result<VerifiedReader> {
        Ok(self.core.store().open_blob(&require_content(file)?.to_content_link()).await?)
    }

    /// Reads the whole content of a file that is known to be small.
    ///
    /// # Errors
    ///
    /// As [`Files::open_content`], and if the content is damaged.
    pub async fn read_content(&self, file: &File) -> Result<Vec<u8>> {
        Ok(self.core.store().read_blob(&require_content(file)?.to_content_link()).await?)
    }

    /// Returns whether the content of a file is intact. Reads it to the end.
    ///
    /// # Errors
    ///
    /// If the store fails in another way.
    pub async fn is_content_intact(&self, content: &ContentRef) -> Result<bool> {
        match self.core.store().verify_blob(&content.to_content_link()).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_blob_lost() => {
                tracing::error!(%error, "the content of a file is missing or damaged");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether a blob exists in its full length. The check is cheap.
    ///
    /// # Errors
    ///
    /// If the store fails in another way.
    pub async fn is_content_present(&self, content: &ContentRef) -> Result<bool> {
        match self.core.store().blobs().size(&content.blob).await {
            Ok(size) => Ok(size == content.size),
            Err(error) if error.is_blob_lost() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether the content of a file exists; always true for a directory.
    ///
    /// # Errors
    ///
    /// If the store fails in another way.
    pub async fn has_content(&self, file: &File) -> Result<bool> {
        match &file.content {
            Some(content) => self.is_content_present(content).await,
            None => Ok(true),
        }
    }

    /// Returns whether a file still has the content that was read.
    pub fn has_same_content(&self, instance: &Instance, file: &File) -> Result<bool> {
        let now = self.core.load::<File>(&instance.doc(&FILES, file.id.as_str()))?;
        Ok(now.is_some_and(|now| now.value.content == file.content))
    }
}

fn require_content(file: &File) -> Result<&ContentRef> {
    let none = || Error::NotFound(format!("'{}' is a directory and has no content", file.name));
    file.content.as_ref().ok_or_else(none)
}

/// Returns `uploadedBy` of a content; the app that creates a file also uploads its content.
fn uploader(origin: &Object) -> Option<Value> {
    if let Some(app) = origin.get("uploadedBy") {
        return Some(app.clone());
    }
    let mut app = Object::from_iter([("slug".to_owned(), origin.get("createdByApp")?.clone())]);
    if let Some(version) = origin.get("createdByAppVersion") {
        app.insert("version".to_owned(), version.clone());
    }
    Some(Value::Object(app))
}

impl File {
    /// Returns the slug of the app or konnector that wrote the present content, if known.
    pub(super) fn writer(&self) -> Option<&str> {
        let uploaded = self.cozy_metadata.get("uploadedBy").and_then(|app| app.get("slug"));
        uploaded.or_else(|| self.cozy_metadata.get("createdByApp"))?.as_str()
    }

    /// Returns the fields of `cozyMetadata` that state who uploaded the present content, when and where.
    pub(super) fn upload(&self) -> Object {
        let metadata = &self.cozy_metadata;
        let mut upload: Object =
            UPLOAD_FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), metadata.get(*name)?.clone()))).collect();
        if let Some(slug) = self.writer().filter(|_| !upload.contains_key("uploadedBy")) {
            upload.insert("uploadedBy".to_owned(), json!({ "slug": slug }));
        }
        upload
    }

    /// Applies the fields that [`File::upload`] returned for another content.
    pub(super) fn set_upload(&mut self, upload: &Object) {
        for name in UPLOAD_FIELDS {
            match upload.get(name) {
                Some(value) => self.cozy_metadata.insert(name.to_owned(), value.clone()),
                None => self.cozy_metadata.shift_remove(name),
            };
        }
    }

    /// Records an upload. The account that a file comes from is recorded only once (Cozy API, files).
    fn record_upload(&mut self, origin: &Object, now: chrono::DateTime<chrono::Utc>, domain: &str) {
        for name in ["sourceAccount", "sourceAccountIdentifier"] {
            if let Some(value) = origin.get(name)
                && !self.cozy_metadata.contains_key(name)
            {
                self.cozy_metadata.insert(name.to_owned(), value.clone());
            }
        }
        match uploader(origin) {
            Some(app) => self.cozy_metadata.insert("uploadedBy".to_owned(), app),
            // The writer of the former content did not write this one.
            None => self.cozy_metadata.shift_remove("uploadedBy"),
        };
        self.cozy_metadata.insert("uploadedAt".to_owned(), json!(now));
        self.cozy_metadata.insert("uploadedOn".to_owned(), json!(instance_url(domain)));
        self.touch(now);
    }
}
