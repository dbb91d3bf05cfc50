//! Cancellation of jobs.

use parking_lot::Mutex;
use std::collections::HashMap;

use konnector_store::DocRef;
use tokio_util::sync::CancellationToken;

use super::step::JobEvent;
use super::transition::LeaseAuthority;
use super::{Job, JobStatus};
use crate::Jobs;
use crate::{Error, Result};
use konnector_documents::doctype::JOBS;
use konnector_documents::instance::Instance;

/// The jobs that this process runs, with their cancellation tokens.
#[derive(Default)]
pub(crate) struct RunningJobs(Mutex<HashMap<DocRef, CancellationToken>>);

impl RunningJobs {
    pub(super) fn register(&self, job: &DocRef) -> CancellationToken {
        let cancel = CancellationToken::new();
        self.0.lock().insert(job.clone(), cancel.clone());
        cancel
    }

    pub(super) fn unregister(&self, job: &DocRef) {
        self.0.lock().remove(job);
    }

    fn cancel(&self, job: &DocRef) {
        if let Some(cancel) = self.0.lock().get(job) {
            cancel.cancel();
        }
    }
}

impl Jobs {
    /// Cancels a job: a queued one at once, a running one within the grace period of the sandbox. It ends with the
    /// error `UNKNOWN_ERROR.CANCELLED` and is not retried, unless the run ends before that. Returns the job as it
    /// is now.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no job has this id, [`Error::Conflict`] if the job has ended.
    pub async fn cancel(&self, instance: &Instance, id: &str) -> Result<Job> {
        let at = instance.doc(&JOBS, id);
        let job = self.get(instance, id)?;
        if matches!(job.state, JobStatus::Done | JobStatus::Errored) {
            return Err(Error::Conflict(format!("the job '{id}' has already ended")));
        }
        self.apply(&at, LeaseAuthority::None, JobEvent::CancelRequested, None).await?;
        self.context.state.running_jobs.cancel(&at);
        self.get(instance, id)
    }
}
