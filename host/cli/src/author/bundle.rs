//! A konnector's folder as its author has it.

use std::path::{Path, PathBuf};

use konnector_manifest::Manifest;

use crate::error::{Error, Result, file};

/// A folder with a manifest that can be read.
pub struct Bundle {
    /// The folder.
    pub folder: PathBuf,
    /// The manifest as written.
    pub text: Vec<u8>,
    /// The manifest.
    pub manifest: Manifest,
}

impl Bundle {
    /// Reads the manifest of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = manifest_text(folder)?;
        let manifest = Manifest::parse(&text).map_err(|error| {
            Error::failed(error.to_string(), format!("all at once: konnector check {}", folder.display()))
        })?;
        Ok(Self { folder: folder.to_owned(), text, manifest })
    }

    /// The component's bytes.
    pub fn component(&self) -> Result<Vec<u8>> {
        let path = self.folder.join(&self.manifest.component);
        std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::failed(
                format!("there is no component {}", path.display()),
                format!("compile it: konnector build {}", self.folder.display()),
            ),
            _ => file("read", &path)(error),
        })
    }

    /// The name for files: the slug, else that of the folder.
    pub fn name(&self) -> String {
        let folder = || self.folder.canonicalize().ok()?.file_name()?.to_str().map(str::to_lowercase);
        self.manifest.slug.as_ref().map(ToString::to_string).or_else(folder).unwrap_or_else(|| "konnector".to_owned())
    }
}

/// The bytes of a folder's manifest.
pub fn manifest_text(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(Manifest::FILE_NAME);
    std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::failed(
            format!("there is no {} in {}", Manifest::FILE_NAME, folder.display()),
            "name the folder of a konnector, or write a new one: konnector new NAME",
        ),
        _ => file("read", &path)(error),
    })
}
