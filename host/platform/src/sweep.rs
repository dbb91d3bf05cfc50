//! What nobody needs any more: blobs that nothing refers to, which a crash between two durable steps or the end of an instance leaves
//! behind, and jobs that ended long ago.

use std::collections::HashSet;

use konnector_store::{BlobId, InstanceId};

use crate::doctype::{FILES, JOBS, KONNECTORS};
use crate::file::File;
use crate::job::Job;
use crate::konnector::Konnector;
use crate::stored::Stored;
use crate::{Platform, Result};

/// Younger blobs may be on their way into a document: the slowest upload is given a day.
const GRACE: chrono::Duration = chrono::Duration::days(1);
/// Jobs read at once.
const PAGE: usize = 200;

/// Between two sweeps.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(3_600);
/// Every so many sweeps, blobs are swept too.
const BLOBS: u32 = 24;

fn report(swept: Result<usize>, what: &str) {
    match swept {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "{what}"),
        Err(error) => tracing::warn!(%error, "a sweep failed; it is tried again later"),
    }
}

impl Platform {
    /// Sweeps again and again, and logs what came of it. Cancel-safe: the next sweep does the rest.
    pub(crate) async fn sweep_loop(&self) {
        for round in 0_u32.. {
            if round.is_multiple_of(BLOBS) {
                report(self.sweep_blobs().await, "blobs that nothing referred to were removed");
            }
            report(self.forget_old_jobs().await, "jobs that ended long ago were removed");
            tokio::time::sleep(PAUSE).await;
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
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(instance, &JOBS, after.as_deref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            for document in page {
                used.extend(Stored::<Job>::read(&JOBS, document)?.value.log);
            }
        }
    }
}
