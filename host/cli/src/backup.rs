//! `konnector backup …`: an encrypted copy of everything, and the way back.

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

/// See the module.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a backup; the server may run.
    #[command(after_help = "Examples:
  konnector backup create                            konnector-<time>.backup here
  konnector backup create /mnt/usb/monday.backup     somewhere else

The backup holds all documents, files, triggers, accounts and jobs at one moment, encrypted under a key that is derived from the master
key. The master key is not in it: keep a copy of it elsewhere, without it the backup opens never again. When it is written, it is read
again and checked.")]
    Create {
        /// File to write [default: konnector-<time>.backup].
        file: Option<PathBuf>,
        /// Replace the file if it is there.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        key: KeyFile,
    },
    /// Check that a backup is whole and opens with the key, without restoring it.
    #[command(after_help = "Example:\n  konnector backup verify monday.backup --key-file /safe/master-key")]
    Verify {
        /// The backup.
        file: PathBuf,
        #[command(flatten)]
        key: KeyFile,
    },
    /// Make a data folder from a backup and the key.
    #[command(after_help = "Example:
  konnector --data-dir /srv/new backup restore monday.backup --key-file /safe/master-key
  konnector --data-dir /srv/new serve

The folder must be new or empty. What is restored is checked, then moved to its place in one step; cut off before, run it again.")]
    Restore {
        /// The backup.
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
            show(output, "is whole and opens with the key", &file, &summary);
            Ok(ExitCode::SUCCESS)
        }
        Command::Restore { file, key } => restore::run(connection, output, &file, &key).await,
    }
}

/// Reads a whole backup and verifies it.
async fn verify(output: Output, path: &Path, key: &MasterKey) -> Result<BackupSummary> {
    let mut backup = open(path).await?;
    let going = Spinner::new(output);
    let told = &mut |read| going.set_message(format!("checking {}: {}", path.display(), bytes(read)));
    verify_backup(&mut backup, &Schema, key, told).await.map_err(|error| invalid_backup_error(path, &error))
}

async fn open(path: &Path) -> Result<tokio::fs::File> {
    tokio::fs::File::open(path).await.map_err(file("read", path))
}

fn invalid_backup_error(path: &Path, error: &konnector_store::Error) -> Error {
    match error {
        konnector_store::Error::Backup { reason } => Error::failed(
            format!("{} cannot be used: {reason}", path.display()),
            "take another backup; this one changes nothing",
        ),
        konnector_store::Error::BlobsDamaged { .. } => {
            incomplete_error(&format!("{} is not whole: {error}", path.display()))
        }
        other => Error::message(other),
    }
}

/// The error for a backup with missing contents.
fn incomplete_error(what: &str) -> Error {
    Error::failed(
        what,
        "restore these files from an older backup, or delete them; `konnector fsck --deep` lists them too",
    )
}

fn show(output: Output, what: &str, path: &Path, summary: &BackupSummary) {
    output.show(&json!({ "file": path, "backup": summary }), || {
        let BackupSummary { header, entries, blobs, bytes: size } = summary;
        done(&format!("{} {what}: {entries} entries and {blobs} contents, {}", path.display(), bytes(*size)));
        note(&format!("of {}, for the key {}", header.created_at.format("%Y-%m-%d %H:%M:%SZ"), header.key));
    });
}
