//! Creates a backup: through the server if one is running, otherwise from the folder.

use std::path::PathBuf;

use konnector_platform::Schema;
use konnector_store::MasterKey;
use reqwest::Method;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::{incomplete_error, show, verify};
use crate::client::Connection;
use crate::draft::Draft;
use crate::error::{Error, Result, io};
use crate::offline::{self, KeyFile, Spinner};
use crate::output::{Output, bytes, warning};

pub(super) async fn run(
    connection: &Connection,
    output: Output,
    target: Option<PathBuf>,
    force: bool,
    key: &KeyFile,
) -> Result<()> {
    let default_name = format!("konnector-{}.backup", chrono::Utc::now().format("%Y%m%dT%H%M%SZ"));
    let target = match target {
        None => PathBuf::from(default_name),
        Some(folder) if folder.is_dir() => folder.join(default_name),
        Some(file) => file,
    };
    if target.exists() && !force {
        return Err(Error::failed(
            format!("{} already exists", target.display()),
            "choose another file, or replace it with --force",
        ));
    }
    // An aborted backup leaves no file under the name.
    let draft = Draft::new_private(&target)?;
    let mut writer = draft.as_async_file()?;
    let key = write(connection, output, key, &mut writer).await?;
    writer.flush().await.map_err(io("writing the backup"))?;
    drop(writer);
    let Some(key) = key else {
        draft.persist(&target)?;
        warning(
            "the backup was not verified, because the key is not on this machine; run `konnector backup verify` where it is",
        );
        return Ok(());
    };
    // Proves that the backup opens with the key, and only with it.
    let summary = verify(output, draft.path(), &key).await?;
    if verify(output, draft.path(), &MasterKey::generate()?).await.is_ok() {
        return Err(Error::failed("the backup opens with any key, so it was discarded", "report this bug"));
    }
    draft.persist(&target)?;
    show(output, "was written and verified", &target, &summary);
    Ok(())
}

/// Writes the backup to the file; returns the key if it is on this machine.
async fn write(connection: &Connection, output: Output, key: &KeyFile, target: &mut File) -> Result<Option<MasterKey>> {
    let data = connection.data();
    let spinner = Spinner::new(output);
    let running = connection.admin_url.is_some() || crate::doctor::is_locked(&data);
    if !running {
        offline::require_store(&data.store())?;
        let key = key.load(&data)?;
        offline::check_key(&data.store(), &key)?;
        let store = offline::open(data.store()).await?;
        let result = store
            .back_up(&Schema, &key, target, &mut |written| spinner.set_message(format!("writing: {}", bytes(written))))
            .await;
        store.close().await?;
        result.map_err(|error| match error {
            konnector_store::Error::BlobsDamaged { .. } => {
                incomplete_error(&format!("the backup could not be created: {error}"))
            }
            other => other.into(),
        })?;
        return Ok(Some(key));
    }
    let mut response = connection.admin()?.download(Method::POST, "backup").await?;
    let mut size = 0;
    loop {
        let part = match response.chunk().await {
            Ok(Some(part)) => part,
            Ok(None) => break,
            Err(error) => return Err(interrupted_error(connection, &error).await),
        };
        size += part.len() as u64;
        spinner.set_message(format!("writing: {}", bytes(size)));
        target.write_all(&part).await.map_err(io("writing the backup"))?;
    }
    // The server may run elsewhere, and the key may be there.
    Ok(MasterKey::load(&key.path(&data))?)
}

/// Returns the error for an aborted backup, with the server's reason if it still responds.
async fn interrupted_error(connection: &Connection, error: &reqwest::Error) -> Error {
    let outcome = async { connection.admin()?.json(Method::GET, "backup", &[]).await };
    match outcome.await.ok().as_ref().and_then(|outcome| outcome.get("error")?.as_str()) {
        Some(reason) => incomplete_error(&format!("the backup could not be created: {reason}")),
        None => {
            Error::failed(format!("the server aborted the backup: {error}"), "see the server's log, then try again")
        }
    }
}
