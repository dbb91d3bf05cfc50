//! Restores a backup into a data folder.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use konnector_platform::Schema;
use konnector_store::{FsckOptions, FsckProgress, FsckSummary, failpoint};
use serde_json::json;

use super::{invalid_backup_error, open};
use crate::client::Connection;
use crate::data_dir::DataDir;
use crate::error::{Error, Result, file};
use crate::keys::sync_parent_folder;
use crate::offline::{self, KeyFile, Spinner};
use crate::output::{Output, bytes, done, note, warning};

/// Entries that an empty data folder may have: secrets placed in advance, the file system's own, and leftovers of an
/// attempt.
const ALLOWED_ENTRIES: [&str; 5] = ["master-key", "admin-passphrase", "lost+found", "cache", RESTORE_FOLDER];
/// Name of the store's folder during a restore.
const RESTORE_FOLDER: &str = "store.restoring";

pub(super) async fn run(connection: &Connection, output: Output, backup: &Path, key: &KeyFile) -> Result<ExitCode> {
    let data = connection.data();
    check_empty(&data)?;
    let failpoint = |place| failpoint::hit(place).map_err(file("write", data.path()));
    let (key_file, key) = (key.path(&data), key.load(&data)?);
    let mut source = open(backup).await?;
    data.create()?;
    let folder = data.path().join(RESTORE_FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(file("remove", &folder))?;
    }

    let spinner = Spinner::new(output);
    let store = offline::open_or_create(folder.clone()).await?;
    let on_progress = &mut |read| spinner.set_message(format!("reading {}: {}", backup.display(), bytes(read)));
    let restored =
        store.restore(&mut source, &key, on_progress).await.map_err(|error| invalid_backup_error(backup, &error));
    if restored.is_err() {
        drop(store);
        // A partial restore is useless; if the deletion fails, the next attempt repeats it.
        drop(fs::remove_dir_all(&folder));
    } else {
        store.close().await?;
    }
    let summary = restored?;
    failpoint("restore.read")?;

    // Opening it again converts it to the current format.
    let store = offline::open(folder.clone()).await?;
    let options = FsckOptions { deep: true, repair: true };
    let FsckSummary { problems, repaired, .. } = store
        .fsck(&Schema, options, &mut |event| match event {
            FsckProgress::Read(entries) => spinner.set_message(format!("checking {entries} entries")),
            FsckProgress::Found(problem) => spinner.suspend(|| warning(&format!("{problem}: {}", problem.advice()))),
            FsckProgress::Repaired(problem) => {
                spinner.suspend(|| note(&format!("{problem}: {}", problem.repair_hint().unwrap_or_default())))
            }
        })
        .await?;
    store.close().await?;
    drop(spinner);
    failpoint("restore.checked")?;

    if !data.key_file().exists() {
        key.save(&data.key_file())?;
    }
    failpoint("restore.key")?;
    fs::rename(&folder, data.store()).map_err(file("rename", &folder))?;
    sync_parent_folder(&data.store())?;
    failpoint("restore.moved")?;
    let result = json!({ "file": backup, "data_dir": data.path(), "backup": summary, "problems": problems, "repaired": repaired });
    output.show(&result, || {
        let folder = data.path().display();
        done(&format!("{folder} contains the data as of {}", summary.header.created_at.format("%Y-%m-%d %H:%M:%SZ")));
        if key_file != data.key_file() {
            note(&format!("copied the key to {}", data.key_file().display()));
        }
        note(&format!("start the server: konnector --data-dir {folder} serve"));
        if problems > 0 {
            let fsck = crate::hint::command("fsck");
            warning(&format!("the backup contained {problems} problems; list them with `{fsck}`"));
        }
    });
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check_empty(data: &DataDir) -> Result<()> {
    let Ok(entries) = fs::read_dir(data.path()) else { return Ok(()) };
    for entry in entries {
        let name = entry.map_err(file("list", data.path()))?.file_name();
        if !ALLOWED_ENTRIES.iter().any(|allowed| name == *allowed) {
            return Err(Error::usage(
                format!("{} is not empty: it contains {}", data.path().display(), name.to_string_lossy()),
                "choose a new folder with --data-dir; nothing was changed",
            ));
        }
    }
    Ok(())
}
