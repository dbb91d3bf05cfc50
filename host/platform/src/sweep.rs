//! Blobs that nothing refers to: what a crash between two durable steps, or the end of an instance, leaves behind.

use konnector_store::ORPHAN_AGE;

use crate::schema::Schema;
use crate::{Platform, Result};

impl Platform {
    /// Sweeps, and logs what came of it. Cancelled when the server stops.
    pub(crate) async fn sweep_once(&self) {
        let swept = tokio::select! {
            swept = self.sweep_blobs() => swept,
            () = self.stopping().cancelled() => return,
        };
        match swept {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "blobs that nothing referred to were removed"),
            Err(error) => tracing::warn!(%error, "blobs that nothing refers to could not be removed"),
        }
    }

    /// Removes the blobs that nothing refers to; answers how many there were. Reads every document.
    ///
    /// # Errors
    ///
    /// When the store fails, or a document cannot be read: then nothing is removed, because it may be what refers to a blob.
    pub async fn sweep_blobs(&self) -> Result<usize> {
        let orphans = self.store.orphans(&Schema, self.clock.now() - ORPHAN_AGE).await?;
        for blob in &orphans {
            self.store.blobs().remove(blob).await?;
        }
        Ok(orphans.len())
    }
}
