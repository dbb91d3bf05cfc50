//! A folder of bundles in the layout that a registry offers: `<slug>/<version>.tar.gz` or `<slug>/<version>/` with the
//! bundle in it, and `<slug>/maintenance.json` with the options while a konnector is in maintenance. The folder is read
//! again on each request, so copying a file into it publishes the file.

mod skipped;

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use konnector_manifest::{Manifest, Slug};
use semver::Version as Semver;
use sha2::{Digest as _, Sha256};

pub use skipped::SkippedEntry;

use super::bundle::Bundle;
use super::confined_dir::ConfinedDir;
use super::download::MAX_ARCHIVE_SIZE;
use crate::{Error, Result};
use konnector_documents::stored::Object;

/// Suffix of an archive's name.
const ARCHIVE_SUFFIX: &str = ".tar.gz";
/// A konnector is in maintenance while this file exists.
const MAINTENANCE_FILE: &str = "maintenance.json";

/// A folder of bundles, with a cache of their contents.
pub struct BundleDirectory {
    folder: PathBuf,
    on_skipped: Box<dyn Fn(&SkippedEntry) + Send + Sync>,
    /// Versions read so far, each valid while its file is unchanged.
    versions: Mutex<HashMap<PathBuf, (FileStamp, Arc<PublishedVersion>)>>,
    /// Skipped entries that were already reported; each is reported once.
    reported: Mutex<HashSet<SkippedEntry>>,
}

impl fmt::Debug for BundleDirectory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BundleDirectory").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Modification time and size, by which a changed file is detected.
type FileStamp = (SystemTime, u64);

/// A konnector in the bundle directory.
#[derive(Debug, Clone)]
pub struct App {
    /// Slug, which is the name of its folder.
    pub slug: Slug,
    /// Lowest version first; never empty.
    pub versions: Vec<Arc<PublishedVersion>>,
    /// The maintenance options, while it is in maintenance.
    pub maintenance: Option<Object>,
}

/// A version of a konnector in the bundle directory.
#[derive(Debug)]
pub struct PublishedVersion {
    /// Version number, by semver.
    pub number: Semver,
    /// Manifest of the bundle.
    pub manifest: Manifest,
    /// Bytes of the icon.
    pub icon: Option<Vec<u8>>,
    /// When the file was last changed.
    pub created_at: DateTime<Utc>,
    /// Size of the archive in bytes.
    pub size: usize,
    /// SHA-256 of the archive, hexadecimal.
    pub sha256: String,
    path: PathBuf,
}

impl PublishedVersion {
    /// Returns the first channel that offers this version, `dev`, `beta` or `stable`, according to its pre-release
    /// suffix.
    #[must_use]
    pub fn channel(&self) -> &'static str {
        match self.number.pre.split(['.', '-']).next() {
            Some("") | None => "stable",
            Some("beta") => "beta",
            Some(_) => "dev",
        }
    }

    /// Returns whether a channel offers this version. Each channel also offers the versions of the more stable ones.
    #[must_use]
    pub fn is_in_channel(&self, channel: &str) -> bool {
        match channel {
            "stable" => self.channel() == "stable",
            "beta" => self.channel() != "dev",
            "dev" => true,
            _ => false,
        }
    }

    /// Reads the archive.
    ///
    /// # Errors
    ///
    /// If the file can no longer be read.
    pub fn archive(&self) -> Result<Vec<u8>> {
        if is_folder(&self.path) { Bundle::from_folder(&self.path)?.to_archive() } else { read_archive(&self.path) }
    }
}

impl App {
    /// Returns the highest version that a channel offers.
    #[must_use]
    pub fn latest(&self, channel: &str) -> Option<&Arc<PublishedVersion>> {
        self.versions.iter().rev().find(|version| version.is_in_channel(channel))
    }

    /// Returns a version by its number.
    #[must_use]
    pub fn version(&self, number: &str) -> Option<&Arc<PublishedVersion>> {
        let number = Semver::parse(number).ok()?;
        self.versions.iter().find(|version| version.number == number)
    }
}

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    Error::io(format!("reading {}", path.display()))
}

/// Reads a regular file.
fn read_archive(path: &Path) -> Result<Vec<u8>> {
    let missing = || read_error(path)(std::io::ErrorKind::NotFound.into());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Err(missing());
    };
    let folder = ConfinedDir::open(folder).map_err(read_error(path))?;
    folder.read(name, MAX_ARCHIVE_SIZE)?.ok_or_else(missing)
}

/// Returns whether the path itself is a folder, not a link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Returns whether the path itself is a regular file, not a link to one.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}

impl BundleDirectory {
    /// Opens a bundle directory. Calls `on_skipped` for each entry that cannot be offered, once.
    ///
    /// # Errors
    ///
    /// If the folder does not exist.
    pub fn new(folder: PathBuf, on_skipped: impl Fn(&SkippedEntry) + Send + Sync + 'static) -> Result<Self> {
        fs::read_dir(&folder).map_err(read_error(&folder))?;
        Ok(Self { folder, on_skipped: Box::new(on_skipped), versions: Mutex::default(), reported: Mutex::default() })
    }

