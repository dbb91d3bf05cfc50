//! `konnector backup …`: creates, verifies and restores encrypted copies of all data.

mod create;
mod restore;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use konnector_platform::Schema;
use konnector_store::{BackupSummary, MasterKey, verify_backup};
use serde_json::json;

use crate::client::Connection;
use crate::error::{Error, Result, file};
use crate::interrupt;
use crate::offline::{KeyFile, Spinner};
use crate::output::{Output, bytes, done, note};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a backup; the server may be running.
    #[command(after_help = "Examples:
  konnector backup create                            write konnector-<time>.backup to this folder
  konnector backup create /mnt/usb                   write konnector-<time>.backup to another folder
  konnector backup create /mnt/usb/monday.backup     write to another path

The backup contains all documents, files, triggers, accounts and jobs as of one moment, encrypted with a key that is
derived from the master key. It does not contain the master key: keep a copy elsewhere, because the backup cannot be
opened without it. The written backup is read again and verified.")]
    Create {
        /// File to write, or the folder for it [default: konnector-<time>.backup].
        file: Option<PathBuf>,
        /// Replace an existing file.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        key: KeyFile,
    },
    /// Check that a backup is complete and opens with the key, without restoring it.
    #[command(after_help = "Example:\n  konnector backup verify monday.backup --key-file /safe/master-key")]
    Verify {
        /// Backup file.
        file: PathBuf,
        #[command(flatten)]
        key: KeyFile,
    },
    /// Create a data folder from a backup and its key.
    #[command(after_help = "Example:
  konnector --data-dir /srv/new backup restore monday.backup --key-file /safe/master-key
  konnector --data-dir /srv/new serve

The folder must be new or empty. The restored data is checked, then moved into place in one step. If the command is
interrupted, run it again.")]
    Restore {
        /// Backup file.
        file: PathBuf,
        #[command(flatten)]
        key: KeyFile,
    },
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<ExitCode> {
    match command {
        Command::Create { file, force, key } => {
            interrupt::run_until_signal(async {
                create::run(connection, output, file, force, &key).await.map(|()| ExitCode::SUCCESS)
            })
            .await
        }
        Command::Verify { file, key } => {
            let summary = verify(output, &file, &key.load(&connection.data())?).await?;
            show(output, "is complete and opens with the key", &file, &summary);
            Ok(ExitCode::SUCCESS)
        }
        Command::Restore { file, key } => restore::run(connection, output, &file, &key).await,
    }
}

/// Reads a whole backup and verifies it.
async fn verify(output: Output, path: &Path, key: &MasterKey) -> Result<BackupSummary> {
    let mut backup = open(path).await?;
    let spinner = Spinner::new(output);
    let on_progress = &mut |read| spinner.set_message(format!("checking {}: {}", path.display(), bytes(read)));
    verify_backup(&mut backup, &Schema, key, on_progress).await.map_err(|error| invalid_backup_error(path, &error))
}

async fn open(path: &Path) -> Result<tokio::fs::File> {
    tokio::fs::File::open(path).await.map_err(file("read", path))
}

fn invalid_backup_error(path: &Path, error: &konnector_store::Error) -> Error {
    match error {
        konnector_store::Error::Backup { reason } => Error::failed(
            format!("{} cannot be used: {reason}", path.display()),
            "use another backup; nothing was changed",
        ),
        konnector_store::Error::BackupKey { reason } => {
            Error::KeyMismatch(format!("{} cannot be used: {reason}; nothing was changed", path.display()))
        }
        konnector_store::Error::BlobsDamaged { .. } => {
            incomplete_error(&format!("{} is incomplete: {error}", path.display()))
        }
        other => Error::message(other),
    }
}

/// Returns the error for a backup with missing blobs.
fn incomplete_error(message: &str) -> Error {
    Error::failed(
        message,
        "restore these files from an older backup, or delete them; `konnector fsck --deep` also lists them",
    )
}

fn show(output: Output, outcome: &str, path: &Path, summary: &BackupSummary) {
    output.show(&json!({ "file": path, "backup": summary }), || {
        let BackupSummary { header, entries, blobs, bytes: size } = summary;
        done(&format!("{} {outcome}: {entries} entries and {blobs} blobs, {}", path.display(), bytes(*size)));
        note(&format!("created at {}, opens with key {}", header.created_at.format("%Y-%m-%d %H:%M:%SZ"), header.key));
    });
}
