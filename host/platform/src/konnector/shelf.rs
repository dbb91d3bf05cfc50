//! A folder of bundles, as a registry offers them: `<slug>/<version>.tar.gz` or `<slug>/<version>/` with the bundle in it, and
//! `<slug>/maintenance.json` with the options while a konnector is in maintenance. It is read anew each time: whoever copies a file into it has
//! published it.

mod left_out;

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

pub use left_out::LeftOut;

use super::bundle::Bundle;
use super::folder::BundleFolder;
use super::web::LARGEST_ARCHIVE;
use crate::stored::Object;
use crate::{Error, Result};

/// AbortReason of an archive's name.
const ARCHIVE: &str = ".tar.gz";
/// While this file is there, a konnector is in maintenance.
const MAINTENANCE: &str = "maintenance.json";

/// The folder.
pub struct Shelf {
    folder: PathBuf,
    tell: Box<dyn Fn(&LeftOut) + Send + Sync>,
    /// What was read, as long as the file is the same.
    read: Mutex<HashMap<PathBuf, (Stamp, Arc<Version>)>>,
    /// Whoever asks next is not told again.
    told: Mutex<HashSet<LeftOut>>,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shelf").field("folder", &self.folder).finish_non_exhaustive()
    }
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
        if is_folder(&self.place) { Bundle::from_folder(&self.place)?.to_archive() } else { read(&self.place) }
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

/// The bytes of a regular file.
fn read(path: &Path) -> Result<Vec<u8>> {
    let missing = || failed(path)(std::io::ErrorKind::NotFound.into());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Err(missing());
    };
    let folder = BundleFolder::open(folder).map_err(failed(path))?;
    folder.read(name, LARGEST_ARCHIVE)?.ok_or_else(missing)
}

/// Whether it is a folder itself, and not a link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Whether it is a regular file itself, and not a link to one.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}

impl Shelf {
    /// A shelf. What lies there and cannot be offered is given to `tell` when it is first seen.
    ///
    /// # Errors
    ///
    /// When there is no such folder.
    pub fn new(folder: PathBuf, tell: impl Fn(&LeftOut) + Send + Sync + 'static) -> Result<Self> {
        fs::read_dir(&folder).map_err(failed(&folder))?;
        Ok(Self { folder, tell: Box::new(tell), read: Mutex::default(), told: Mutex::default() })
    }

    /// All konnectors, by slug.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn apps(&self) -> Result<Vec<App>> {
        let (mut slugs, mut apps): (Vec<Slug>, _) = (Vec::new(), Vec::new());
        for name in names(&self.folder)? {
            let path = self.folder.join(&name);
            match name.parse() {
                Ok(slug) if is_folder(&path) => slugs.push(slug),
                _ => self.tell(LeftOut::beside_the_konnectors(&path, &name)),
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
        for name in names(&folder)? {
            let path = folder.join(&name);
            if name == MAINTENANCE || name.starts_with('.') {
                continue;
            }
            if !is_folder(&path) && !name.ends_with(ARCHIVE) {
                self.tell(LeftOut::beside_the_versions(&path, &name, &folder));
                continue;
            }
            match self.version(&path, slug, name.trim_end_matches(ARCHIVE)) {
                Ok(version) => versions.push(version),
                Err(left_out) => self.tell(Some(left_out)),
            }
        }
        versions.sort_by(|one, other| one.number.cmp(&other.number));
        let maintenance = self.maintenance(&folder.join(MAINTENANCE))?;
        Ok(Some(App { slug: slug.clone(), versions, maintenance }).filter(|app| !app.versions.is_empty()))
    }

    fn tell(&self, left_out: Option<LeftOut>) {
        let Some(left_out) = left_out else { return };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&left_out) {
            (self.tell)(&left_out);
            told.insert(left_out);
        }
    }

    fn version(&self, path: &Path, slug: &Slug, number: &str) -> Result<Arc<Version>, LeftOut> {
        let unreadable = |error: Error| LeftOut::unreadable(path, &error);
        let stamp = stamp(path).map_err(unreadable)?;
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some((read_at, version)) = known
            && read_at == stamp
        {
            return Ok(version);
        }
        let (bundle, archive) = read_bundle(path).map_err(unreadable)?;
        let number = LeftOut::unless_well_placed(path, slug, number, &bundle.manifest)?;
        let version = Arc::new(Version {
            number,
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

    /// The options of a maintenance: none where the file holds no object.
    fn maintenance(&self, path: &Path) -> Result<Option<Object>> {
        if !is_file(path) {
            return Ok(None);
        }
        let options: Option<Object> = serde_json::from_slice(&read(path)?).ok();
        if options.is_none() {
            let advice = r#"write a JSON object, as in {"messages": {"en": {"short_message": "…"}}}, or {} alone"#;
            self.tell(Some(LeftOut::new(path, "what it says is not shown: it holds no JSON object", advice)));
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
    let archive = read(path)?;
    Ok((Bundle::from_archive(&archive)?, archive))
}

/// The names in a folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(failed(folder))?;
    entries.map(|entry| Ok(entry.map_err(failed(folder))?.file_name().to_string_lossy().into_owned())).collect()
}

/// The newest change of an archive, or of what a folder holds.
fn stamp(path: &Path) -> Result<Stamp> {
    let own = fs::symlink_metadata(path).map_err(failed(path))?;
    let mut stamp = (own.modified().map_err(failed(path))?, own.len());
    if own.is_dir() {
        for name in names(path)? {
            if let Ok(inner) = fs::symlink_metadata(path.join(name)) {
                stamp = (stamp.0.max(inner.modified().unwrap_or(stamp.0)), stamp.1 + inner.len());
            }
        }
    }
    Ok(stamp)
}

#[cfg(test)]
mod tests;
