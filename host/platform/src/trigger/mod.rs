//! Triggers: when a job is pushed by itself.

mod ended;
mod schedule;
mod scheduler;

use chrono::{DateTime, Utc};
use konnector_manifest::Slug;
use konnector_store::{Changes, DocRef};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use schedule::Schedule;

use crate::crontab;
use crate::doctype::TRIGGERS;
use crate::instance::Instance;
use crate::job::{Cause, Job, JobOptions, JobRequest, KONNECTOR_WORKER, Occasion, State};
use crate::realtime::Happened;
use crate::stored::{Stored, new_id, object};
use crate::{Error, Platform, Result};

/// A trigger, as its document holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trigger {
    /// Document id.
    #[serde(skip)]
    pub id: String,
    /// Domain of the instance.
    pub domain: String,
    /// `@cron`, `@every`, `@at` or `@in`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the type needs: a crontab, a duration, a date.
    pub arguments: String,
    /// Name of the worker.
    pub worker: String,
    /// What the job is given.
    pub message: Value,
    /// Limits of its jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<JobOptions>,
    /// IANA time zone in which a crontab is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<chrono_tz::Tz>,
    /// Who made it and when.
    #[serde(rename = "cozyMetadata")]
    pub metadata: Value,
    /// Set while the schedule waits for the user.
    #[serde(rename = "_paused", default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Instants that passed without a job of their own.
    #[serde(rename = "_missed", default)]
    pub missed: Missed,
}

/// Why a schedule waits: a refused password is tried once, not every night.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pause {
    /// Error code of the run.
    pub code: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What became of due instants that made no job: none is lost without a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The server was down; one later job stood for them all.
    pub coalesced: u64,
    /// An earlier job of the trigger had not ended yet.
    pub overlapped: u64,
    /// The schedule waited for the user.
    pub paused: u64,
}

/// What a new trigger is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTrigger {
    /// See [`Trigger::kind`].
    pub kind: String,
    /// See [`Trigger::arguments`].
    pub arguments: String,
    /// See [`Trigger::worker`].
    pub worker: String,
    /// See [`Trigger::message`].
    pub message: Value,
    /// See [`Trigger::options`].
    pub options: Option<JobOptions>,
    /// Subject of the token that asks.
    pub created_by: String,
}

/// How a trigger has fared, from its newest 50 jobs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TriggerState {
    /// Of which trigger.
    pub trigger_id: String,
    /// State of its newest job, `done` where there is none.
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
    /// When it is due next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_execution: Option<DateTime<Utc>>,
}

impl Trigger {
    /// When it is due.
    ///
    /// # Errors
    ///
    /// See [`Schedule::parse`].
    pub fn schedule(&self) -> Result<Schedule> {
        let created = self.metadata.get("createdAt").and_then(Value::as_str).and_then(|text| text.parse().ok());
        Schedule::parse(&self.kind, &self.arguments, created.unwrap_or_default())
    }

    /// Whether its jobs run a konnector for an account (or, without `account`, at all).
    #[must_use]
    pub fn runs(&self, slug: &str, account: Option<&str>) -> bool {
        let text = |name: &str| self.message.get(name).and_then(Value::as_str);
        self.worker == KONNECTOR_WORKER
            && text("konnector") == Some(slug)
            && account.is_none_or(|id| text("account") == Some(id))
    }

    /// The account that its jobs work for.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.message.get("account").and_then(Value::as_str)
    }
}

impl Platform {
    /// Creates a trigger; it is due for the first time after now.
    ///
    /// # Errors
    ///
    /// See [`Schedule::parse`]; [`Error::NotFound`] for an unknown worker.
    pub async fn create_trigger(&self, instance: &Instance, new: NewTrigger) -> Result<Trigger> {
        if new.worker != KONNECTOR_WORKER {
            return Err(Error::NotFound(format!("there is no worker '{}'; use {KONNECTOR_WORKER}", new.worker)));
        }
        let now = self.clock.now();
        let schedule = Schedule::parse(&new.kind, &new.arguments, now)?;
        let trigger = Trigger {
            id: new_id(),
            domain: instance.domain.clone(),
            kind: new.kind,
            arguments: new.arguments,
            worker: new.worker,
            message: new.message,
            options: new.options,
            time_zone: Some(instance.tz),
            metadata: json!({
                "doctypeVersion": "1", "metadataVersion": 1, "createdAt": now, "updatedAt": now, "createdByApp": new.created_by,
            }),
            paused: None,
            missed: Missed::default(),
        };
        let at = instance.doc(&TRIGGERS, trigger.id.as_str());
        let mut changes = Changes::new();
        changes.create(at.clone(), object(&trigger)?);
        changes.schedule(at.clone(), schedule.first(now, instance.tz));
        self.store.commit(changes).await?;
        self.publish(&at, Happened::Created, object(&trigger)?);
        self.wake_scheduler();
        Ok(trigger)
    }

    /// The `@cron` trigger of a konnector for an account, its crontab generated from the manifest.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the konnector is not installed.
    pub async fn create_konnector_trigger(
        &self,
        instance: &Instance,
        slug: &Slug,
        account: &str,
        created_by: &str,
    ) -> Result<Trigger> {
        let konnector = self.konnector(instance, slug)?;
        let manifest = konnector.manifest()?;
        let mut message = json!({ "account": account, "konnector": slug });
        if manifest.wants_folder()
            && let Some(members) = message.as_object_mut()
        {
            members.insert("folder_to_save".to_owned(), json!("yes"));
        }
        let arguments = crontab::generate(&manifest, slug.as_ref(), instance.id.as_str(), account);
        let new = NewTrigger {
            kind: "@cron".to_owned(),
            arguments,
            worker: KONNECTOR_WORKER.to_owned(),
            message,
            options: None,
            created_by: created_by.to_owned(),
        };
        self.create_trigger(instance, new).await
    }

