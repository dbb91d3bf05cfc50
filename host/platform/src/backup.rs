//! A backup of all data, made while the server runs.

use parking_lot::Mutex;

use konnector_store::Error as StoreError;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::oneshot;

use crate::schema::Schema;
use crate::{Error, Platform, Result};
use tracing::Instrument as _;

/// Size of the buffer between the store and the client.
const BUFFER_SIZE: usize = 128 * 1024;

/// Why the last backup failed, for clients whose connection was interrupted.
#[derive(Debug, Default)]
pub(crate) struct LastBackupFailure(Mutex<Option<String>>);

/// A backup in progress. Dropping it aborts the backup.
pub struct Backup {
    reader: DuplexStream,
    outcome: Option<oneshot::Receiver<Result<()>>>,
}

impl Platform {
    /// Starts a backup.
    #[must_use]
    pub fn start_backup(&self) -> Backup {
        let (mut writer, reader) = tokio::io::duplex(BUFFER_SIZE);
        let (done, outcome) = oneshot::channel();
        let platform = self.clone();
        *self.state.last_backup_failure.0.lock() = None;
        self.core().tasks().spawn(
            async move {
                let progress = &mut |_| {};
                let made = tokio::select! {
                    biased;
                    () = platform.core().draining().cancelled() => {
                        Err(Error::Unavailable("the server is shutting down".to_owned()))
                    }
                    made = platform.core().store().back_up(&Schema, platform.core().key(), &mut writer, progress) => {
                        made.map_err(Error::from)
                    }
                };
                match &made {
                    Ok(summary) => tracing::info!(entries = summary.entries, blobs = summary.blobs, "backup created"),
                    Err(error) => tracing::warn!(%error, "backup failed"),
                }
                *platform.state.last_backup_failure.0.lock() = made.as_ref().err().map(ToString::to_string);
                drop(writer);
                // A receiver that no longer listens has abandoned the backup.
                drop(done.send(made.map(drop)));
            }
            .in_current_span(),
        );
        Backup { reader, outcome: Some(outcome) }
    }

    /// Returns why the last backup failed, if it did.
    #[must_use]
    pub fn last_backup_failure(&self) -> Option<String> {
        self.state.last_backup_failure.0.lock().clone()
    }
}

impl Backup {
    /// Returns the next bytes; `None` at the end of a complete backup.
    ///
    /// # Errors
    ///
    /// If the backup failed; the bytes returned so far are useless.
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
