//! A backup of everything, made while the server runs.

use std::sync::{Mutex, PoisonError};

use konnector_store::Error as StoreError;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::oneshot;

use crate::schema::Schema;
use crate::{Error, Platform, Result};

/// Bytes on their way from the store to whoever asked for the backup.
const BUFFER_SIZE: usize = 128 * 1024;

/// Why the last backup failed, for whoever got a connection that broke off.
#[derive(Debug, Default)]
pub(crate) struct LastBackupFailure(Mutex<Option<String>>);

/// A backup on its way. When it is dropped, the backup is given up.
pub struct Backup {
    reader: DuplexStream,
    outcome: Option<oneshot::Receiver<Result<()>>>,
}

impl Platform {
    /// Begins to make a backup.
    #[must_use]
    pub fn start_backup(&self) -> Backup {
        let (mut writer, reader) = tokio::io::duplex(BUFFER_SIZE);
        let (done, outcome) = oneshot::channel();
        let platform = self.clone();
        *self.last_backup_failure.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.tasks().spawn(async move {
            let told = &mut |_| {};
            let made = tokio::select! {
                biased;
                () = platform.draining().cancelled() => Err(Error::Unavailable("the server stops".to_owned())),
                made = platform.store.back_up(&Schema, &platform.key, &mut writer, told) => made.map_err(Error::from),
            };
            match &made {
                Ok(summary) => tracing::info!(entries = summary.entries, blobs = summary.blobs, "a backup was made"),
                Err(error) => tracing::warn!(%error, "a backup could not be made"),
            }
            *platform.last_backup_failure.0.lock().unwrap_or_else(PoisonError::into_inner) =
                made.as_ref().err().map(ToString::to_string);
            drop(writer);
            // Who no longer listens has given up.
            drop(done.send(made.map(drop)));
        });
        Backup { reader, outcome: Some(outcome) }
    }

    /// Why the last backup failed, if it did.
    #[must_use]
    pub fn last_backup_failure(&self) -> Option<String> {
        self.last_backup_failure.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Backup {
    /// The next bytes; `None` at the end of a whole backup.
    ///
    /// # Errors
    ///
    /// When the backup could not be made: what came of it is worth nothing.
    pub async fn next_chunk(&mut self) -> Result<Option<bytes::Bytes>> {
        let mut part = Vec::with_capacity(BUFFER_SIZE);
        // Reading from memory does not fail.
        if self.reader.read_buf(&mut part).await.unwrap_or(0) > 0 {
            return Ok(Some(part.into()));
        }
        match self.outcome.take() {
            None => Ok(None),
            Some(outcome) => outcome.await.unwrap_or(Err(Error::Store(StoreError::Closed))).map(|()| None),
        }
    }
}
