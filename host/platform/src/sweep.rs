//! Blobs that nothing refers to: what a crash between two durable steps, or the end of an instance, leaves behind.

use std::collections::HashSet;

use konnector_store::{BlobId, InstanceId};

use crate::doctype::{FILES, JOBS, KONNECTORS};
use crate::file::File;
use crate::job::Job;
use crate::konnector::Konnector;
use crate::{Platform, Result};

/// Younger blobs may be on their way into a document: the slowest upload is given a day.
const GRACE: chrono::Duration = chrono::Duration::days(1);

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

    /// Removes the blobs that nothing refers to; answers how many there were. Reads every document that may hold one.
    ///
    /// # Errors
    ///
    /// When the store fails, or a document cannot be read: then nothing is removed, because it may be what refers to a blob.
    pub async fn sweep_blobs(&self) -> Result<usize> {
        let mut used = HashSet::new();
        for instance in self.instances()? {
            self.collect_used(&instance.id, &mut used)?;
            tokio::task::yield_now().await;
        }
        let orphans = self.store.orphans(&used, self.clock.now() - GRACE).await?;
        for blob in &orphans {
            self.store.blobs().remove(blob).await?;
        }
        Ok(orphans.len())
    }

    fn collect_used(&self, instance: &InstanceId, used: &mut HashSet<BlobId>) -> Result<()> {
        for found in self.all::<Konnector>(instance, &KONNECTORS)? {
            used.extend(found.value.component);
            used.extend(found.value.icon_content);
        }
        for found in self.all::<File>(instance, &FILES)? {
            used.extend(found.value.content.map(|content| content.blob));
        }
        for found in self.all::<Job>(instance, &JOBS)? {
            used.extend(found.value.log);
        }
        Ok(())
    }
}
