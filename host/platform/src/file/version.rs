//! Former contents of a file, `io.cozy.files.versions`: what is kept of them, and the way back to one.
//!
//! Each content has one owner: a file or a version. What replaces a content hands the former one over to a version in the same commit.

use chrono::{DateTime, TimeDelta, Utc};
use konnector_store::{Changes, ContentLink, DocRef, Links, Rev};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::patch::unique;
use super::{Content, File, Kind, class};
use crate::doctype::{FILES, VERSIONS};
use crate::instance::Instance;
use crate::realtime::Happened;
use crate::stored::{Object, Stored, object};
use crate::{Error, Platform, Result};

/// Contents of a file, the present one among them (cozy-stack, `max_number_of_versions_to_keep`). Versions with tags may make it more.
const MOST: usize = 20;
/// A content that replaces another one sooner than this after the last version was made leaves no version, unless it has tags
/// (cozy-stack, `min_delay_between_two_versions`).
const APART: TimeDelta = TimeDelta::minutes(15);

/// A former content of a file, as its document holds it.
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
    /// When the file was last changed then.
    pub updated_at: DateTime<Utc>,
    /// Bytes, as a text.
    pub size: String,
    /// MD5 of the content in base64.
    pub md5sum: String,
    /// Media type.
    pub mime: String,
    /// The file's tags then; a version that has some is kept.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether its maker encrypted the content.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// What the maker of the content said of it.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub metadata: Object,
    /// Who uploaded it and when; `createdAt` is when it became a version.
    #[serde(rename = "cozyMetadata")]
    pub cozy_metadata: Object,
    /// The file, as clients look for it.
    pub relationships: Object,
    /// Where the content lies.
    #[serde(rename = "_content")]
    pub content: Content,
}

impl Version {
    /// The content that a file has, which is about to be replaced. `None` for a directory.
    fn of(file: &File, rev: &Rev, now: DateTime<Utc>) -> Option<Self> {
        let uploads = ["uploadedAt", "uploadedBy", "uploadedOn"];
        let mut cozy_metadata = super::made(now, "");
        cozy_metadata.shift_remove("createdOn");
        cozy_metadata.insert("uploadedAt".to_owned(), json!(file.updated_at));
        cozy_metadata.extend(
            uploads.iter().filter_map(|name| Some(((*name).to_owned(), file.cozy_metadata.get(*name)?.clone()))),
        );
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

    /// When it became a version.
    fn made_at(&self) -> Option<DateTime<Utc>> {
        self.cozy_metadata.get("createdAt")?.as_str()?.parse().ok()
    }

    /// The file with this content and what was said of it, as it was.
    #[must_use]
    pub fn restored(self, file: File) -> File {
        let mut file = File {
            updated_at: self.updated_at,
            size: Some(self.size),
            md5sum: Some(self.md5sum),
            class: Some(class(&self.mime).to_owned()),
            mime: Some(self.mime),
            tags: self.tags,
            encrypted: self.encrypted,
            metadata: self.metadata,
            content: Some(self.content),
            ..file
        };
        for name in ["uploadedAt", "uploadedBy", "uploadedOn"] {
            match self.cozy_metadata.get(name) {
                Some(value) => file.cozy_metadata.insert(name.to_owned(), value.clone()),
                None => file.cozy_metadata.shift_remove(name),
            };
        }
        file
    }

    /// What its document refers to.
    pub(crate) fn links(&self) -> Links {
        let Content { blob, sha256, size } = self.content.clone();
        let content = ContentLink { blob, size: Some(size), sha256: Some(sha256) };
        Links { contents: vec![content], unique: Vec::new() }
    }
}

impl Stored<Version> {
    fn named(self) -> Version {
        Version { id: self.id, rev: Some(self.rev), ..self.value }
    }
}

/// Whether a replaced content becomes a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// As the last version is old enough, or tags say.
    ByAge,
    /// Whatever its age.
    Always,
}

/// What the replacement of a content leaves to do once it is committed.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    freed: Vec<Content>,
    happened: Vec<(DocRef, Happened, Object)>,
}

/// Whether the content that is replaced now is kept, and which versions go; `versions` are in the order of their making.
fn outdated(versions: Vec<Version>, tagged: bool, keep: Keep, now: DateTime<Utc>) -> (bool, Vec<Version>) {
    let last = versions.last().and_then(Version::made_at);
    let keep = tagged || keep == Keep::Always || last.is_none_or(|last| now - last >= APART);
    let over = (versions.len() + usize::from(keep) + 1).saturating_sub(MOST);
    (keep, versions.into_iter().filter(|version| version.tags.is_empty()).take(over).collect())
}

