//! Layout of the data folder, and access to its files.
//!
//! ```text
//! <folder>/master-key         encrypts the secrets; 0600; back it up separately from the data
//! <folder>/admin-passphrase   passphrase of the admin API; 0600
//! <folder>/store/             all persistent data
//! <folder>/cache/             compiled components; may be emptied at any time
//! <folder>/server.json        addresses of the running server; deleted when it stops
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, file, io as io_error};

/// Default path of the data folder.
pub const DEFAULT_DATA_DIR: &str = "data";

/// Path of a data folder, which need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// Addresses of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAddresses {
    /// URL of the public API, without a trailing slash.
    pub public_url: String,
    /// URL of the admin API, without a trailing slash.
    pub admin_url: String,
    /// Process id of the server.
    pub pid: u32,
}

/// Guard that removes `server.json` when it is dropped.
pub struct ServerFileGuard(PathBuf);

impl DataDir {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the default key file; the operator may store the key elsewhere.
    pub fn key_file(&self) -> PathBuf {
        self.0.join("master-key")
    }

    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    pub fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    pub fn passphrase_file(&self) -> PathBuf {
        self.0.join("admin-passphrase")
    }

    fn server_file(&self) -> PathBuf {
        self.0.join("server.json")
    }

    /// Creates the folder and the cache, for the owner only.
    pub fn create(&self) -> Result<()> {
        for path in [self.0.clone(), self.cache()] {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(&path).map_err(file("create", &path))?;
        }
        Ok(())
    }

    /// Returns whether the store has data, which was encrypted with a key.
    pub fn has_data(&self) -> bool {
        fs::read_dir(self.store()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Reads the passphrase of the admin API; `None` if there is none.
    pub fn passphrase(&self) -> Result<Option<String>> {
        let path = self.passphrase_file();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file("read", &path)(error)),
        }
    }

    /// Reads the passphrase of the admin API, or creates a random one.
    pub fn passphrase_or_new(&self) -> Result<String> {
        if let Some(passphrase) = self.passphrase()? {
            return Ok(passphrase);
        }
        let mut random = [0; 24];
        getrandom::fill(&mut random)
            .map_err(|error| Error::failed(format!("cannot get random numbers from the system: {error}"), ""))?;
        let passphrase = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, random);
        write_private(&self.passphrase_file(), format!("{passphrase}\n").as_bytes())?;
        Ok(passphrase)
    }

    /// Writes the server's addresses for the commands.
    pub fn write_server_file(&self, addresses: &ServerAddresses) -> Result<ServerFileGuard> {
        let path = self.server_file();
        let text = serde_json::to_vec_pretty(addresses).map_err(Error::message)?;
        // Atomically, so that a command never reads a partial file.
        let temporary = path.with_extension("json.new");
        write_private(&temporary, &text)?;
        fs::rename(&temporary, &path).map_err(file("write", &path))?;
        Ok(ServerFileGuard(path))
    }

    /// Reads the addresses of the running server, if it wrote them here.
    pub fn read_server_file(&self) -> Option<ServerAddresses> {
        serde_json::from_slice(&fs::read(self.server_file()).ok()?).ok()
    }
}

impl Drop for ServerFileGuard {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "cannot remove the server's addresses");
        }
    }
}

/// Writes a file that only its owner may read, and makes it durable.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut handle = options.open(path).map_err(file("write", path))?;
    handle.write_all(bytes).and_then(|()| handle.sync_all()).map_err(io_error("writing a private file"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_may_read_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path().join("a/data"));
        data.create().unwrap();
        let passphrase = data.passphrase_or_new().unwrap();
        assert!(passphrase.len() >= 32, "{passphrase}");
        assert_eq!(data.passphrase_or_new().unwrap(), passphrase, "kept, not made again");
        assert_eq!([mode(data.path()), mode(&data.cache()), mode(&data.passphrase_file())], [0o700, 0o700, 0o600]);
    }

    #[test]
    fn the_announcement_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        let addresses = ServerAddresses {
            public_url: "http://127.0.0.1:1".to_owned(),
            admin_url: "http://127.0.0.1:2".to_owned(),
            pid: 7,
        };
        let announced = data.write_server_file(&addresses).unwrap();
        assert_eq!(data.read_server_file(), Some(addresses));
        drop(announced);
        assert_eq!(data.read_server_file(), None);
    }
}
