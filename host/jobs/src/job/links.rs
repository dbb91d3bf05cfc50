//! Links of a job's document.

use konnector_store::{BlobLink, Links};

use super::chain::RETRY_BY_CHAIN;
use super::{BY_TRIGGER, Job, JobStatus, LIVE_BY_TRIGGER, LIVE_BY_WORKER, inverted_id};

/// The indexes of jobs.
pub const INDEXES: [&str; 4] = [LIVE_BY_WORKER, BY_TRIGGER, LIVE_BY_TRIGGER, RETRY_BY_CHAIN];

impl Job {
    /// Returns the blob of the job's log, and the job's index keys, both while the job is live and afterwards.
    pub fn links(&self, id: &str) -> Links {
        let log = self.log.map(|blob| BlobLink { blob, size: None, sha256: self.log_checksum.clone() });
        let live = matches!(self.state, JobStatus::Queued | JobStatus::Running);
        let mut unique = Vec::new();
        if live {
            unique.push((LIVE_BY_WORKER, format!("{}/{id}", self.worker)));
        }
        unique.push((BY_TRIGGER, format!("{}/{}", self.trigger_id.as_deref().unwrap_or("-"), inverted_id(id))));
        if let Some(trigger) = self.trigger_id.as_ref().filter(|_| live) {
            unique.push((LIVE_BY_TRIGGER, format!("{trigger}/{id}")));
        }
        if let Some(chain) = self.retry_index_key().filter(|_| live) {
            unique.push((RETRY_BY_CHAIN, chain));
        }
        Links { blobs: log.into_iter().collect(), unique_keys: unique }
    }
}
