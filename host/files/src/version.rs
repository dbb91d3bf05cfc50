//! Former contents of a file, `io.cozy.files.versions`: which of them are stored, and how to revert to one.
//!
//! Each content has one owner: a file or a version. A commit that replaces a content hands the former one over to a
//! version.

use crate::precondition::RequireRev as _;
use chrono::{DateTime, Utc};
use konnector_store::{Changes, Links, Rev};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::patch::unique_tags;
use super::replace::{Retention, VersionEffects};
use super::{ContentRef, File, NewContent, file_class};
use crate::Files;
use crate::{Error, Result};
use konnector_documents::doctype::{FILES, VERSIONS};
use konnector_documents::instance::Instance;
use konnector_documents::stored::{Object, Stored};

/// Number of versions that are deleted in one commit.
const DELETE_BATCH_SIZE: usize = 100;
/// Number of versions that are read at a time; most files have none.
const PAGE_SIZE: usize = 5;

/// A former content of a file, as stored in its document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Document id: that of the file, a slash, and the revision that the file had with this content.
    #[serde(skip)]
    pub id: String,
    /// Revision that was read.
    #[serde(skip)]
    pub rev: Option<Rev>,
    /// Id of the file.
    pub file_id: String,
    /// When the file with this content was last changed.
    pub updated_at: DateTime<Utc>,
    /// Size in bytes, as a string.
    pub size: String,
    /// MD5 of the content in base64.
    pub md5sum: String,
    /// Media type.
    pub mime: String,
    /// The file's tags then; a version that has tags is never deleted automatically.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether the creator encrypted the content.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// Metadata from the creator of the content.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub metadata: Object,
    /// Who uploaded the content, and when; `createdAt` is when the content became a version.
    #[serde(rename = "cozyMetadata")]
    pub cozy_metadata: Object,
    /// The file, in the form that clients expect.
    pub relationships: Object,
    /// Blob of the content.
    #[serde(rename = "_content")]
    pub content: ContentRef,
}

impl Version {
    /// Builds a version from the content of a file that is about to be replaced. `None` for a directory.
    pub(super) fn from_file(file: &File, rev: &Rev, now: DateTime<Utc>) -> Option<Self> {
        let mut cozy_metadata = super::new_cozy_metadata(now, "");
        cozy_metadata.shift_remove("createdOn");
        cozy_metadata.insert("uploadedAt".to_owned(), json!(file.updated_at));
        cozy_metadata.extend(file.upload());
        let related = json!({ "data": { "_id": file.id, "_type": FILES.as_str() } });
        Some(Self {
            id: format!("{}/{rev}", file.id),
            rev: None,
            file_id: file.id.clone(),
            updated_at: file.updated_at,
            size: file.size.clone().unwrap_or_default(),
            md5sum: file.md5sum.clone().unwrap_or_default(),
            mime: file.mime.clone().unwrap_or_default(),
            tags: file.tags.clone(),
            encrypted: file.encrypted,
            metadata: file.metadata.clone(),
            cozy_metadata,
            relationships: Object::from_iter([("file".to_owned(), related)]),
            content: file.content.clone()?,
        })
    }

    /// Returns when the content became a version.
    pub(super) fn versioned_at(&self) -> Option<DateTime<Utc>> {
        self.cozy_metadata.get("createdAt")?.as_str()?.parse().ok()
    }

    /// Returns the file with this content and its former metadata.
    #[must_use]
    pub fn apply_to(self, file: File) -> File {
        let mut file = File {
            updated_at: self.updated_at,
            size: Some(self.size),
            md5sum: Some(self.md5sum),
            class: Some(file_class(&self.mime).to_owned()),
            mime: Some(self.mime),
            tags: self.tags,
            encrypted: self.encrypted,
            metadata: self.metadata,
            content: Some(self.content),
            ..file
        };
        file.set_upload(&self.cozy_metadata);
        file
    }

    /// Returns the links of the version's document.
    pub fn links(&self) -> Links {
        Links { blobs: vec![self.content.to_content_link()], unique_keys: Vec::new() }
    }
}

impl From<Stored<Self>> for Version {
    fn from(stored: Stored<Self>) -> Self {
        Self { id: stored.id, rev: Some(stored.rev), ..stored.value }
    }
}

