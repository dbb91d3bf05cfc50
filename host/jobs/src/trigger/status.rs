//! Computes the status of a trigger from its newest jobs.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::runtime_state::{Pause, TriggerCounters};
use crate::Result;
use crate::Triggers;
use crate::job::{Job, JobStatus};
use konnector_documents::doctype::TRIGGERS;
use konnector_documents::instance::Instance;

/// Number of jobs from which the status of a trigger is computed (cozy-stack's limit).
const MAX_JOBS: usize = 50;

/// Status of a trigger, computed from its newest jobs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TriggerStatus {
    /// Id of the trigger.
    pub trigger_id: String,
    /// State of the newest job, `done` if there is none; `errored` while the trigger itself cannot be used.
    pub status: Option<JobStatus>,
    /// Start of the newest successful job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<DateTime<Utc>>,
    /// Id of the newest successful job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_job_id: Option<String>,
    /// Start of the newest job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_execution: Option<DateTime<Utc>>,
    /// Id of the newest job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_executed_job_id: Option<String>,
    /// Start of the newest job that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<DateTime<Utc>>,
    /// Id of the newest job that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_job_id: Option<String>,
    /// Error code of the newest job that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Start of the newest job that a person requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_manual_execution: Option<DateTime<Utc>>,
    /// Id of the newest job that a person requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_manual_job_id: Option<String>,
    /// Set while the schedule waits for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Set while the vendor has locked the account; until then nothing runs, not even a manual launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<DateTime<Utc>>,
    /// Time at which the trigger is due next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_execution: Option<DateTime<Utc>>,
    /// Numbers of the trigger's ticks, including events and webhook calls.
    #[serde(rename = "occasions")]
    pub counters: TriggerCounters,
}

impl TriggerStatus {
    /// Adds a job that is older than those added before.
    fn add_older_job(&mut self, job: &Job) {
        if job.superseded_by.is_some() {
            return;
        }
        self.status.get_or_insert(job.state);
        if self.last_executed_job_id.is_none() && job.started_at.is_some() {
            self.last_execution = job.started_at;
            self.last_executed_job_id = Some(job.id.clone());
        }
        if self.last_successful_job_id.is_none() && job.state == JobStatus::Done {
            self.last_success = job.started_at;
            self.last_successful_job_id = Some(job.id.clone());
        }
        if self.last_failed_job_id.is_none() && job.state == JobStatus::Errored {
            self.last_failure = job.started_at;
            self.last_failed_job_id = Some(job.id.clone());
            self.last_error.clone_from(&job.error);
        }
        if self.last_manual_job_id.is_none() && job.manual_execution {
            self.last_manual_execution = job.started_at;
            self.last_manual_job_id = Some(job.id.clone());
        }
    }

    /// Returns whether older jobs can no longer change the status.
    fn is_complete(&self) -> bool {
        [&self.last_executed_job_id, &self.last_successful_job_id, &self.last_failed_job_id, &self.last_manual_job_id]
            .iter()
            .all(|id| id.is_some())
    }
}

impl Triggers {
    /// Returns when a trigger is next due.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn due(&self, instance: &Instance, id: &str) -> Result<Option<DateTime<Utc>>> {
        Ok(self.context.core.store().due_at(&instance.doc(&TRIGGERS, id))?)
    }

    /// Returns the start of the newest successful job among a trigger's last 50 jobs.
    pub fn last_success(&self, instance: &Instance, id: &str) -> Result<Option<DateTime<Utc>>> {
        let mut started = None;
        self.context.jobs().visit_of_trigger(instance, id, MAX_JOBS, |job| {
            started = job.started_at.filter(|_| job.state == JobStatus::Done);
            started.is_none()
        })?;
        Ok(started)
    }

    /// Returns the status of a trigger.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it does not exist.
    pub fn status(&self, instance: &Instance, id: &str) -> Result<TriggerStatus> {
        let trigger = self.get(instance, id)?;
        let mut state = TriggerStatus {
            trigger_id: id.to_owned(),
            status: None,
            paused: trigger.runtime.paused.clone(),
            locked_until: trigger.runtime.active_lock(self.context.core.clock().now()),
            counters: trigger.runtime.counters,
            next_execution: self.due(instance, id)?,
            ..TriggerStatus::default()
        };
        // Stops as soon as the status is complete, because a list of triggers does this for each trigger.
        self.context.jobs().visit_of_trigger(instance, id, MAX_JOBS, |job| {
            state.add_older_job(job);
            !state.is_complete()
        })?;
        if trigger.runtime.is_unusable() {
            state.status = Some(JobStatus::Errored);
            state.last_error = trigger.runtime.paused.map(|pause| pause.code);
        }
        state.status.get_or_insert(JobStatus::Done);
        Ok(state)
    }
}
