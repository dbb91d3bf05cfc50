//! Content: from a finished blob to a visible file, in one commit.

use konnector_store::{BlobInfo, Changes, Rev, VerifiedReader};
use serde_json::{Value, json};

use super::replace::Retention;
use super::{
    CHILDREN_INDEX, ContentRef, File, FileKind, Reference, child_key, instance_url, new_cozy_metadata,
    with_number_suffix,
};
use crate::doctype::FILES;
use crate::instance::Instance;
use crate::realtime::ChangeKind;
use crate::stored::{Object, Stored, new_id, retry_on_conflict, to_object};
use crate::{Error, Platform, Result};

/// How many names are tried before giving up: `bill (100).pdf`.
const MAX_NAME_SUFFIX: u32 = 100;

/// Fields of `cozyMetadata` that go with the content.
const UPLOAD_FIELDS: [&str; 3] = ["uploadedAt", "uploadedBy", "uploadedOn"];

/// A file that is to be created, or to get new content.
#[derive(Debug, Clone, PartialEq)]
pub struct NewContent {
    /// Its id.
    pub id: String,
    /// The revision that may be replaced; any, where nothing is said.
    pub if_match: Option<Rev>,
    /// Directory it lies in.
    pub dir_id: String,
    /// Name; a number is added where it is taken by another file.
    pub name: String,
    /// Media type.
    pub mime: String,
    /// When it was created, if its maker knows.
    pub created_at: Option<chrono::DateTime<chrono::Utc>>,
    /// When it was last changed, if its maker knows; now otherwise.
    pub updated_at: Option<chrono::DateTime<chrono::Utc>>,
    /// The user's tags; those that it has, where none are given.
    pub tags: Option<Vec<String>>,
    /// Whether it is a program; as it was, where nothing is said.
    pub executable: Option<bool>,
    /// Whether its maker encrypted it.
    pub encrypted: bool,
    /// The file's `metadata`.
    pub metadata: Object,
    /// Documents that it belongs to, besides those that it has already.
    pub references: Vec<Reference>,
    /// More members of `cozyMetadata`.
    pub provenance: Object,
}

impl NewContent {
    /// For a file that there is not yet.
    #[must_use]
    pub fn with_new_id(dir_id: String, name: String, mime: String) -> Self {
        Self::new(new_id(), dir_id, name, mime)
    }

    /// With nothing said but what must be.
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

impl Platform {
    /// Creates a file from content that was written, or gives an existing file (same id) that content. The file keeps its name and place
    /// where the user moved it to.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when a hundred names are taken.
    pub(crate) async fn commit_content(&self, instance: &Instance, new: &NewContent, blob: &BlobInfo) -> Result<File> {
        let at = instance.doc(&FILES, new.id.as_str());
        if let Some(found) = self.load::<File>(&at)? {
            return self.replace_content(instance, new, blob, found.require_rev(new.if_match.as_ref())?).await;
        }
        // Somebody else may take the name between the look and the commit.
        retry_on_conflict(|| async {
            let name = self.free_name(instance, &new.dir_id, &new.name)?;
            self.create_content(instance, new, &name, blob).await
        })
        .await
    }

    /// Creates a file with exactly this name from content that was written.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when the name is taken.
    pub(crate) async fn create_content(
        &self,
        instance: &Instance,
        new: &NewContent,
        name: &str,
        blob: &BlobInfo,
    ) -> Result<File> {
        let mut file = self.new_file(instance, new, name, blob)?;
        let at = instance.doc(&FILES, file.id.as_str());
        let mut changes = Changes::new();
        changes.create(at.clone(), to_object(&file)?);
        changes.put_unique(&instance.id, CHILDREN_INDEX, child_key(&file.dir_id, &file.name), &file.id);
        file.rev = Some(self.commit_one(changes).await?);
        self.publish(&at, ChangeKind::Created, &file);
        Ok(file)
    }

