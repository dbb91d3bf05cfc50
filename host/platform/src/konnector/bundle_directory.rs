//! A folder of bundles, as a registry offers them: `<slug>/<version>.tar.gz` or `<slug>/<version>/` with the bundle in it, and
//! `<slug>/maintenance.json` with the options while a konnector is in maintenance. It is read anew each time: whoever copies a file into it has
//! published it.

mod skipped;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use konnector_manifest::{Manifest, Slug};
use semver::Version as Semver;
use sha2::{Digest as _, Sha256};

pub use skipped::SkippedEntry;

use super::bundle::Bundle;
use super::confined_dir::ConfinedDir;
use super::download::MAX_ARCHIVE_SIZE;
use crate::stored::Object;
use crate::{Error, Result};

/// Ending of an archive's name.
const ARCHIVE_SUFFIX: &str = ".tar.gz";
/// While this file is there, a konnector is in maintenance.
const MAINTENANCE_FILE: &str = "maintenance.json";

/// The folder.
pub struct BundleDirectory {
    folder: PathBuf,
    on_skipped: Box<dyn Fn(&SkippedEntry) + Send + Sync>,
    /// What was read, as long as the file is the same.
    versions: Mutex<HashMap<PathBuf, (FileStamp, Arc<PublishedVersion>)>>,
    /// Whoever asks next is not told again.
    reported: Mutex<HashSet<SkippedEntry>>,
}

impl fmt::Debug for BundleDirectory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shelf").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// By what another file is recognised.
type FileStamp = (SystemTime, u64);

/// A konnector on the shelf.
#[derive(Debug, Clone)]
pub struct App {
    /// Its name.
    pub slug: Slug,
    /// Lowest first; never empty.
    pub versions: Vec<Arc<PublishedVersion>>,
    /// The options, while it is in maintenance.
    pub maintenance: Option<Object>,
}

/// A version of a konnector on the shelf.
#[derive(Debug)]
pub struct PublishedVersion {
    /// By semver.
    pub number: Semver,
    /// Its manifest.
    pub manifest: Manifest,
    /// The icon's bytes.
    pub icon: Option<Vec<u8>>,
    /// When the file was last changed.
    pub created_at: DateTime<Utc>,
    /// Bytes of the archive.
    pub size: usize,
    /// What the archive hashes to, hexadecimal.
    pub sha256: String,
    path: PathBuf,
}

impl PublishedVersion {
    /// The first channel that offers it: `dev`, `beta` or `stable`, by what follows the number.
    #[must_use]
    pub fn channel(&self) -> &'static str {
        match self.number.pre.split(['.', '-']).next() {
            Some("") | None => "stable",
            Some("beta") => "beta",
            Some(_) => "dev",
        }
    }

    /// Whether a channel offers it: a channel has what the more careful ones have, too.
    #[must_use]
    pub fn is_in_channel(&self, channel: &str) -> bool {
        match channel {
            "stable" => self.channel() == "stable",
            "beta" => self.channel() != "dev",
            "dev" => true,
            _ => false,
        }
    }

    /// The archive.
    ///
    /// # Errors
    ///
    /// When the file cannot be read any more.
    pub fn archive(&self) -> Result<Vec<u8>> {
        if is_folder(&self.path) { Bundle::from_folder(&self.path)?.to_archive() } else { read_archive(&self.path) }
    }
}

impl App {
    /// The highest version that a channel offers.
    #[must_use]
    pub fn latest(&self, channel: &str) -> Option<&Arc<PublishedVersion>> {
        self.versions.iter().rev().find(|version| version.is_in_channel(channel))
    }

    /// A version by its number.
    #[must_use]
    pub fn version(&self, number: &str) -> Option<&Arc<PublishedVersion>> {
        let number = Semver::parse(number).ok()?;
        self.versions.iter().find(|version| version.number == number)
    }
}

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    Error::io(format!("reading {}", path.display()))
}

/// The bytes of a regular file.
fn read_archive(path: &Path) -> Result<Vec<u8>> {
    let missing = || read_error(path)(std::io::ErrorKind::NotFound.into());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Err(missing());
    };
    let folder = ConfinedDir::open(folder).map_err(read_error(path))?;
    folder.read(name, MAX_ARCHIVE_SIZE)?.ok_or_else(missing)
}

/// Whether it is a folder itself, and not a link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Whether it is a regular file itself, and not a link to one.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}

impl BundleDirectory {
    /// A shelf. What lies there and cannot be offered is given to `tell` when it is first seen.
    ///
    /// # Errors
    ///
    /// When there is no such folder.
    pub fn new(folder: PathBuf, tell: impl Fn(&SkippedEntry) + Send + Sync + 'static) -> Result<Self> {
        fs::read_dir(&folder).map_err(read_error(&folder))?;
        Ok(Self { folder, on_skipped: Box::new(tell), versions: Mutex::default(), reported: Mutex::default() })
    }

    /// All konnectors, by slug.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
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

    /// A konnector; `None` where the shelf has no version of it.
    ///
    /// # Errors
    ///
    /// When its folder cannot be read.
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
                Err(left_out) => self.report_skipped(Some(left_out)),
            }
        }
        versions.sort_by(|one, other| one.number.cmp(&other.number));
        let maintenance = self.maintenance(&folder.join(MAINTENANCE_FILE))?;
        Ok(Some(App { slug: slug.clone(), versions, maintenance }).filter(|app| !app.versions.is_empty()))
    }

    fn report_skipped(&self, left_out: Option<SkippedEntry>) {
        let Some(left_out) = left_out else { return };
        let mut told = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&left_out) {
            (self.on_skipped)(&left_out);
            told.insert(left_out);
        }
    }

    fn version(&self, path: &Path, slug: &Slug, number: &str) -> Result<Arc<PublishedVersion>, SkippedEntry> {
        let unreadable = |error: Error| SkippedEntry::unreadable(path, &error);
        let stamp = file_stamp(path).map_err(unreadable)?;
        let known = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
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
        let mut known = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(path.to_owned(), (stamp, Arc::clone(&version)));
        Ok(version)
    }

    /// The options of a maintenance: none where the file holds no object.
    fn maintenance(&self, path: &Path) -> Result<Option<Object>> {
        if !is_file(path) {
            return Ok(None);
        }
        let options: Option<Object> = serde_json::from_slice(&read_archive(path)?).ok();
        if options.is_none() {
            let advice = r#"write a JSON object, as in {"messages": {"en": {"short_message": "…"}}}, or {} alone"#;
            self.report_skipped(Some(SkippedEntry::new(
                path,
                "what it says is not shown: it holds no JSON object",
                advice,
            )));
        }
        Ok(Some(options.unwrap_or_default()))
    }
}

/// A bundle and its archive.
fn read_bundle(path: &Path) -> Result<(Bundle, Vec<u8>)> {
    if is_folder(path) {
        let bundle = Bundle::from_folder(path)?;
        let archive = bundle.to_archive()?;
        return Ok((bundle, archive));
    }
    let archive = read_archive(path)?;
    Ok((Bundle::from_archive(&archive)?, archive))
}

/// The names in a folder.
fn entry_names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(read_error(folder))?;
    entries.map(|entry| Ok(entry.map_err(read_error(folder))?.file_name().to_string_lossy().into_owned())).collect()
}

/// The newest change of an archive, or of what a folder holds.
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
