//! Jobs that a client does itself: the server only keeps account of them (Cozy API, client jobs, §5.6).

use chrono::TimeDelta;
use konnector_store::Changes;

use super::{CLIENT_WORKER, Job, JobRequest, JobStatus, add_to_live_index, doc_ref, remove_from_live_index};
use crate::doctype::JOBS;
use crate::instance::Instance;
use crate::realtime::ChangeKind;
use crate::stored::{Stored, to_object};
use crate::{Error, Platform, Result};

/// A client that has not ended its job by then is not coming back.
const CLIENT_JOB_TIMEOUT: TimeDelta = TimeDelta::hours(24);
/// The error of such a job.
const TIMEOUT_CODE: &str = "UNKNOWN_ERROR.TIMEOUT";
/// How often the end of a job is stored again after somebody else was quicker.
const MAX_COMMIT_ATTEMPTS: usize = 5;

impl Platform {
    /// Adds a job that runs from now on, without a worker of ours.
    pub(super) fn stage_client_job(
        &self,
        instance: &Instance,
        request: JobRequest,
        changes: &mut Changes,
    ) -> Result<Job> {
        let now = self.clock.now();
        let job = Job { state: JobStatus::Running, started_at: Some(now), ..Job::new(instance, request, now) };
        changes.create(doc_ref(instance, &job), to_object(&job)?);
        changes.schedule(doc_ref(instance, &job), Some(now + CLIENT_JOB_TIMEOUT));
        add_to_live_index(instance, &job, changes);
        Ok(job)
    }

    /// Ends the job of a client that did not come back.
    pub(crate) async fn time_out_client_job(&self, instance: &Instance, id: &str) -> Result<()> {
        tracing::warn!(job = id, "the client has not ended its job for a day");
        self.end_client_job(instance, id, Some(TIMEOUT_CODE.to_owned())).await.map(drop)
    }

    /// A client says how its job ended: `error` is an error code, `None` says that it went well.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for a job of another worker; [`Error::NotFound`] when there is none with this id, [`Error::Conflict`] when it
    /// has ended already.
    pub async fn end_client_job(&self, instance: &Instance, id: &str, error: Option<String>) -> Result<Job> {
        for tries in 1.. {
            // Content and revision of one read: what was changed since conflicts.
            let Some(Stored { id: found, rev, value }) = self.load::<Job>(&instance.doc(&JOBS, id))? else { break };
            let mut job = Job { id: found, ..value };
            if job.worker != CLIENT_WORKER {
                return Err(Error::Forbidden(format!(
                    "jobs of the worker '{}' are ended by the server, not by clients",
                    job.worker
                )));
            }
            if matches!(job.state, JobStatus::Done | JobStatus::Errored) {
                return Err(Error::Conflict(format!("the job '{id}' has ended already")));
            }
            job.state = if error.is_some() { JobStatus::Errored } else { JobStatus::Done };
            job.error.clone_from(&error);
            job.finished_at = Some(self.clock.now());
            job.payload.clear();
            let mut changes = Changes::new();
            remove_from_live_index(instance, &job, &mut changes);
            changes.schedule(doc_ref(instance, &job), None);
            changes.put(doc_ref(instance, &job), &rev, to_object(&job)?);
            match self.commit(changes).await {
                Err(error) if error.is_conflict() && tries < MAX_COMMIT_ATTEMPTS => continue,
                done => drop(done?),
            }
            self.publish(&doc_ref(instance, &job), ChangeKind::Updated, &job);
            return Ok(job);
        }
        Err(Error::NotFound(format!("there is no job '{id}'")))
    }
}
