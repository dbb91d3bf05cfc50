//! A bundle: a folder or archive with `manifest.konnector`, the component and the icon.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use konnector_manifest::Manifest;

use super::archive::{MAX_FILE_SIZE, check_size, pack, unpack};
use super::confined_dir::{ConfinedDir, parse_relative_path};
use crate::{Error, Result};

/// Name of the manifest file in a bundle.
pub const MANIFEST_FILE: &str = "manifest.konnector";

/// Maximum size of the manifest in bytes.
pub(super) const MAX_MANIFEST_SIZE: u64 = Manifest::MAX_SIZE as u64;

/// The parts of a bundle that the server uses.
#[derive(Debug)]
pub struct Bundle {
    /// Parsed manifest.
    pub manifest: Manifest,
    /// Bytes of the component.
    pub component: Vec<u8>,
    /// Bytes of the icon.
    pub icon: Option<Vec<u8>>,
}

impl Bundle {
    /// Builds a bundle from this manifest and the files that `file` returns by name.
    pub(super) fn from_files(manifest: &[u8], mut file: impl FnMut(&str) -> Result<Option<Vec<u8>>>) -> Result<Self> {
        check_size(MANIFEST_FILE, manifest.len() as u64, MAX_MANIFEST_SIZE)?;
        let manifest = Manifest::parse(manifest)?;
        let component = file(&manifest.component)?.ok_or_else(|| {
            Error::Unreachable(format!(
                "the source has no file '{}', which the manifest names as its component; build the konnector, or set \"component\"",
                manifest.component
            ))
        })?;
        let icon = match &manifest.icon {
            Some(name) => file(name)?,
            None => None,
        };
        Ok(Self { manifest, component, icon })
    }

    /// Reads a bundle folder. Symbolic links in it and anything that is not a regular file are rejected. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] if a file is missing or unreadable, [`Error::Manifest`].
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let missing = || {
            Error::Unreachable(format!(
                "there is no {MANIFEST_FILE} in '{}'; check the path of the source",
                folder.display()
            ))
        };
        let opened = ConfinedDir::open(folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(),
            _ => Error::Unreachable(format!("'{}' cannot be read: {error}", folder.display())),
        })?;
        let manifest = opened.read(MANIFEST_FILE, MAX_MANIFEST_SIZE)?.ok_or_else(missing)?;
        Self::from_files(&manifest, |name| opened.read(name, MAX_FILE_SIZE))
    }

    /// Reads a tar archive, gzipped or not. The bundle may be inside one top-level folder.
    ///
    /// # Errors
    ///
    /// As [`Bundle::from_folder`]; [`Error::TooLarge`].
    pub fn from_archive(bytes: &[u8]) -> Result<Self> {
        let mut files = unpack(bytes)?;
        let prefix = files
            .keys()
            .filter(|name| name.rsplit('/').next() == Some(MANIFEST_FILE))
            .map(|name| name.trim_end_matches(MANIFEST_FILE).to_owned())
            .min_by_key(String::len)
            .filter(|prefix| prefix.matches('/').count() <= 1)
            .ok_or_else(|| {
                Error::Unreachable(format!(
                    "the archive has no {MANIFEST_FILE} at its top level or in a top-level folder"
                ))
            })?;
        let manifest = files.remove(&format!("{prefix}{MANIFEST_FILE}")).unwrap_or_default();
        Self::from_files(&manifest, |name| Ok(files.remove(&format!("{prefix}{}", archive_path(name)?))))
    }
}

impl Bundle {
    /// Packs the bundle into an archive.
    ///
    /// # Errors
    ///
    /// If a name is longer than the format allows.
    pub fn to_archive(&self) -> Result<Vec<u8>> {
        let manifest = serde_json::to_vec_pretty(self.manifest.raw())
            .map_err(|error| Error::BadRequest(format!("the manifest cannot be written: {error}")))?;
        let mut files = BTreeMap::from([
            (MANIFEST_FILE.to_owned(), manifest),
            (archive_path(&self.manifest.component)?, self.component.clone()),
        ]);
        if let (Some(name), Some(icon)) = (&self.manifest.icon, &self.icon) {
            files.insert(archive_path(name)?, icon.clone());
        }
        pack(&files).map_err(Error::io("packing a bundle"))
    }
}

/// Normalises a relative path that stays inside the bundle to the form that archives use.
fn archive_path(name: &str) -> Result<String> {
    parse_relative_path(name).map(|names| names.join("/"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, name, *bytes).expect("appended");
        }
        let tar = builder.into_inner().expect("finished");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).expect("compressed");
        gzip.finish().expect("finished")
    }

    const MANIFEST_TEXT: &[u8] = br#"{"name":"A","type":"konnector","version":"1.0.0","permissions":{}}"#;

    #[test]
    fn an_archive_may_have_one_folder_at_its_top() {
        for prefix in ["", "./", "bank-1.0/"] {
            let bytes = archive(&[
                (&format!("{prefix}{MANIFEST_FILE}"), MANIFEST_TEXT),
                (&format!("{prefix}konnector.wasm"), b"\0asm"),
            ]);
            let bundle = Bundle::from_archive(&bytes).expect(prefix);
            assert_eq!(bundle.component, b"\0asm");
        }
    }

    #[test]
    fn errors_name_the_missing_file() {
        let errors = [
            Bundle::from_archive(&archive(&[("a/b/manifest.konnector", MANIFEST_TEXT)])),
            Bundle::from_archive(&archive(&[(MANIFEST_FILE, MANIFEST_TEXT)])),
            Bundle::from_archive(b"no archive at all, just a text that is long enough"),
        ]
        .map(|result| result.expect_err("refused").to_string());
        insta::assert_snapshot!(errors.join("\n"), @r#"
        the archive has no manifest.konnector at its top level or in a top-level folder
        the source has no file 'konnector.wasm', which the manifest names as its component; build the konnector, or set "component"
        the source is not a readable tar archive: failed to read entire block
        "#);
    }

    #[test]
    fn a_manifest_cannot_name_a_file_outside() {
        assert!(archive_path("../../etc/passwd").is_err());
        assert!(archive_path("/etc/passwd").is_err());
        assert_eq!(archive_path("./build/konnector.wasm").expect("inside"), "build/konnector.wasm");
    }
}
