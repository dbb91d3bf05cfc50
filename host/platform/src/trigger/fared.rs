//! How a trigger has fared.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::life::{Occasions, Pause};
use crate::doctype::TRIGGERS;
use crate::instance::Instance;
use crate::job::State;
use crate::{Platform, Result};

/// How a trigger has fared, from its newest 50 jobs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TriggerState {
    /// Of which trigger.
    pub trigger_id: String,
    /// State of its newest job, `done` where there is none; `errored` while the trigger itself cannot be used.
    pub status: Option<State>,
    /// Start of the newest job that went well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<DateTime<Utc>>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_job_id: Option<String>,
    /// Start of the newest job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_execution: Option<DateTime<Utc>>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_executed_job_id: Option<String>,
    /// Start of the newest job that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<DateTime<Utc>>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_job_id: Option<String>,
    /// Its error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Start of the newest job a person asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_manual_execution: Option<DateTime<Utc>>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_manual_job_id: Option<String>,
    /// Set while the schedule waits for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Set while the vendor has locked the account; until then nothing runs, not even by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<DateTime<Utc>>,
    /// When it is due next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_execution: Option<DateTime<Utc>>,
    /// What became of its due instants, events and calls.
    pub occasions: Occasions,
}

impl Platform {
    /// When a trigger is due next.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn trigger_due(&self, instance: &Instance, id: &str) -> Result<Option<DateTime<Utc>>> {
        Ok(self.store.due_at(&instance.doc(&TRIGGERS, id))?)
    }

    /// When the newest of a trigger's last 50 jobs that went well began.
    pub(crate) fn last_success(&self, instance: &Instance, id: &str) -> Result<Option<DateTime<Utc>>> {
        let jobs = self.trigger_jobs(instance, id, 50)?;
        Ok(jobs.iter().filter(|job| job.state == State::Done).find_map(|job| job.started_at))
    }

    /// How a trigger has fared.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none with this id.
    pub fn trigger_state(&self, instance: &Instance, id: &str) -> Result<TriggerState> {
        let trigger = self.trigger(instance, id)?;
        let mut jobs = self.trigger_jobs(instance, id, 50)?;
        jobs.retain(|job| job.superseded_by.is_none());
        let mut state = TriggerState {
            trigger_id: id.to_owned(),
            status: Some(if trigger.life.is_unusable() {
                State::Errored
            } else {
                jobs.first().map_or(State::Done, |job| job.state)
            }),
            paused: trigger.life.paused.clone(),
            locked_until: trigger.life.lock(self.clock.now()),
            occasions: trigger.life.occasions,
            next_execution: self.trigger_due(instance, id)?,
            ..TriggerState::default()
        };
        if let Some(newest) = jobs.iter().find(|job| job.started_at.is_some()) {
            state.last_execution = newest.started_at;
            state.last_executed_job_id = Some(newest.id.clone());
        }
        if let Some(success) = jobs.iter().find(|job| job.state == State::Done) {
            state.last_success = success.started_at;
            state.last_successful_job_id = Some(success.id.clone());
        }
        if let Some(failure) = jobs.iter().find(|job| job.state == State::Errored) {
            state.last_failure = failure.started_at;
            state.last_failed_job_id = Some(failure.id.clone());
            state.last_error.clone_from(&failure.error);
        }
        if trigger.life.is_unusable() {
            state.last_error = trigger.life.paused.map(|pause| pause.code);
        }
        if let Some(manual) = jobs.iter().find(|job| job.manual_execution) {
            state.last_manual_execution = manual.started_at;
            state.last_manual_job_id = Some(manual.id.clone());
        }
        Ok(state)
    }
}
