//! A folder of bundles, as a registry offers them: `<slug>/<version>.tar.gz` or `<slug>/<version>/` with the bundle in it, and
//! `<slug>/maintenance.json` with the options while a konnector is in maintenance. It is read anew each time: whoever copies a file into it has
//! published it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use konnector_manifest::{Manifest, Slug};
use semver::Version as Semver;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::bundle::Bundle;
use crate::stored::Object;
use crate::{Error, Result};

/// Ending of an archive's name.
const ARCHIVE: &str = ".tar.gz";
/// While this file is there, a konnector is in maintenance.
const MAINTENANCE: &str = "maintenance.json";

/// The folder.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    /// What was read, as long as the file is the same.
    read: Mutex<HashMap<PathBuf, (Stamp, Arc<Version>)>>,
}

/// By what another file is recognised.
type Stamp = (SystemTime, u64);

/// A konnector on the shelf.
#[derive(Debug, Clone)]
pub struct App {
    /// Its name.
    pub slug: Slug,
    /// Lowest first; never empty.
    pub versions: Vec<Arc<Version>>,
    /// The options, while it is in maintenance.
    pub maintenance: Option<Object>,
}

/// A version of a konnector on the shelf.
#[derive(Debug)]
pub struct Version {
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
    place: PathBuf,
}

impl Version {
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
    pub fn is_in(&self, channel: &str) -> bool {
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
        if self.place.is_dir() { Bundle::from_folder(&self.place)?.to_archive() } else { read(&self.place) }
    }
}

impl App {
    /// The highest version that a channel offers.
    #[must_use]
    pub fn latest(&self, channel: &str) -> Option<&Arc<Version>> {
        self.versions.iter().rev().find(|version| version.is_in(channel))
    }

    /// A version by its number.
    #[must_use]
    pub fn version(&self, number: &str) -> Option<&Arc<Version>> {
        let number = Semver::parse(number).ok()?;
        self.versions.iter().find(|version| version.number == number)
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    Error::io(format!("reading {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(failed(path))
}

impl Shelf {
    /// A shelf.
    ///
    /// # Errors
    ///
    /// When there is no such folder.
    pub fn new(folder: PathBuf) -> Result<Self> {
        fs::read_dir(&folder).map_err(failed(&folder))?;
        Ok(Self { folder, read: Mutex::default() })
    }

    /// All konnectors, by slug. What cannot be offered is left out, and the log says why.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn apps(&self) -> Result<Vec<App>> {
        let mut slugs: Vec<Slug> = names(&self.folder)?.iter().filter_map(|name| name.parse().ok()).collect();
        slugs.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        slugs.into_iter().filter_map(|slug| self.app(&slug).transpose()).collect()
    }

    /// A konnector; `None` where the shelf has no version of it.
    ///
    /// # Errors
    ///
    /// When its folder cannot be read.
    pub fn app(&self, slug: &Slug) -> Result<Option<App>> {
        let folder = self.folder.join(slug.as_ref());
        if !folder.is_dir() {
            return Ok(None);
        }
        let mut versions = Vec::new();
        for name in names(&folder)? {
            let path = folder.join(&name);
            if name == MAINTENANCE || name.starts_with('.') || (path.is_file() && !name.ends_with(ARCHIVE)) {
                continue;
            }
            match self.version(&path, name.trim_end_matches(ARCHIVE)) {
                Ok(version) => versions.push(version),
                Err(error) => tracing::warn!(path = %path.display(), %error, "left out"),
            }
        }
        versions.sort_by(|one, other| one.number.cmp(&other.number));
        let maintenance = maintenance(&folder.join(MAINTENANCE))?;
        Ok(Some(App { slug: slug.clone(), versions, maintenance }).filter(|app| !app.versions.is_empty()))
    }

    fn version(&self, path: &Path, number: &str) -> Result<Arc<Version>> {
        let stamp = stamp(path)?;
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some((read_at, version)) = known
            && read_at == stamp
        {
            return Ok(version);
        }
        let (bundle, archive) = if path.is_dir() {
            let bundle = Bundle::from_folder(path)?;
            let archive = bundle.to_archive()?;
            (bundle, archive)
        } else {
            let archive = read(path)?;
            (Bundle::from_archive(&archive)?, archive)
        };
        if bundle.manifest.version != number {
            return Err(Error::BadRequest(format!(
                "its manifest says version {}, so it must be named {0}{ARCHIVE}",
                bundle.manifest.version
            )));
        }
        let unordered = |error| Error::BadRequest(format!("'{number}' is no version by semver, as in 1.0.0: {error}"));
        let version = Arc::new(Version {
            number: Semver::parse(number).map_err(unordered)?,
            created_at: stamp.0.into(),
            size: archive.len(),
            sha256: hex::encode(Sha256::digest(&archive)),
            icon: bundle.icon,
            manifest: bundle.manifest,
            place: path.to_owned(),
        });
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(path.to_owned(), (stamp, Arc::clone(&version)));
        Ok(version)
    }
}

/// The names in a folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(failed(folder))?;
    entries.map(|entry| Ok(entry.map_err(failed(folder))?.file_name().to_string_lossy().into_owned())).collect()
}

/// The newest change of an archive, or of what a folder holds.
fn stamp(path: &Path) -> Result<Stamp> {
    let own = fs::metadata(path).map_err(failed(path))?;
    let mut stamp = (own.modified().map_err(failed(path))?, own.len());
    if own.is_dir() {
        for name in names(path)? {
            if let Ok(inner) = fs::metadata(path.join(name)) {
                stamp = (stamp.0.max(inner.modified().unwrap_or(stamp.0)), stamp.1 + inner.len());
            }
        }
    }
    Ok(stamp)
}

fn maintenance(path: &Path) -> Result<Option<Object>> {
    if !path.exists() {
        return Ok(None);
    }
    let options: Value = serde_json::from_slice(&read(path)?).unwrap_or_default();
    Ok(Some(options.as_object().cloned().unwrap_or_default()))
}
