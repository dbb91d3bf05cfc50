//! Jobs that a client does itself: the server only keeps account of them (Cozy API, client jobs, §5.6).

use chrono::TimeDelta;
use konnector_store::Changes;

use super::{CLIENT_WORKER, Job, JobRequest, State, at, enter, leave};
use crate::doctype::JOBS;
use crate::instance::Instance;
use crate::realtime::Happened;
use crate::stored::{Stored, object};
use crate::{Error, Platform, Result};

/// A client that has not ended its job by then is not coming back.
const PATIENCE: TimeDelta = TimeDelta::hours(24);
/// The error of such a job.
const TIMEOUT: &str = "UNKNOWN_ERROR.TIMEOUT";
/// How often the end of a job is stored again after somebody else was quicker.
const TRIES: usize = 5;

impl Platform {
    /// Adds a job that runs from now on, without a worker of ours.
    pub(super) fn stage_client_job(
        &self,
        instance: &Instance,
        request: JobRequest,
        changes: &mut Changes,
    ) -> Result<Job> {
        let now = self.clock.now();
        let job = Job { state: State::Running, started_at: Some(now), ..Job::new(instance, request, now) };
        changes.create(at(instance, &job), object(&job)?);
        changes.schedule(at(instance, &job), Some(now + PATIENCE));
        enter(instance, &job, changes);
        Ok(job)
    }

    /// Ends the job of a client that did not come back.
    pub(crate) async fn give_up_client_job(&self, instance: &Instance, id: &str) -> Result<()> {
        tracing::warn!(job = id, "the client has not ended its job for a day");
        self.end_client_job(instance, id, Some(TIMEOUT.to_owned())).await.map(drop)
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
            let Some(Stored { id: found, rev, value }) = self.stored::<Job>(&instance.doc(&JOBS, id))? else { break };
            let mut job = Job { id: found, ..value };
            if job.worker != CLIENT_WORKER {
                return Err(Error::Forbidden(format!(
                    "jobs of the worker '{}' are ended by the server, not by clients",
                    job.worker
                )));
            }
            if matches!(job.state, State::Done | State::Errored) {
                return Err(Error::Conflict(format!("the job '{id}' has ended already")));
            }
            job.state = if error.is_some() { State::Errored } else { State::Done };
            job.error.clone_from(&error);
            job.finished_at = Some(self.clock.now());
            job.occasion.erase();
            let mut changes = Changes::new();
            leave(instance, &job, &mut changes);
            changes.schedule(at(instance, &job), None);
            changes.put(at(instance, &job), &rev, object(&job)?);
            match self.commit(changes).await {
                Err(error) if error.is_conflict() && tries < TRIES => continue,
                done => drop(done?),
            }
            self.publish(&at(instance, &job), Happened::Updated, &job);
            return Ok(job);
        }
        Err(Error::NotFound(format!("there is no job '{id}'")))
    }
}
