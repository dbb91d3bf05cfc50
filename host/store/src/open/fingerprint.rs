//! The fingerprint of the key that seals a data folder. It has a file of its own, so a wrong key is detected before
//! anything is changed.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::sync_dir;
use crate::error::{Error, Result};

const FILE_NAME: &str = "key";

/// Returns the fingerprint of the key that belongs to a data folder; `None` for a new folder. Changes nothing, and
/// needs no lock.
///
/// # Errors
///
/// [`Error::Io`] if the file exists but cannot be read.
pub fn key_fingerprint(dir: &Path) -> Result<Option<String>> {
    let path = dir.join(FILE_NAME);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Records the key of a data folder, in one durable step.
pub(crate) fn save_key_fingerprint(dir: &Path, fingerprint: &str) -> Result<()> {
    if key_fingerprint(dir)?.as_deref() == Some(fingerprint) {
        return Ok(());
    }
    let (path, temporary) = (dir.join(FILE_NAME), dir.join("key.new"));
    let write = || {
        let mut file = File::create(&temporary)?;
        writeln!(file, "{fingerprint}")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().map_err(Error::io("write", &path))?;
    sync_dir(dir)
}
