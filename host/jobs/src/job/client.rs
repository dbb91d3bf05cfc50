//! Jobs that a client carries out itself and the server only records (Cozy API, client jobs, §5.6).

use chrono::TimeDelta;
use konnector_store::Changes;

use super::{CLIENT_WORKER, Job, JobRequest, JobStatus, add_to_live_index, doc_ref, remove_from_live_index};
use crate::Jobs;
use crate::{Error, Result};
use konnector_documents::doctype::JOBS;
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Stored, retry_on_conflict, to_object};

/// A client that has not ended its job after this time is presumed lost.
const CLIENT_JOB_TIMEOUT: TimeDelta = TimeDelta::hours(24);
/// Error code of a job whose client is presumed lost.
const TIMEOUT_CODE: &str = "UNKNOWN_ERROR.TIMEOUT";
impl Jobs {
    /// Adds a job that is running immediately, without a worker of the server.
    pub(super) fn stage_client_job(
        &self,
        instance: &Instance,
        request: JobRequest,
        changes: &mut Changes,
    ) -> Result<Job> {
        let now = self.context.core.clock().now();
        let job = Job { state: JobStatus::Running, started_at: Some(now), ..Job::new(instance, request, now) };
        changes.create(doc_ref(instance, &job), to_object(&job)?);
        changes.schedule(doc_ref(instance, &job), Some(now + CLIENT_JOB_TIMEOUT));
        add_to_live_index(instance, &job, changes);
        Ok(job)
    }

    /// Ends the job of a client that is presumed lost.
    pub(crate) async fn time_out_client_job(&self, instance: &Instance, id: &str) -> Result<()> {
        tracing::warn!(job = id, "the client has not ended its job within a day");
        self.end_client_job(instance, id, Some(TIMEOUT_CODE.to_owned())).await.map(drop)
    }

    /// Ends a job as its client reports: `error` is an error code, `None` means success.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for a job of another worker; [`Error::NotFound`] if none has this id, [`Error::Conflict`]
    /// if it has already ended.
    pub async fn end_client_job(&self, instance: &Instance, id: &str, error: Option<String>) -> Result<Job> {
        retry_on_conflict(|| async {
            // Body and revision come from one read, which makes a concurrent change conflict.
            let Some(Stored { id: found, rev, value }) = self.context.core.load::<Job>(&instance.doc(&JOBS, id))?
            else {
                return Err(Error::NotFound(format!("there is no job '{id}'")));
            };
            let mut job = Job { id: found, ..value };
            if job.worker != CLIENT_WORKER {
                return Err(Error::Forbidden(format!(
                    "jobs of the worker '{}' are ended by the server, not by clients",
                    job.worker
                )));
            }
            if matches!(job.state, JobStatus::Done | JobStatus::Errored) {
                return Err(Error::Conflict(format!("the job '{id}' has already ended")));
            }
            job.state = if error.is_some() { JobStatus::Errored } else { JobStatus::Done };
            job.error.clone_from(&error);
            job.finished_at = Some(self.context.core.clock().now());
            job.payload.clear();
            let mut changes = Changes::new();
            remove_from_live_index(instance, &job, &mut changes);
            changes.schedule(doc_ref(instance, &job), None);
            changes.put(doc_ref(instance, &job), &rev, to_object(&job)?);
            self.context.core.commit(changes).await?;
            self.context.core.publish(&doc_ref(instance, &job), ChangeKind::Updated, &job);
            Ok(job)
        })
        .await
    }
}
