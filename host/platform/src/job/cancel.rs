//! Ending a job before it has done its work.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use konnector_store::DocRef;
use tokio_util::sync::CancellationToken;

use super::step::JobEvent;
use super::transition::LeaseAuthority;
use super::{Job, JobStatus};
use crate::doctype::JOBS;
use crate::instance::Instance;
use crate::{Error, Platform, Result};

/// The jobs that this process runs, with what ends them.
#[derive(Default)]
pub(crate) struct RunningJobs(Mutex<HashMap<DocRef, CancellationToken>>);

impl RunningJobs {
    pub(super) fn register(&self, job: &DocRef) -> CancellationToken {
        let cancel = CancellationToken::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(job.clone(), cancel.clone());
        cancel
    }

    pub(super) fn unregister(&self, job: &DocRef) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
    }

    fn cancel(&self, job: &DocRef) {
        if let Some(cancel) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(job) {
            cancel.cancel();
        }
    }
}

impl Platform {
    /// Ends a job: one that waits at once, one that runs within the seconds that the sandbox gives it. It ends with the error
    /// `UNKNOWN_ERROR.CANCELLED` and is not tried again, unless its run comes to an end of its own before. Answers the job as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none with this id, [`Error::Conflict`] when it has ended.
    pub async fn cancel_job(&self, instance: &Instance, id: &str) -> Result<Job> {
        let at = instance.doc(&JOBS, id);
        let job = self.job(instance, id)?;
        if matches!(job.state, JobStatus::Done | JobStatus::Errored) {
            return Err(Error::Conflict(format!("the job '{id}' has ended already")));
        }
        self.apply_job_event(&at, LeaseAuthority::None, JobEvent::CancelRequested, None).await?;
        self.running_jobs().cancel(&at);
        self.job(instance, id)
    }
}
