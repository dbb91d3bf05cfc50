//! Replacement of a file's content: whether the former content becomes a version, and which older versions are deleted.

use chrono::{DateTime, TimeDelta, Utc};
use konnector_store::{Changes, DocRef, Rev};

use super::{ContentRef, File, Version};
use crate::Files;
use crate::Result;
use konnector_documents::doctype::{FILES, VERSIONS};
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Object, Stored, to_object};

/// Maximum number of contents of a file, including the present one (cozy-stack, `max_number_of_versions_to_keep`).
/// Versions with tags may exceed it.
const MAX_VERSIONS: usize = 20;
/// Minimum time between two versions. A content that is replaced sooner by the same writer leaves no version, unless it
/// has tags (cozy-stack, `min_delay_between_two_versions`).
const MIN_VERSION_INTERVAL: TimeDelta = TimeDelta::minutes(15);

/// Whether a replaced content becomes a version.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Retention {
    /// If another writer replaces the content, the last version is old enough, or the file has tags.
    ByRule,
    /// Always, and it replaces this version, whose content the file gets.
    Reverting(Box<Version>),
}

/// Remaining effects of a replaced content, for after the commit.
#[derive(Debug, Default)]
pub(super) struct VersionEffects {
    freed_contents: Vec<ContentRef>,
    events: Vec<(DocRef, ChangeKind, Object)>,
}

/// Returns whether the content of `before` becomes a version when that of `after` replaces it now; `versions` are in
/// the order of their creation.
///
/// The delay between versions thins out the saves of one writer. Content of another writer always becomes a version,
/// because a konnector that saves a file again cannot know that the user edited it meanwhile.
fn should_keep_version(versions: &[Version], before: &File, after: &File, now: DateTime<Utc>) -> bool {
    let last = versions.last().and_then(Version::versioned_at);
    !before.tags.is_empty()
        || before.writer() != after.writer()
        || last.is_none_or(|last| now - last >= MIN_VERSION_INTERVAL)
}

/// Returns the versions to delete, depending on whether the replaced content becomes one.
fn excess_versions(versions: Vec<Version>, keep: bool) -> Vec<Version> {
    let over = (versions.len() + usize::from(keep) + 1).saturating_sub(MAX_VERSIONS);
    versions.into_iter().filter(|version| version.tags.is_empty()).take(over).collect()
}

impl Files {
    /// Replaces the content of a file, and applies `change` to it, in one commit; the former content becomes a version
    /// or is removed.
    pub(super) async fn replace(
        &self,
        instance: &Instance,
        found: Stored<File>,
        seen: Option<&Rev>,
        keep: Retention,
        change: impl FnOnce(&mut File, &mut Changes) -> Result<()> + Send,
    ) -> Result<File> {
        let rev = found.rev.clone();
        let mut file = File::from(found);
        let (before, mut changes, mut others) = (file.clone(), Changes::new(), Changes::new());
        change(&mut file, &mut others)?;
        let replaced = self.stage_former_version(instance, (&before, &file), &rev, keep, &mut others).await?;
        let document = instance.doc(&FILES, file.id.as_str());
        changes.put(document.clone(), &rev, to_object(&file)?).append(others);
        file.rev = Some(self.commit_if_match(&document, seen, changes).await?);
        self.core.publish(&document, ChangeKind::Updated, &file);
        self.finish_version_changes(replaced).await;
        Ok(file)
    }

    /// Turns the former content of a file into a version, or drops it, and drops excess versions. Missing or damaged
    /// content does not become a version, because nobody could read it.
    async fn stage_former_version(
        &self,
        instance: &Instance,
        (before, after): (&File, &File),
        rev: &Rev,
        keep: Retention,
        changes: &mut Changes,
    ) -> Result<VersionEffects> {
        let now = self.core.clock().now();
        let Some(version) = Version::from_file(before, rev, now) else { return Ok(VersionEffects::default()) };
        let mut versions = self.versions(instance, &before.id)?;
        versions.reverse();
        let mut replaced = VersionEffects::default();
        let keep = match keep {
            Retention::ByRule => should_keep_version(&versions, before, after, now),
            Retention::Reverting(other) => {
                versions.retain(|version| version.id != other.id);
                self.stage_delete_versions(instance, [*other], changes, &mut replaced)?;
                // The file has its content now.
                replaced.freed_contents.clear();
                true
            }
        };
        self.stage_delete_versions(instance, excess_versions(versions, keep), changes, &mut replaced)?;
        if keep && self.is_content_intact(&version.content).await? {
            let (document, body) = (instance.doc(&VERSIONS, version.id.as_str()), to_object(&version)?);
            changes.create(document.clone(), body.clone());
            replaced.events.push((document, ChangeKind::Created, body));
        } else {
            replaced.freed_contents.push(version.content);
        }
        Ok(replaced)
    }