    /// New content for a file that is there; the former one may become a version. One that lies in the trash comes back to where it would be created.
    async fn replace_content(
        &self,
        instance: &Instance,
        new: &NewContent,
        blob: &BlobInfo,
        found: Stored<File>,
    ) -> Result<File> {
        let now = self.clock.now();
        let trashed = self.file(instance, &found.id)?.trashed;
        self.replace_file(instance, found, new.if_match.as_ref(), Retention::ByRule, |file, changes| {
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

    /// The name, with a number where it is taken.
    pub(super) fn free_name(&self, instance: &Instance, dir_id: &str, name: &str) -> Result<String> {
        for number in 1..=MAX_NAME_SUFFIX {
            let candidate = if number == 1 { name.to_owned() } else { with_number_suffix(name, number) };
            if self.child(instance, dir_id, &candidate)?.is_none() {
                return Ok(candidate);
            }
        }
        Err(Error::Conflict(format!("{MAX_NAME_SUFFIX} files are called '{name}' already")))
    }

    fn new_file(&self, instance: &Instance, new: &NewContent, name: &str, blob: &BlobInfo) -> Result<File> {
        let now = self.clock.now();
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

    /// The content of a file, compared with its checksum while it is read: the last bytes come only where the whole is what was written. What
    /// is read stays that content, also when the file gets another one meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a directory; [`Error::Store`] when the content is missing or has another size than was written.
    pub async fn open_content(&self, file: &File) -> Result<VerifiedReader> {
        Ok(self.store.open_blob(&require_content(file)?.to_content_link()).await?)
    }

    /// The whole content of a file that is known to be small.
    ///
    /// # Errors
    ///
    /// As [`Platform::content`], and when the content is damaged.
    pub async fn read_content(&self, file: &File) -> Result<Vec<u8>> {
        Ok(self.store.read_blob(&require_content(file)?.to_content_link()).await?)
    }

    /// Whether the content of a file is there as it was written. Reads it to the end.
    ///
    /// # Errors
    ///
    /// When the store fails in another way.
    pub(crate) async fn is_content_intact(&self, content: &ContentRef) -> Result<bool> {
        match self.store.verify_blob(&content.to_content_link()).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_blob_lost() => {
                tracing::error!(%error, "a content is not what was written");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a content is there in its whole length, which costs next to nothing to know.
    ///
    /// # Errors
    ///
    /// When the store fails in another way.
    pub(crate) async fn is_content_present(&self, content: &ContentRef) -> Result<bool> {
        match self.store.blobs().size(&content.blob).await {
            Ok(size) => Ok(size == content.size),
            Err(error) if error.is_blob_lost() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the content of a file is there; a directory lacks none.
    ///
    /// # Errors
    ///
    /// When the store fails in another way.
    pub async fn has_content(&self, file: &File) -> Result<bool> {
        match &file.content {
            Some(content) => self.is_content_present(content).await,
            None => Ok(true),
        }
    }

    /// Whether a file still has the content that was read of it.
    pub(crate) fn has_same_content(&self, instance: &Instance, file: &File) -> Result<bool> {
        let now = self.load::<File>(&instance.doc(&FILES, file.id.as_str()))?;
        Ok(now.is_some_and(|now| now.value.content == file.content))
    }
}

fn require_content(file: &File) -> Result<&ContentRef> {
    let none = || Error::NotFound(format!("'{}' is a directory and has no content", file.name));
    file.content.as_ref().ok_or_else(none)
}

/// `uploadedBy` of a content; the app that creates a file uploads its content, too.
fn uploader(origin: &Object) -> Option<Value> {
    if let Some(by) = origin.get("uploadedBy") {
        return Some(by.clone());
    }
    let mut by = Object::from_iter([("slug".to_owned(), origin.get("createdByApp")?.clone())]);
    if let Some(version) = origin.get("createdByAppVersion") {
        by.insert("version".to_owned(), version.clone());
    }
    Some(Value::Object(by))
}

impl File {
    /// Slug of the app or konnector that wrote the present content, if known.
    pub(super) fn writer(&self) -> Option<&str> {
        let uploaded = self.cozy_metadata.get("uploadedBy").and_then(|by| by.get("slug"));
        uploaded.or_else(|| self.cozy_metadata.get("createdByApp"))?.as_str()
    }

    /// Who uploaded the present content, when and where: fields of `cozyMetadata`.
    pub(super) fn upload(&self) -> Object {
        let metadata = &self.cozy_metadata;
        let mut upload: Object =
            UPLOAD_FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), metadata.get(*name)?.clone()))).collect();
        if let Some(slug) = self.writer().filter(|_| !upload.contains_key("uploadedBy")) {
            upload.insert("uploadedBy".to_owned(), json!({ "slug": slug }));
        }
        upload
    }

    /// Takes over what [`File::upload`] returned for another content.
    pub(super) fn set_upload(&mut self, upload: &Object) {
        for name in UPLOAD_FIELDS {
            match upload.get(name) {
                Some(value) => self.cozy_metadata.insert(name.to_owned(), value.clone()),
                None => self.cozy_metadata.shift_remove(name),
            };
        }
    }

    /// Notes that content came. Which account a file is from is said once (Cozy API, files).
    fn record_upload(&mut self, origin: &Object, now: chrono::DateTime<chrono::Utc>, domain: &str) {
        for name in ["sourceAccount", "sourceAccountIdentifier"] {
            if let Some(value) = origin.get(name)
                && !self.cozy_metadata.contains_key(name)
            {
                self.cozy_metadata.insert(name.to_owned(), value.clone());
            }
        }
        match uploader(origin) {
            Some(by) => self.cozy_metadata.insert("uploadedBy".to_owned(), by),
            // Whoever wrote the former content did not write this one.
            None => self.cozy_metadata.shift_remove("uploadedBy"),
        };
        self.cozy_metadata.insert("uploadedAt".to_owned(), json!(now));
        self.cozy_metadata.insert("uploadedOn".to_owned(), json!(instance_url(domain)));
        self.touch(now);
    }
}