    /// Returns all konnectors, sorted by slug.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn apps(&self) -> Result<Vec<App>> {
        let (mut slugs, mut apps): (Vec<Slug>, _) = (Vec::new(), Vec::new());
        for name in entry_names(&self.folder)? {
            let path = self.folder.join(&name);
            match name.parse() {
                Ok(slug) if is_folder(&path) => slugs.push(slug),
                _ => self.report_skipped(SkippedEntry::unexpected_in_root(&path, &name)),
            }
        }
        slugs.sort();
        for slug in slugs {
            apps.extend(self.app(&slug)?);
        }
        Ok(apps)
    }

    /// Returns a konnector; `None` if the directory has no version of it.
    ///
    /// # Errors
    ///
    /// If its folder cannot be read.
    pub fn app(&self, slug: &Slug) -> Result<Option<App>> {
        let folder = self.folder.join(slug.as_ref());
        if !is_folder(&folder) {
            return Ok(None);
        }
        let mut versions = Vec::new();
        for name in entry_names(&folder)? {
            let path = folder.join(&name);
            if name == MAINTENANCE_FILE || name.starts_with('.') {
                continue;
            }
            if !is_folder(&path) && !name.ends_with(ARCHIVE_SUFFIX) {
                self.report_skipped(SkippedEntry::unexpected_in_konnector(&path, &name, &folder));
                continue;
            }
            match self.version(&path, slug, name.trim_end_matches(ARCHIVE_SUFFIX)) {
                Ok(version) => versions.push(version),
                Err(skipped_entry) => self.report_skipped(Some(skipped_entry)),
            }
        }
        versions.sort_by(|one, other| one.number.cmp(&other.number));
        let maintenance = self.maintenance(&folder.join(MAINTENANCE_FILE))?;
        Ok(Some(App { slug: slug.clone(), versions, maintenance }).filter(|app| !app.versions.is_empty()))
    }

    fn report_skipped(&self, skipped_entry: Option<SkippedEntry>) {
        let Some(skipped_entry) = skipped_entry else { return };
        let mut reported = self.reported.lock();
        if !reported.contains(&skipped_entry) {
            (self.on_skipped)(&skipped_entry);
            reported.insert(skipped_entry);
        }
    }

    fn version(&self, path: &Path, slug: &Slug, number: &str) -> Result<Arc<PublishedVersion>, SkippedEntry> {
        let unreadable = |error: Error| SkippedEntry::unreadable(path, &error);
        let stamp = file_stamp(path).map_err(unreadable)?;
        let known = self.versions.lock().get(path).cloned();
        if let Some((read_at, version)) = known
            && read_at == stamp
        {
            return Ok(version);
        }
        let (bundle, archive) = read_bundle(path).map_err(unreadable)?;
        let number = SkippedEntry::check_location(path, slug, number, &bundle.manifest)?;
        let version = Arc::new(PublishedVersion {
            number,
            created_at: stamp.0.into(),
            size: archive.len(),
            sha256: hex::encode(Sha256::digest(&archive)),
            icon: bundle.icon,
            manifest: bundle.manifest,
            path: path.to_owned(),
        });
        let mut known = self.versions.lock();
        known.insert(path.to_owned(), (stamp, Arc::clone(&version)));
        Ok(version)
    }

    /// Reads maintenance options; `None` if the file does not hold an object.
    fn maintenance(&self, path: &Path) -> Result<Option<Object>> {
        if !is_file(path) {
            return Ok(None);
        }
        let options: Option<Object> = serde_json::from_slice(&read_archive(path)?).ok();
        if options.is_none() {
            let advice = r#"write a JSON object such as {"messages": {"en": {"short_message": "…"}}}, or just {}"#;
            self.report_skipped(Some(SkippedEntry::new(
                path,
                "its maintenance options are ignored: the file is not a JSON object",
                advice,
            )));
        }
        Ok(Some(options.unwrap_or_default()))
    }
}

/// Reads a bundle and its archive.
fn read_bundle(path: &Path) -> Result<(Bundle, Vec<u8>)> {
    if is_folder(path) {
        let bundle = Bundle::from_folder(path)?;
        let archive = bundle.to_archive()?;
        return Ok((bundle, archive));
    }
    let archive = read_archive(path)?;
    Ok((Bundle::from_archive(&archive)?, archive))
}

/// Lists the names in a folder.
fn entry_names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(read_error(folder))?;
    entries.map(|entry| Ok(entry.map_err(read_error(folder))?.file_name().to_string_lossy().into_owned())).collect()
}

/// Returns the latest modification of an archive, or of the files in a folder.
fn file_stamp(path: &Path) -> Result<FileStamp> {
    let own = fs::symlink_metadata(path).map_err(read_error(path))?;
    let mut stamp = (own.modified().map_err(read_error(path))?, own.len());
    if own.is_dir() {
        for name in entry_names(path)? {
            if let Ok(inner) = fs::symlink_metadata(path.join(name)) {
                stamp = (stamp.0.max(inner.modified().unwrap_or(stamp.0)), stamp.1 + inner.len());
            }
        }
    }
    Ok(stamp)
}

#[cfg(test)]
mod tests;
