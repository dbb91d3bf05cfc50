//! `konnector keys …`: the master key, which encrypts every secret.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use konnector_platform::key;
use konnector_store::{MasterKey, failpoint, key_fingerprint};
use serde_json::json;

use crate::client::Connection;
use crate::error::{Error, Result, file};
use crate::offline::{self, KeyFile, Spinner};
use crate::output::{Output, done, note};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the fingerprint of the key and that of the data; fails if they differ. Fingerprints do not reveal the key.
    #[command(after_help = "Example:\n  konnector keys show          both fingerprints should be the same")]
    Show {
        #[command(flatten)]
        key: KeyFile,
    },
    /// Create a new key and re-encrypt every secret with it; the server must be stopped.
    #[command(after_help = "Example:
  konnector keys rotate

The new key is written next to the old one (master-key.new). Secrets are re-encrypted account by account. Then the new
key replaces the old one. If the command is interrupted, run it again to continue. The server does not start until the
rotation is complete. The old key remains as master-key.old-FINGERPRINT, because earlier backups open only with it.
Remove it when you delete the last of these backups. Tokens that were issued before the rotation are no longer valid.")]
    Rotate {
        #[command(flatten)]
        key: KeyFile,
    },
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<()> {
    let data = connection.data();
    match command {
        Command::Show { key } => {
            let (path, key) = (key.path(&data), key.load(&data)?);
            let (fingerprint, of_data) = (key.fingerprint(), key_fingerprint(&data.store())?);
            output.show(&json!({ "file": path, "fingerprint": fingerprint, "data": of_data }), || {
                say!("{fingerprint}  {}", path.display());
                if let Some(of_data) = &of_data {
                    say!("{of_data}  the data");
                }
            });
            // After the fingerprints, which say what is wrong.
            offline::check_key(&data.store(), &key)
        }
        Command::Rotate { key } => {
            offline::require_store(&data.store())?;
            rotate(output, &data.store(), &key.path(&data), &key.load(&data)?).await
        }
    }
}

/// Returns the path of the new key while secrets are re-encrypted with it.
pub fn pending_key_file(key_file: &Path) -> PathBuf {
    with_suffix(key_file, "new")
}

fn with_suffix(key_file: &Path, suffix: &str) -> PathBuf {
    let mut path = key_file.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    path.into()
}

async fn rotate(output: Output, store: &Path, key_file: &Path, old: &MasterKey) -> Result<()> {
    let failpoint = |place| failpoint::hit(place).map_err(file("write", key_file));
    let store = offline::open(store.to_owned()).await?;
    let pending_file = pending_key_file(key_file);
    let new = match MasterKey::load(&pending_file)? {
        Some(pending) => pending,
        None => MasterKey::create(&pending_file)?,
    };
    failpoint("rotate.made")?;
    let spinner = Spinner::new(output);
    let rotated = key::rotate(&store, old, &new, |accounts| spinner.set_message(format!("{accounts} accounts"))).await;
    drop(spinner);
    store.close().await?;
    let secrets = rotated?;
    let old_key_file = with_suffix(key_file, &format!("old-{}", old.fingerprint()));
    match fs::hard_link(key_file, &old_key_file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(file("write", &old_key_file)(error)),
        _ => {}
    }
    failpoint("rotate.kept")?;
    fs::rename(&pending_file, key_file).map_err(file("write", key_file))?;
    sync_parent_folder(key_file)?;
    failpoint("rotate.moved")?;
    let (from, to) = (old.fingerprint(), new.fingerprint());
    output.show(
        &json!({ "from": from, "to": to, "secrets": secrets, "key_file": key_file, "old_key_file": old_key_file }),
        || {
            done(&format!("the key is now {to} ({}); re-encrypted {secrets} secrets", key_file.display()));
            note(&format!("back up the new key; {} is only for earlier backups", old_key_file.display()));
        },
    );
    Ok(())
}

/// Makes a rename durable by syncing the parent folder.
pub fn sync_parent_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file("sync", folder))
}

/// Returns an error while a key rotation is incomplete.
pub fn check_no_pending_rotation(key_file: &Path, old: &MasterKey) -> Result<()> {
    match MasterKey::load(&pending_key_file(key_file))? {
        Some(new) => Err(Error::from(key::rotation_interrupted(&old.fingerprint(), &new.fingerprint()))),
        None => Ok(()),
    }
}