    /// A trigger.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none with this id.
    pub fn trigger(&self, instance: &Instance, id: &str) -> Result<Trigger> {
        let found = self.stored::<Trigger>(&instance.doc(&TRIGGERS, id))?;
        found.map(named).ok_or_else(|| Error::NotFound(format!("there is no trigger '{id}'")))
    }

    /// All triggers.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn triggers(&self, instance: &Instance) -> Result<Vec<Trigger>> {
        Ok(self.all::<Trigger>(&instance.id, &TRIGGERS)?.into_iter().map(named).collect())
    }

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
        Ok(jobs.iter().find(|job| job.state == State::Done).and_then(|job| job.started_at))
    }

    /// How a trigger has fared.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none with this id.
    pub fn trigger_state(&self, instance: &Instance, id: &str) -> Result<TriggerState> {
        let trigger = self.trigger(instance, id)?;
        let jobs = self.trigger_jobs(instance, id, 50)?;
        let mut state = TriggerState {
            trigger_id: id.to_owned(),
            status: Some(jobs.first().map_or(State::Done, |job| job.state)),
            paused: trigger.paused,
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
        if let Some(manual) = jobs.iter().find(|job| job.manual_execution) {
            state.last_manual_execution = manual.started_at;
            state.last_manual_job_id = Some(manual.id.clone());
        }
        Ok(state)
    }

    /// Replaces the message, the arguments of a `@cron` trigger, or both. A new schedule counts from now.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] when there is nothing to change or the crontab cannot be read, [`Error::Attribute`] when the arguments of
    /// another type are to change.
    pub async fn patch_trigger(
        &self,
        instance: &Instance,
        id: &str,
        message: Option<Value>,
        arguments: Option<String>,
    ) -> Result<Trigger> {
        if message.is_none() && arguments.is_none() {
            return Err(Error::BadRequest("Only arguments and message can be patched".to_owned()));
        }
        let now = self.clock.now();
        let at = instance.doc(&TRIGGERS, id);
        let changed = self
            .modify::<Trigger, _>(&at, |trigger, changes| {
                if let Some(arguments) = &arguments {
                    if trigger.kind != "@cron" {
                        return Err(Error::Attribute {
                            name: "Type",
                            message: format!(
                                "only the arguments of a @cron trigger can be changed, this one is {}",
                                trigger.kind
                            ),
                        });
                    }
                    let schedule = Schedule::parse(&trigger.kind, arguments, now)?;
                    trigger.arguments.clone_from(arguments);
                    changes.schedule(at.clone(), schedule.first(now, trigger.time_zone.unwrap_or(instance.tz)));
                }
                if let Some(message) = &message {
                    trigger.message = message.clone();
                }
                if let Some(metadata) = trigger.metadata.as_object_mut() {
                    metadata.insert("updatedAt".to_owned(), json!(now));
                }
                Ok(true)
            })
            .await?;
        self.wake_scheduler();
        changed
            .map(|trigger| Trigger { id: id.to_owned(), ..trigger })
            .ok_or_else(|| Error::NotFound(format!("there is no trigger '{id}'")))
    }

    /// Deletes a trigger. Its jobs stay.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none with this id.
    pub async fn delete_trigger(&self, instance: &Instance, id: &str) -> Result<()> {
        let at = instance.doc(&TRIGGERS, id);
        let Some(found) = self.stored::<Trigger>(&at)? else {
            return Err(Error::NotFound(format!("there is no trigger '{id}'")));
        };
        let mut changes = Changes::new();
        changes.delete(at.clone(), &found.rev);
        changes.schedule(at.clone(), None);
        self.store.commit(changes).await?;
        self.publish(&at, Happened::Deleted, object(&found.value)?);
        Ok(())
    }

    /// Pushes a job of this trigger now, because a person asks for it: also when the schedule is paused.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none with this id.
    pub async fn launch_trigger(&self, instance: &Instance, id: &str) -> Result<Job> {
        let trigger = self.trigger(instance, id)?;
        self.push_job(
            instance,
            JobRequest {
                worker: trigger.worker,
                message: trigger.message,
                options: trigger.options,
                cause: Cause::Manual,
                trigger: Some(id.to_owned()),
                occasion: Occasion::default(),
            },
        )
        .await
    }

    /// Lets the schedules of an account go on, because its owner changed it.
    pub(crate) async fn resume_triggers(&self, instance: &Instance, account: &str) -> Result<()> {
        for trigger in self.triggers(instance)? {
            if trigger.paused.is_some() && trigger.account() == Some(account) {
                let at = instance.doc(&TRIGGERS, trigger.id.as_str());
                self.modify::<Trigger, _>(&at, |trigger, _| Ok(trigger.paused.take().is_some())).await?;
            }
        }
        Ok(())
    }

    /// The instance that a stored document belongs to.
    pub(crate) fn instance_of(&self, at: &DocRef) -> Result<Instance> {
        self.instance_by_id(at.instance.as_ref())
    }
}

fn named(stored: Stored<Trigger>) -> Trigger {
    Trigger { id: stored.id, ..stored.value }
}
