//! Entries of a bundle directory that cannot be offered: the reason, and advice for the owner.

use std::path::{Path, PathBuf};

use konnector_manifest::{Manifest, Slug};
use semver::Version as Semver;

use super::{ARCHIVE_SUFFIX, is_file, is_folder, read_archive};
use crate::bundle::{Bundle, MANIFEST_FILE};

/// An entry of a bundle directory that is not offered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SkippedEntry {
    /// The file or folder.
    pub path: PathBuf,
    /// Reason why it is not offered.
    pub reason: String,
    /// Advice for the owner.
    pub advice: String,
}

impl SkippedEntry {
    pub(super) fn new(path: &Path, reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into(), advice: advice.into() }
    }

    /// Entry for a bundle that cannot be read.
    pub(super) fn unreadable(path: &Path, error: &crate::Error) -> Self {
        let advice = if is_folder(path) {
            format!("check it with: konnector check {}", path.display())
        } else {
            "create it again with `konnector pack`, which also checks it".to_owned()
        };
        Self::new(path, error.to_string(), advice)
    }

    /// Checks that a bundle is at the path that its manifest implies, `SLUG/VERSION`, and returns its semver version.
    pub(super) fn check_location(path: &Path, slug: &Slug, number: &str, manifest: &Manifest) -> Result<Semver, Self> {
        let version = &manifest.version;
        let parsed = Semver::parse(version).map_err(|error| {
            let reason = format!("version '{version}' in its manifest is not valid semver: {error}");
            Self::new(path, reason, "set a version such as 1.0.0 in the manifest, and rename the entry to it")
        })?;
        let ending = if is_folder(path) { "" } else { ARCHIVE_SUFFIX };
        if number != version {
            let right = path.with_file_name(format!("{version}{ending}"));
            let reason = format!("its manifest has version {version}");
            let advice = if right.exists() {
                format!("delete it, or correct the version in its manifest: {} exists already", right.display())
            } else {
                format!("rename it to {}", right.display())
            };
            return Err(Self::new(path, reason, advice));
        }
        match manifest.slug.as_ref().filter(|other| *other != slug) {
            None => Ok(parsed),
            Some(other) => {
                let advice = format!("set \"slug\": \"{slug}\" in the manifest, or rename the folder above to {other}");
                Err(Self::new(path, format!("its manifest has slug {other}"), advice))
            }
        }
    }

    /// Entry for a path that looks like a konnector's folder but is not one.
    pub(super) fn unexpected_in_root(path: &Path, name: &str) -> Option<Self> {
        if name.starts_with('.') {
            return None;
        }
        let root = path.parent().unwrap_or(path);
        if name == MANIFEST_FILE {
            let reason = "the bundle directory itself is a bundle; each bundle must be in a subfolder SLUG/VERSION";
            return Some(Self::new(path, reason, move_advice(root, root, root.file_name()?.to_str()?)));
        }
        if name.ends_with(ARCHIVE_SUFFIX) && is_file(path) {
            let reason = "an archive must be in its konnector's folder, with its version as the name";
            return Some(Self::new(path, reason, move_advice(path, root, name.trim_end_matches(ARCHIVE_SUFFIX))));
        }
        let error = name.parse::<Slug>().err().filter(|_| is_folder(path))?;
        Some(Self::new(path, error.to_string(), "name the folder after the konnector's slug, for example bank101"))
    }

    /// Entry for a path that looks like a version but is not one. `folder` is the konnector's folder.
    pub(super) fn unexpected_in_konnector(path: &Path, name: &str, folder: &Path) -> Option<Self> {
        if name == MANIFEST_FILE {
            let advice = move_advice(folder, folder.parent().unwrap_or(folder), folder.file_name()?.to_str()?);
            return Some(Self::new(
                folder,
                "a bundle must be in a subfolder of its konnector's folder, named after its version",
                advice,
            ));
        }
        let other = [".tgz", ".tar", ".zip"].iter().any(|ending| name.ends_with(ending));
        other.then(|| {
            Self::new(
                path,
                format!("the name of an archive must end in {ARCHIVE_SUFFIX}"),
                "create it with `konnector pack`",
            )
        })
    }
}

/// Returns advice where to move a misplaced bundle, according to its manifest; `known_as` replaces a missing slug.
fn move_advice(bundle: &Path, root: &Path, known_as: &str) -> String {
    let read = if is_folder(bundle) {
        Bundle::from_folder(bundle).ok()
    } else {
        read_archive(bundle).ok().and_then(|bytes| Bundle::from_archive(&bytes).ok())
    };
    let (slug, version) = match read {
        Some(Bundle { manifest, .. }) => (manifest.slug.map(String::from), manifest.version),
        None => (None, "VERSION".to_owned()),
    };
    let known_as = known_as.trim_end_matches(&format!("-{version}"));
    let slug = slug.or_else(|| known_as.parse::<Slug>().ok().map(String::from)).unwrap_or_else(|| "SLUG".to_owned());
    let (what, ending) = if is_folder(bundle) { ("its contents", "") } else { ("it", ARCHIVE_SUFFIX) };
    format!("move {what} to {}", root.join(slug).join(format!("{version}{ending}")).display())
}
