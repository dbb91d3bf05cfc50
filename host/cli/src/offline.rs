//! Shared parts of the commands that work on a data folder without a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use konnector_store::{MasterKey, Store, StoreOptions, key_fingerprint};

use crate::data_dir::DataDir;
use crate::error::{Error, Result};
use crate::output::Output;

/// Location of the master key.
#[derive(Debug, clap::Args)]
pub struct KeyFile {
    /// File with the master key [default: master-key in the data folder].
    #[arg(long, value_name = "FILE", env = "KONNECTOR_KEY_FILE", hide_env_values = true)]
    key_file: Option<PathBuf>,
}

impl KeyFile {
    /// Returns the path of the key file.
    pub fn path(&self, data: &DataDir) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| data.key_file())
    }

    /// Loads the key from the file.
    pub fn load(&self, data: &DataDir) -> Result<MasterKey> {
        let path = self.path(data);
        MasterKey::load(&path)?.ok_or_else(|| {
            Error::KeyMismatch(format!("key file {} does not exist; set its path with --key-file", path.display()))
        })
    }
}

/// Rejects a key that does not match the data, before anything is changed.
pub fn check_key(store: &Path, key: &MasterKey) -> Result<()> {
    match key_fingerprint(store)? {
        Some(data_fingerprint) if data_fingerprint != key.fingerprint() => {
            Err(konnector_platform::key::key_mismatch(&data_fingerprint, &key.fingerprint()).into())
        }
        _ => Ok(()),
    }
}

/// Rejects a folder without a store. Checked before the key is loaded, because a missing data folder has no key either.
pub fn require_store(folder: &Path) -> Result<()> {
    if folder.join("sled").is_dir() {
        return Ok(());
    }
    Err(Error::usage(
        format!("{} contains no store", folder.display()),
        "select the server's data folder with --data-dir",
    ))
}

/// Opens the store in a folder; fails while a server uses it.
pub async fn open(folder: PathBuf) -> Result<Store> {
    require_store(&folder)?;
    open_or_create(folder).await
}

/// Like [`open`], for a folder that may be new.
pub async fn open_or_create(folder: PathBuf) -> Result<Store> {
    // Reading the log of a large store may take a long time.
    let opened = tokio::task::spawn_blocking(move || Store::open(&folder, StoreOptions::default())).await;
    opened.map_err(|error| Error::failed(format!("opening the store was interrupted: {error}"), ""))?.map_err(|error| {
        match error {
            konnector_store::Error::Locked { .. } => {
                Error::failed(error.to_string(), "stop the server first: this command needs its data folder for itself")
            }
            other => other.into(),
        }
    })
}

/// Progress line on the terminal.
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Creates a line, which shows nothing for JSON output or without a terminal.
    pub fn new(output: Output) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let bar = if output.json || !terminal { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let style = ProgressStyle::with_template("{spinner:.cyan} {elapsed:.dim} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Replaces the line.
    pub fn set_message(&self, text: String) {
        self.0.set_message(text);
    }

    /// Prints a permanent line.
    pub fn suspend(&self, line: impl FnOnce()) {
        self.0.suspend(line);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