impl Files {
    /// Lists the versions of a file, the newest first.
    pub fn versions(&self, instance: &Instance, file_id: &str) -> Result<Vec<Version>> {
        let prefix = format!("{file_id}/");
        let mut versions = Vec::new();
        let mut after = prefix.clone();
        loop {
            let page = self.core.store().list(&instance.id, &VERSIONS, Some(&after), PAGE_SIZE)?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            let (read, own) = (page.len(), page.into_iter().take_while(|document| document.id.starts_with(&prefix)));
            let before = versions.len();
            for document in own {
                versions.push(Version::from(Stored::from_document(&VERSIONS, document)?));
            }
            if versions.len() - before < read {
                break;
            }
        }
        versions.sort_by_key(|version| std::cmp::Reverse(version.versioned_at()));
        Ok(versions)
    }

    /// Returns a version by its id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no version has this id.
    pub fn version(&self, instance: &Instance, id: &str) -> Result<Version> {
        let found = self.core.load::<Version>(&instance.doc(&VERSIONS, id))?;
        found.map(Version::from).ok_or_else(|| Error::NotFound(format!("there is no version '{id}'")))
    }

    /// Reverts a file to the content of one of its versions; the present one becomes a version, regardless of its age.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the file does not exist; [`Error::BadRequest`] if it is in the trash;
    /// [`Error::PreconditionFailed`] if the file was changed since it was seen.
    pub async fn revert(&self, instance: &Instance, version: Version, seen: Option<&Rev>) -> Result<File> {
        let id = version.file_id.clone();
        let missing = || Error::NotFound(format!("there is no file '{id}'"));
        let found =
            self.core.load::<File>(&instance.doc(&FILES, id.as_str()))?.ok_or_else(missing)?.require_rev(seen)?;
        if self.is_trashed(instance, &found.value)? {
            return Err(Error::BadRequest(format!("'{id}' is in the trash; restore it first")));
        }
        // A file does not get content that cannot be read.
        self.core.store().verify_blob(&version.content.to_content_link()).await?;
        let now = self.core.clock().now();
        let keep = Retention::Reverting(Box::new(version.clone()));
        self.replace(instance, found, seen, keep, |file, _| {
            *file = version.apply_to(file.clone());
            file.touch(now);
            Ok(())
        })
        .await
    }

    /// Sets the `metadata` of a file, and saves its former state as a version, as if the same content had been uploaded
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not a file, or in the trash; [`Error::PreconditionFailed`] if it was changed since
    /// it was seen; [`Error::TooLarge`] if the quota leaves no room.
    pub async fn annotate(
        &self,
        instance: &Instance,
        id: &str,
        seen: Option<Rev>,
        metadata: Object,
        origin: Object,
    ) -> Result<File> {
        let file = self.get(instance, id)?;
        let blob = self.copy_content(instance, &file).await?;
        let mime = file.mime.clone().unwrap_or_default();
        let new = NewContent {
            if_match: seen,
            metadata,
            provenance: origin,
            encrypted: file.encrypted,
            ..NewContent::new(file.id, file.dir_id, file.name, mime)
        };
        self.overwrite(instance, &new, &blob).await
    }

    /// Sets the tags of a version; one with tags is never deleted automatically.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no version has this id; [`Error::InvalidAttribute`] for too many tags.
    pub async fn tag_version(&self, instance: &Instance, id: &str, tags: &[String]) -> Result<Version> {
        let document = instance.doc(&VERSIONS, id);
        let tagged = self.core.modify::<Version, _>(&document, |version, _| {
            version.tags = unique_tags(tags)?;
            Ok(true)
        });
        tagged.await?;
        self.version(instance, id)
    }

    /// Deletes a version.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it was changed or deleted meanwhile.
    pub async fn delete_version(&self, instance: &Instance, version: Version) -> Result<()> {
        self.delete_version_batch(instance, vec![version]).await
    }

    /// Deletes the versions of all files.
    ///
    /// Cancel safety: versions that were deleted so far stay deleted.
    ///
    /// # Errors
    ///
    /// As [`Files::delete_version`].
    pub async fn delete_versions(&self, instance: &Instance) -> Result<()> {
        loop {
            let page = self.core.store().list(&instance.id, &VERSIONS, None, DELETE_BATCH_SIZE)?;
            if page.is_empty() {
                return Ok(());
            }
            let read = |document| Stored::<Version>::from_document(&VERSIONS, document).map(Version::from);
            self.delete_version_batch(instance, page.into_iter().map(read).collect::<Result<_>>()?).await?;
        }
    }

    async fn delete_version_batch(&self, instance: &Instance, versions: Vec<Version>) -> Result<()> {
        let (mut changes, mut removed) = (Changes::new(), VersionEffects::default());
        self.stage_delete_versions(instance, versions, &mut changes, &mut removed)?;
        self.core.commit(changes).await?;
        self.finish_version_changes(removed).await;
        Ok(())
    }
}
