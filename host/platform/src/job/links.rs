//! What the document of a job refers to.

use konnector_store::{BlobLink, Links};

use super::chain::RETRY;
use super::{BY_TRIGGER, Job, LIVE, LIVE_BY_TRIGGER, State, inverted};

/// The indexes of jobs.
pub(crate) const INDEXES: [&str; 4] = [LIVE, BY_TRIGGER, LIVE_BY_TRIGGER, RETRY];

impl Job {
    /// Its log, and its keys while it lives and after.
    pub(crate) fn links(&self, id: &str) -> Links {
        let log = self.log.map(|blob| BlobLink { blob, size: None, sha256: self.log_checksum.clone() });
        let live = matches!(self.state, State::Queued | State::Running);
        let mut unique = Vec::new();
        if live {
            unique.push((LIVE, format!("{}/{id}", self.worker)));
        }
        unique.push((BY_TRIGGER, format!("{}/{}", self.trigger_id.as_deref().unwrap_or("-"), inverted(id))));
        if let Some(trigger) = self.trigger_id.as_ref().filter(|_| live) {
            unique.push((LIVE_BY_TRIGGER, format!("{trigger}/{id}")));
        }
        if let Some(chain) = self.chain_entry().filter(|_| live) {
            unique.push((RETRY, chain));
        }
        Links { blobs: log.into_iter().collect(), unique_keys: unique }
    }
}