    /// Deletes versions with their contents.
    pub(super) fn stage_delete_versions(
        &self,
        instance: &Instance,
        versions: impl IntoIterator<Item = Version>,
        changes: &mut Changes,
        replaced: &mut VersionEffects,
    ) -> Result<()> {
        for version in versions {
            let (document, body) = (instance.doc(&VERSIONS, version.id.as_str()), to_object(&version)?);
            let Some(rev) = &version.rev else { continue };
            changes.delete(document.clone(), rev);
            replaced.events.push((document, ChangeKind::Deleted, body));
            replaced.freed_contents.push(version.content);
        }
        Ok(())
    }

    /// Removes dropped contents, once the commit is durable. A failure here does not undo the commit.
    pub(super) async fn finish_version_changes(&self, replaced: VersionEffects) {
        for (document, happened, body) in replaced.events {
            self.core.publish(&document, happened, body);
        }
        self.core.delete_blobs(replaced.freed_contents.into_iter().map(|content| content.blob)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileKind;

    fn file() -> File {
        let file = File::directory("f", "d", "n", "/n", DateTime::UNIX_EPOCH, "alice.example");
        let blob = uuid::Uuid::nil().into();
        let content = ContentRef { blob, sha256: String::new(), size: 0 };
        File { kind: FileKind::File, content: Some(content), ..file }
    }

    /// Returns a file whose `cozyMetadata` names this creator and this writer of its content.
    fn written(created_by: Option<&str>, uploaded_by: Option<&str>) -> File {
        let mut file = file();
        if let Some(slug) = created_by {
            file.cozy_metadata.insert("createdByApp".to_owned(), slug.into());
        }
        if let Some(slug) = uploaded_by {
            file.cozy_metadata.insert("uploadedBy".to_owned(), serde_json::json!({ "slug": slug }));
        }
        file
    }

    /// Returns versions with these ages in minutes; a negative age stands for a tagged version.
    fn versions(ago: &[i64]) -> Vec<Version> {
        let file = file();
        let make = |minutes: &i64| {
            let made = now() - TimeDelta::minutes(minutes.abs());
            let rev = "1-00000000000000000000000000000000".parse().expect("a revision");
            let tags = if *minutes < 0 { vec!["kept".to_owned()] } else { Vec::new() };
            Version { tags, ..Version::from_file(&file, &rev, made).expect("a file") }
        };
        ago.iter().map(make).collect()
    }

    fn now() -> DateTime<Utc> {
        "2026-11-20T12:00:00Z".parse().expect("a date")
    }

    #[test]
    fn versions_are_kept_by_age_and_tags() {
        let many: Vec<i64> = (1..=25).rev().map(|number| number * 20).collect();
        let mut tagged = many.clone();
        for minutes in &mut tagged[..10] {
            *minutes = -*minutes;
        }
        let table = [
            (vec![], false, true, 0),
            (vec![14], false, false, 0),
            (vec![15], false, true, 0),
            (vec![14], true, true, 0),
            (many[7..].to_vec(), false, true, 0),
            (many[6..].to_vec(), false, true, 1),
            (many.clone(), false, true, 7),
            (many[..24].iter().copied().chain([1]).collect(), false, false, 6),
            (tagged, false, true, 7),
        ];
        for (ago, tags, kept, gone) in table {
            let tags = if tags { vec!["important".to_owned()] } else { Vec::new() };
            let before = File { tags, ..file() };
            assert_eq!(should_keep_version(&versions(&ago), &before, &file(), now()), kept, "{ago:?}");
            let outdated = excess_versions(versions(&ago), kept);
            assert_eq!(outdated.len(), gone, "{ago:?}");
            assert!(outdated.iter().all(|version| version.tags.is_empty()), "{ago:?}");
            let oldest = versions(&ago).into_iter().filter(|version| version.tags.is_empty()).take(gone);
            assert_eq!(outdated, oldest.collect::<Vec<_>>(), "{ago:?}");
        }
    }

    #[test]
    fn a_content_of_another_writer_is_kept_whatever_its_age() {
        let table = [
            (written(Some("bank"), Some("bank")), written(Some("bank"), Some("bank")), false),
            (written(Some("bank"), Some("drive")), written(Some("bank"), Some("bank")), true),
            (written(Some("bank"), Some("bank")), written(Some("bank"), Some("drive")), true),
            (written(Some("bank"), Some("drive")), written(Some("bank"), Some("drive")), false),
            // Files that were saved before runs recorded the uploader.
            (written(Some("bank"), None), written(Some("bank"), Some("bank")), false),
            (written(Some("bank"), None), written(Some("bank"), Some("drive")), true),
            (written(None, None), written(None, None), false),
        ];
        for (before, after, kept) in table {
            let case = (before.writer(), after.writer());
            assert_eq!(should_keep_version(&versions(&[1]), &before, &after, now()), kept, "{case:?}");
        }
    }
}