impl Platform {
    /// The versions of a file, the newest first.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn versions(&self, instance: &Instance, file_id: &str) -> Result<Vec<Version>> {
        let prefix = format!("{file_id}/");
        let mut versions = Vec::new();
        let mut after = prefix.clone();
        loop {
            let page = self.store.list(&instance.id, &VERSIONS, Some(&after), 2 * MOST)?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            let (read, own) = (page.len(), page.into_iter().take_while(|document| document.id.starts_with(&prefix)));
            let before = versions.len();
            for document in own {
                versions.push(Stored::<Version>::read(&VERSIONS, document)?.named());
            }
            if versions.len() - before < read {
                break;
            }
        }
        versions.sort_by_key(|version| std::cmp::Reverse(version.made_at()));
        Ok(versions)
    }

    /// A version by its id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub fn version(&self, instance: &Instance, id: &str) -> Result<Version> {
        let found = self.stored::<Version>(&instance.doc(&VERSIONS, id))?;
        found.map(Stored::<Version>::named).ok_or_else(|| Error::NotFound(format!("there is no version '{id}'")))
    }

    /// Replaces the content of a file, and whatever else `change` does to it, in one commit; the former content becomes a version or is
    /// removed. `change` answers how many bytes of the new content no file or version had before.
    pub(super) async fn replace(
        &self,
        instance: &Instance,
        found: Stored<File>,
        seen: Option<&Rev>,
        keep: Keep,
        change: impl FnOnce(&mut File, &mut Changes) -> Result<u64> + Send,
    ) -> Result<File> {
        let rev = found.rev.clone();
        let mut file = found.named();
        let (before, mut changes, mut others) = (file.clone(), Changes::new(), Changes::new());
        let added = change(&mut file, &mut others)?;
        let replaced = self.stage_replaced(instance, &before, &rev, keep, &mut others)?;
        let at = instance.doc(&FILES, file.id.as_str());
        changes.put(at.clone(), &rev, object(&file)?).then(others);
        file.rev = Some(self.commit_seen(&at, seen, changes).await?);
        self.publish(&at, Happened::Updated, object(&file)?);
        self.finish_replaced(instance, replaced, added).await?;
        Ok(file)
    }

    /// Hands the content that a file had over to a version, or gives it up, and those that are too many.
    fn stage_replaced(
        &self,
        instance: &Instance,
        file: &File,
        rev: &Rev,
        keep: Keep,
        changes: &mut Changes,
    ) -> Result<Replaced> {
        let now = self.clock.now();
        let Some(version) = Version::of(file, rev, now) else { return Ok(Replaced::default()) };
        let mut versions = self.versions(instance, &file.id)?;
        versions.reverse();
        let (keep, gone) = outdated(versions, !file.tags.is_empty(), keep, now);
        let mut replaced = self.stage_removed(instance, gone, changes)?;
        if keep {
            let (at, body) = (instance.doc(&VERSIONS, version.id.as_str()), object(&version)?);
            changes.create(at.clone(), body.clone());
            replaced.happened.push((at, Happened::Created, body));
        } else {
            replaced.freed.push(version.content);
        }
        Ok(replaced)
    }

    /// Deletes versions with their contents.
    fn stage_removed(
        &self,
        instance: &Instance,
        versions: impl IntoIterator<Item = Version>,
        changes: &mut Changes,
    ) -> Result<Replaced> {
        let mut replaced = Replaced::default();
        for version in versions {
            let (at, body) = (instance.doc(&VERSIONS, version.id.as_str()), object(&version)?);
            let Some(rev) = &version.rev else { continue };
            changes.delete(at.clone(), rev);
            replaced.happened.push((at, Happened::Deleted, body));
            replaced.freed.push(version.content);
        }
        Ok(replaced)
    }

    /// Removes the contents that were given up, once the commit is durable.
    async fn finish_replaced(&self, instance: &Instance, replaced: Replaced, added: u64) -> Result<()> {
        let freed = replaced.freed.iter().map(|content| content.size).sum();
        self.usage.account(&instance.id, freed, added);
        for (at, happened, body) in replaced.happened {
            self.publish(&at, happened, body);
        }
        for content in replaced.freed {
            self.store.blobs().remove(&content.blob).await?;
        }
        Ok(())
    }

    /// Gives a file the content of one of its versions; the present one becomes a version, whatever its age.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::BadRequest`] for what is in the trash; [`Error::Precondition`] when the file was changed since it was
    /// seen.
    pub async fn revert_file(&self, instance: &Instance, version: Version, seen: Option<&Rev>) -> Result<File> {
        let id = version.file_id.clone();
        if self.file(instance, &id)?.trashed {
            return Err(Error::BadRequest(format!("'{id}' is in the trash; restore it first")));
        }
        let missing = || Error::NotFound(format!("there is no file '{id}'"));
        let found = self.stored::<File>(&instance.doc(&FILES, id.as_str()))?.ok_or_else(missing)?.seen_at(seen)?;
        let (at, now) = (instance.doc(&VERSIONS, version.id.as_str()), self.clock.now());
        let body = object(&version)?;
        let reverted = self.replace(instance, found, seen, Keep::Always, |file, changes| {
            if let Some(rev) = &version.rev {
                changes.delete(at.clone(), rev);
            }
            *file = version.restored(file.clone());
            file.touch(now);
            Ok(0)
        });
        let reverted = reverted.await?;
        self.publish(&at, Happened::Deleted, body);
        Ok(reverted)
    }

    /// Gives a file other `metadata`, and keeps what it was as a version: as if the same content had been uploaded again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for what is no file, or in the trash; [`Error::Precondition`] when it was changed since it was seen;
    /// [`Error::TooLarge`] when the quota leaves no room.
    pub async fn annotate_file(
        &self,
        instance: &Instance,
        id: &str,
        seen: Option<Rev>,
        metadata: Object,
        origin: Object,
    ) -> Result<File> {
        let file = self.file(instance, id)?;
        let blob = self.copy_content(instance, &file).await?;
        let mime = file.mime.clone().unwrap_or_default();
        let new = super::NewContent {
            seen,
            metadata,
            origin,
            encrypted: file.encrypted,
            ..super::NewContent::new(file.id, file.dir_id, file.name, mime)
        };
        self.overwrite_file(instance, &new, &blob).await
    }

    /// Gives a version other tags; one with tags is kept.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn tag_version(&self, instance: &Instance, id: &str, tags: &[String]) -> Result<Version> {
        let at = instance.doc(&VERSIONS, id);
        let tagged = self.modify::<Version, _>(&at, |version, _| {
            version.tags = unique(tags);
            Ok(true)
        });
        tagged.await?;
        self.version(instance, id)
    }

    /// Deletes a version.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when it was changed or deleted meanwhile.
    pub async fn delete_version(&self, instance: &Instance, version: Version) -> Result<()> {
        self.delete_these(instance, vec![version]).await
    }

    /// Deletes the versions of every file.
    ///
    /// Cancel safety: what was deleted is gone.
    ///
    /// # Errors
    ///
    /// As [`Platform::delete_version`].
    pub async fn delete_versions(&self, instance: &Instance) -> Result<()> {
        loop {
            let page = self.store.list(&instance.id, &VERSIONS, None, 5 * MOST)?;
            if page.is_empty() {
                return Ok(());
            }
            let read = |document| Stored::<Version>::read(&VERSIONS, document).map(Stored::<Version>::named);
            self.delete_these(instance, page.into_iter().map(read).collect::<Result<_>>()?).await?;
        }
    }

    async fn delete_these(&self, instance: &Instance, versions: Vec<Version>) -> Result<()> {
        let mut changes = Changes::new();
        let removed = self.stage_removed(instance, versions, &mut changes)?;
        self.commit(changes).await?;
        self.finish_replaced(instance, removed, 0).await
    }

    /// Deletes the versions of files that are deleted; no commit holds more than those of one file.
    pub(super) async fn delete_versions_of(&self, instance: &Instance, file: &File) -> Result<()> {
        if file.kind == Kind::Directory {
            return Ok(());
        }
        let versions = self.versions(instance, &file.id)?;
        if versions.is_empty() { Ok(()) } else { self.delete_these(instance, versions).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions made so many minutes ago; a tagged one is negative.
    fn versions(ago: &[i64]) -> Vec<Version> {
        let file = File::directory("f", "d", "n", "/n", DateTime::UNIX_EPOCH, "alice.example");
        let blob = uuid::Uuid::nil().into();
        let content = Content { blob, sha256: String::new(), size: 0 };
        let file = File { kind: Kind::File, content: Some(content), ..file };
        let make = |minutes: &i64| {
            let made = now() - TimeDelta::minutes(minutes.abs());
            let rev = "1-00000000000000000000000000000000".parse().expect("a revision");
            let tags = if *minutes < 0 { vec!["kept".to_owned()] } else { Vec::new() };
            Version { tags, ..Version::of(&file, &rev, made).expect("a file") }
        };
        ago.iter().map(make).collect()
    }

    fn now() -> DateTime<Utc> {
        "2026-11-20T12:00:00Z".parse().expect("a date")
    }

    #[test]
    fn what_is_kept() {
        let many: Vec<i64> = (1..=25).rev().map(|number| number * 20).collect();
        let mut tagged = many.clone();
        for minutes in &mut tagged[..10] {
            *minutes = -*minutes;
        }
        let table = [
            (vec![], false, Keep::ByAge, true, 0),
            (vec![14], false, Keep::ByAge, false, 0),
            (vec![15], false, Keep::ByAge, true, 0),
            (vec![14], true, Keep::ByAge, true, 0),
            (vec![14], false, Keep::Always, true, 0),
            (many[7..].to_vec(), false, Keep::ByAge, true, 0),
            (many[6..].to_vec(), false, Keep::ByAge, true, 1),
            (many.clone(), false, Keep::ByAge, true, 7),
            (many[..24].iter().copied().chain([1]).collect(), false, Keep::ByAge, false, 6),
            (tagged, false, Keep::ByAge, true, 7),
        ];
        for (ago, tags, keep, kept, gone) in table {
            let (is_kept, outdated) = outdated(versions(&ago), tags, keep, now());
            assert_eq!((is_kept, outdated.len()), (kept, gone), "{ago:?}");
            assert!(outdated.iter().all(|version| version.tags.is_empty()), "{ago:?}");
            let oldest = versions(&ago).into_iter().filter(|version| version.tags.is_empty()).take(gone);
            assert_eq!(outdated, oldest.collect::<Vec<_>>(), "{ago:?}");
        }
    }
}
