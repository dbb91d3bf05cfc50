//! Writing a backup: through the server where one runs, else from the folder.

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
    let named = || PathBuf::from(format!("konnector-{}.backup", chrono::Utc::now().format("%Y%m%dT%H%M%SZ")));
    let target = target.unwrap_or_else(named);
    if target.exists() && !force {
        return Err(Error::failed(
            format!("{} is there already", target.display()),
            "name another file, or replace it with --force",
        ));
    }
    // An aborted backup leaves no file under the name.
    let draft = Draft::new_private(&target)?;
    let mut written = draft.as_async_file()?;
    let key = write(connection, output, key, &mut written).await?;
    written.flush().await.map_err(io("writing the backup"))?;
    drop(written);
    let Some(key) = key else {
        draft.persist(&target)?;
        warning(
            "the backup was not checked, because the key is not here: check it where the key is, with backup verify",
        );
        return Ok(());
    };
    // Proves that the backup opens with the key, and only with it.
    let summary = verify(output, draft.path(), &key).await?;
    if verify(output, draft.path(), &MasterKey::generate()?).await.is_ok() {
        return Err(Error::failed("the backup opens with any key: it is not kept", "report this"));
    }
    draft.persist(&target)?;
    show(output, "is written and checked", &target, &summary);
    Ok(())
}

/// Writes the backup to the file; returns the key if it is on this machine.
async fn write(connection: &Connection, output: Output, key: &KeyFile, to: &mut File) -> Result<Option<MasterKey>> {
    let data = connection.data();
    let going = Spinner::new(output);
    let running = connection.admin_url.is_some() || crate::doctor::is_locked(&data);
    if !running {
        let key = key.load(&data)?;
        offline::check_key(&data.store(), &key)?;
        let store = offline::open(data.store()).await?;
        let made = store
            .back_up(&Schema, &key, to, &mut |written| going.set_message(format!("writing: {}", bytes(written))))
            .await;
        store.close().await?;
        made.map_err(|error| match error {
            konnector_store::Error::BlobsDamaged { .. } => incomplete_error(&format!("no backup was made: {error}")),
            other => other.into(),
        })?;
        return Ok(Some(key));
    }
    let mut answer = connection.admin()?.download(Method::POST, "backup").await?;
    let mut size = 0;
    loop {
        let part = match answer.chunk().await {
            Ok(Some(part)) => part,
            Ok(None) => break,
            Err(error) => return Err(interrupted_error(connection, &error).await),
        };
        size += part.len() as u64;
        going.set_message(format!("writing: {}", bytes(size)));
        to.write_all(&part).await.map_err(io("writing the backup"))?;
    }
    // The server may run elsewhere, and the key may be there.
    Ok(MasterKey::load(&key.path(&data))?)
}

/// Why the server aborted a backup, if it still responds.
async fn interrupted_error(connection: &Connection, error: &reqwest::Error) -> Error {
    let outcome = async { connection.admin()?.json(Method::GET, "backup", &[]).await };
    match outcome.await.ok().as_ref().and_then(|outcome| outcome.get("error")?.as_str()) {
        Some(reason) => incomplete_error(&format!("no backup was made: {reason}")),
        None => Error::failed(format!("the server broke the backup off: {error}"), "its log says why; try again"),
    }
}
