//! A konnector's folder as its author has it.

use std::path::{Path, PathBuf};

use konnector_manifest::Manifest;
use konnector_platform::konnector::ConfinedDir;

use crate::error::{Error, Result, file};

/// Bytes of a file of a bundle; a server takes none that is larger.
const MAX_FILE_SIZE: u64 = 32 << 20;

/// A folder with a manifest that can be read.
pub struct Bundle {
    /// The folder.
    pub folder: PathBuf,
    /// The manifest as written.
    pub manifest_bytes: Vec<u8>,
    /// The manifest.
    pub manifest: Manifest,
}

impl Bundle {
    /// Reads the manifest of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = read_manifest(folder)?;
        let manifest = Manifest::parse(&text).map_err(|error| {
            Error::failed(error.to_string(), format!("all at once: konnector check {}", folder.display()))
        })?;
        Ok(Self { folder: folder.to_owned(), manifest_bytes: text, manifest })
    }

    /// The component's bytes.
    pub fn component(&self) -> Result<Vec<u8>> {
        self.file(&self.manifest.component)?.ok_or_else(|| {
            Error::failed(
                format!("there is no component {}", self.folder.join(&self.manifest.component).display()),
                format!("compile it: konnector build {}", self.folder.display()),
            )
        })
    }

    /// The bytes of a file, as a server would read them; `None` if it does not exist.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        read_file(&self.folder, name)
    }

    /// The name for files: the slug, otherwise that of the folder.
    pub fn name(&self) -> String {
        let folder = || self.folder.canonicalize().ok()?.file_name()?.to_str().map(str::to_lowercase);
        self.manifest.slug.as_ref().map(ToString::to_string).or_else(folder).unwrap_or_else(|| "konnector".to_owned())
    }
}

/// The bytes of a folder's manifest.
pub fn read_manifest(folder: &Path) -> Result<Vec<u8>> {
    read_file(folder, Manifest::FILE_NAME)?.ok_or_else(|| {
        Error::failed(
            format!("there is no {} in {}", Manifest::FILE_NAME, folder.display()),
            "name the folder of a konnector, or write a new one: konnector new NAME",
        )
    })
}

/// The bytes of a regular file in a folder; links are not followed, because no server would.
pub fn read_file(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    match ConfinedDir::open(folder) {
        Ok(folder) => Ok(folder.read(name, MAX_FILE_SIZE)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file("open", folder)(error)),
    }
}
