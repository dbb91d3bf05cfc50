//! Why a queued job does not run yet.

use chrono::{DateTime, Utc};
use konnector_documents::instance::Instance;
use serde::Serialize;

use super::{Job, JobStatus, doc_ref};
use crate::{Jobs, Result};

/// Reason why a queued job does not run yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum WaitReason {
    /// Its time has not come, for example because it is a retry.
    Time {
        /// Time from which it may run.
        until: DateTime<Utc>,
    },
    /// Another job of the same account is running, or of the same konnector if the job has no account.
    Job {
        /// Id of the running job.
        id: String,
    },
}

impl Jobs {
    /// Returns why a queued job does not run yet; `None` if it is not queued, or only waits for a worker: all are busy,
    /// or the limit of jobs at its vendor or of its konnector is reached.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn wait_reason(&self, instance: &Instance, job: &Job) -> Result<Option<WaitReason>> {
        if job.state != JobStatus::Queued {
            return Ok(None);
        }
        let store = self.context.core.store();
        // A client runs the jobs of its worker without a queue.
        let Some(queued) = store.get_queued(&doc_ref(instance, job))? else { return Ok(None) };
        if queued.entry.run_at > self.context.core.clock().now() {
            return Ok(Some(WaitReason::Time { until: queued.entry.run_at }));
        }
        if queued.entry.lock.is_some() {
            let leases = store.leases()?;
            let holder =
                leases.into_iter().find(|lease| lease.job.instance == instance.id && lease.lock == queued.entry.lock);
            if let Some(holder) = holder {
                return Ok(Some(WaitReason::Job { id: holder.job.id }));
            }
        }
        Ok(None)
    }
}
