//! Sweep of unused data: jobs that ended long ago, and blobs without references, which a crash between two durable
//! steps or the deletion of an instance leaves behind.

use konnector_store::MIN_ORPHAN_AGE;

use crate::schema::Schema;
use crate::{Platform, Result};

/// Interval between two sweeps.
const SWEEP_INTERVAL: std::time::Duration = std::time::Duration::from_secs(3_600);
/// Blobs are swept at every n-th sweep.
const SWEEPS_PER_BLOB_SWEEP: u32 = 24;

fn log_sweep(swept: Result<usize>, what: &str) {
    match swept {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "{what}"),
        Err(error) => tracing::warn!(%error, "a sweep failed; it will be retried later"),
    }
}

impl Platform {
    /// Sweeps at each interval, and logs the results. Cancel-safe, because the next sweep does the rest.
    pub(crate) async fn run_sweeps(&self) {
        for round in 0_u32.. {
            if round.is_multiple_of(SWEEPS_PER_BLOB_SWEEP) {
                log_sweep(self.sweep_blobs().await, "deleted unreferenced blobs");
            }
            log_sweep(self.jobs().delete_old().await, "deleted old jobs");
            tokio::time::sleep(SWEEP_INTERVAL).await;
        }
    }

    /// Deletes blobs without references and returns their number. Reads every document.
    ///
    /// # Errors
    ///
    /// If the store fails, or a document cannot be read; nothing is deleted then, because that document may refer to a
    /// blob.
    pub async fn sweep_blobs(&self) -> Result<usize> {
        let orphans = self.core().store().orphaned_blobs(&Schema, self.core().clock().now() - MIN_ORPHAN_AGE).await?;
        let count = orphans.len();
        self.core().delete_blobs(orphans).await;
        Ok(count)
    }
}
