//! The file of the master key: one line, `konnector-key-1:<base64url of 32 bytes>`, readable by its owner only.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::MasterKey;
use crate::error::{Error, Result};

const PREFIX: &str = "konnector-key-1:";

impl MasterKey {
    /// Reads the key from its file, `None` if the file does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`] if users other than the owner may read the file, or it contains no key; [`Error::Io`].
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("open", path))?,
        };
        check_permissions(&file, path)?;
        let mut text = Zeroizing::new(String::new());
        io::Read::read_to_string(&mut file, &mut text).map_err(Error::io("read", path))?;
        let key = text.trim_end().strip_prefix(PREFIX).and_then(|text| {
            let mut key = Zeroizing::new([0; 32]);
            let length = URL_SAFE_NO_PAD.decode_slice(text, key.as_mut_slice()).ok()?;
            (length == key.len()).then_some(Self(*key))
        });
        let reason = || {
            format!(
                "does not contain a key ({PREFIX}<43 letters>); put the right file there, or restore it from a backup"
            )
        };
        key.map(Some).ok_or_else(|| Error::KeyFile { path: path.to_owned(), reason: reason() })
    }

    /// Creates a new key, which is not stored yet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system has no random numbers.
    pub fn generate() -> Result<Self> {
        let mut key = Self([0; 32]);
        getrandom::fill(&mut key.0).map_err(|error| Error::io("make", "a key")(io::Error::other(error)))?;
        Ok(key)
    }

    /// Creates a new key and writes it to a new file. Store a copy apart from the data: without the key, no secret can
    /// be opened.
    ///
    /// # Errors
    ///
    /// As [`MasterKey::save`].
    pub fn create(path: &Path) -> Result<Self> {
        let key = Self::generate()?;
        key.save(path)?;
        Ok(key)
    }

    /// Writes the key to a new file with mode 0600, durably.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`] if the file exists, because a key is never overwritten; [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let reason =
                    "already exists; a key is never overwritten, because the secrets sealed with it would be lost"
                        .to_owned();
                return Err(Error::KeyFile { path: path.to_owned(), reason });
            }
            other => other.map_err(Error::io("create", path))?,
        };
        let text = Zeroizing::new(format!("{PREFIX}{}\n", *Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0))));
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
        if let Err(error) = written {
            // A partial key would block the next attempt.
            let _ = fs::remove_file(path);
            return Err(Error::io("write", path)(error));
        }
        Ok(())
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(unix)]
fn check_permissions(file: &File, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(Error::io("read", path))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let reason = format!("can be read or changed by other users (mode {mode:03o}); run chmod 600 {}", path.display());
    Err(Error::KeyFile { path: path.to_owned(), reason })
}

#[cfg(not(unix))]
fn check_permissions(_: &File, _: &Path) -> Result<()> {
    Ok(())
}
