//! Entries of a bundle directory that cannot be offered: the reason, and advice for the owner.

use std::path::{Path, PathBuf};

use konnector_manifest::{Manifest, Slug};
use semver::Version as Semver;

use super::{ARCHIVE_SUFFIX, is_file, is_folder, read_archive};
use crate::konnector::bundle::{Bundle, MANIFEST_FILE};

/// An entry of a bundle directory that is not offered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SkippedEntry {
    /// The file or folder.
    pub path: PathBuf,
    /// Why it is not offered.
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
            format!("look at it with: konnector check {}", path.display())
        } else {
            "write it anew with `konnector pack`, which looks at it, too".to_owned()
        };
        Self::new(path, error.to_string(), advice)
    }

    /// Checks that a bundle is at the path that its manifest implies, `SLUG/VERSION`, and returns its semver version.
    pub(super) fn check_location(path: &Path, slug: &Slug, number: &str, manifest: &Manifest) -> Result<Semver, Self> {
        let version = &manifest.version;
        let parsed = Semver::parse(version).map_err(|error| {
            let reason = format!("its manifest says version '{version}', which is none by semver: {error}");
            Self::new(path, reason, "write a version such as 1.0.0 there, and name it so here")
        })?;
        let ending = if is_folder(path) { "" } else { ARCHIVE_SUFFIX };
        if number != version {
            let right = path.with_file_name(format!("{version}{ending}"));
            let reason = format!("its manifest says version {version}");
            return Err(Self::new(path, reason, format!("rename it to {}", right.display())));
        }
        match manifest.slug.as_ref().filter(|other| *other != slug) {
            None => Ok(parsed),
            Some(other) => {
                let advice = format!("write \"slug\": \"{slug}\" there, or name the folder above it {other}");
                Err(Self::new(path, format!("its manifest says slug {other}"), advice))
            }
        }
    }

    /// Entry for a path that looks like a konnector's folder but is not one.
    pub(super) fn unexpected_in_root(path: &Path, name: &str) -> Option<Self> {
        if name.starts_with('.') {
            return None;
        }
        let shelf = path.parent().unwrap_or(path);
        if name == MANIFEST_FILE {
            let reason = "the shelf itself is a bundle; on a shelf each bundle has a folder, SLUG/VERSION";
            return Some(Self::new(path, reason, move_advice(shelf, shelf, shelf.file_name()?.to_str()?)));
        }
        if name.ends_with(ARCHIVE_SUFFIX) && is_file(path) {
            let reason = "an archive lies in the folder of its konnector, named by its version alone";
            return Some(Self::new(path, reason, move_advice(path, shelf, name.trim_end_matches(ARCHIVE_SUFFIX))));
        }
        let error = name.parse::<Slug>().err().filter(|_| is_folder(path))?;
        Some(Self::new(path, error.to_string(), "name the folder by the konnector's slug, as in bank101"))
    }

    /// Entry for a path that looks like a version but is not one. `folder` is the konnector's folder.
    pub(super) fn unexpected_in_konnector(path: &Path, name: &str, folder: &Path) -> Option<Self> {
        if name == MANIFEST_FILE {
            let advice = move_advice(folder, folder.parent().unwrap_or(folder), folder.file_name()?.to_str()?);
            return Some(Self::new(
                folder,
                "a bundle lies one folder below its konnector's, named by its version",
                advice,
            ));
        }
        let other = [".tgz", ".tar", ".zip"].iter().any(|ending| name.ends_with(ending));
        other.then(|| Self::new(path, format!("an archive ends in {ARCHIVE_SUFFIX}"), "write it with `konnector pack`"))
    }
}

/// Tells where to move a misplaced bundle, according to its manifest; `known_as` is used if the manifest has no slug.
fn move_advice(bundle: &Path, shelf: &Path, known_as: &str) -> String {
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
    let (what, ending) = if is_folder(bundle) { ("what it holds", "") } else { ("it", ARCHIVE_SUFFIX) };
    format!("move {what} to {}", shelf.join(slug).join(format!("{version}{ending}")).display())
}
