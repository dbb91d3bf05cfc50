//! The source folder of a konnector.

use std::path::{Path, PathBuf};

use konnector_manifest::Manifest;
use konnector_platform::konnector::ConfinedDir;

use crate::error::{Error, Result, file};
use crate::output::warning;

/// Maximum size of a bundle's file in bytes; servers reject larger files.
const MAX_FILE_SIZE: u64 = 32 << 20;

/// A folder with a valid manifest.
pub struct Bundle {
    pub folder: PathBuf,
    /// The manifest's JSON, unchanged.
    pub manifest_bytes: Vec<u8>,
    pub manifest: Manifest,
}

impl Bundle {
    /// Reads the manifest of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = read_manifest(folder)?;
        let manifest = Manifest::parse(&text).map_err(|error| {
            Error::failed(error.to_string(), format!("see all problems with `konnector check {}`", folder.display()))
        })?;
        Ok(Self { folder: folder.to_owned(), manifest_bytes: text, manifest })
    }

    /// Reads the component.
    pub fn component(&self) -> Result<Vec<u8>> {
        self.file(&self.manifest.component)?.ok_or_else(|| {
            Error::failed(
                format!("component {} does not exist", self.folder.join(&self.manifest.component).display()),
                format!("compile it: konnector build {}", self.folder.display()),
            )
        })
    }

    /// Reads a file under the same restrictions as a server; returns `None` if it does not exist.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        read_file(&self.folder, name)
    }

    /// Warns if the component is older than the crate's sources, for example because the last build failed.
    pub fn warn_if_stale(&self) {
        if let Some(advice) = stale_component(&self.folder, &self.manifest.component) {
            warning(&advice);
        }
    }

    /// Returns the name for archives: the slug, or the folder's name if the manifest has none.
    pub fn name(&self) -> String {
        let folder = || self.folder.canonicalize().ok()?.file_name()?.to_str().map(str::to_lowercase);
        self.manifest.slug.as_ref().map(ToString::to_string).or_else(folder).unwrap_or_else(|| "konnector".to_owned())
    }
}

/// Returns a sentence if a source of the crate in the folder is newer than the component.
pub fn stale_component(folder: &Path, component: &str) -> Option<String> {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let built = modified(&folder.join(component))?;
    let mut pending = vec![folder.join("Cargo.toml"), folder.join("src")];
    while let Some(path) = pending.pop() {
        // `read_dir` fails for a file.
        match std::fs::read_dir(&path) {
            Ok(entries) => pending.extend(entries.filter_map(Result::ok).map(|entry| entry.path())),
            Err(_) if modified(&path).is_some_and(|source| source > built) => {
                return Some(format!(
                    "{component} is older than {}; compile it: konnector build {}",
                    path.display(),
                    folder.display()
                ));
            }
            Err(_) => {}
        }
    }
    None
}

/// Reads the manifest of a folder.
pub fn read_manifest(folder: &Path) -> Result<Vec<u8>> {
    read_file(folder, Manifest::FILE_NAME)?.ok_or_else(|| {
        Error::failed(
            format!("{} does not exist in {}", Manifest::FILE_NAME, folder.display()),
            "give the folder of a konnector, or create one: konnector new NAME",
        )
    })
}

/// Reads a regular file in a folder; does not follow links, because no server does.
pub fn read_file(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    match ConfinedDir::open(folder) {
        Ok(folder) => Ok(folder.read(name, MAX_FILE_SIZE)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file("open", folder)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_component_older_than_its_sources_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path();
        fs::create_dir_all(folder.join("src/parse")).unwrap();
        let write = |name: &str, age: u64| {
            fs::write(folder.join(name), "x").unwrap();
            let file = fs::File::options().write(true).open(folder.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        write("Cargo.toml", 300);
        write("src/parse/mod.rs", 200);
        assert_eq!(stale_component(folder, "konnector.wasm"), None, "there is no component");
        write("konnector.wasm", 100);
        assert_eq!(stale_component(folder, "konnector.wasm"), None);
        write("src/parse/mod.rs", 50);
        let sentence = stale_component(folder, "konnector.wasm").unwrap();
        assert!(
            sentence.starts_with("konnector.wasm is older than ") && sentence.contains("mod.rs; compile it"),
            "{sentence}"
        );
    }
}
