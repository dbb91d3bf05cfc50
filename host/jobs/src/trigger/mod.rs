//! Triggers: push jobs at given times, after changes of documents, and at webhook calls.
//!
//! Every event of a trigger goes through the core ([`step`]), a pure function without clock and store. The rest of this
//! module reads the core's input and commits its output, each time in one commit.

mod admission;
mod document;
mod duration;
mod event;
mod job_ended;
mod konnector_limits;
mod launch;
mod outbox;
mod patch;
mod plan;
mod policy;
mod runtime_state;
mod schedule;
mod scheduler;
mod status;
pub mod step;
#[cfg(test)]
mod tests;
mod transition;

use konnector_manifest::Slug;
use konnector_store::{Changes, DocRef};
use serde_json::{Value, json};

pub use document::INDEXES;
pub use document::Trigger;
pub use duration::{DurationError, GoDuration};
pub use event::EventRules;
pub use konnector_limits::{MAX_TRIGGERS_BY_KONNECTOR, MIN_DEBOUNCE, MIN_INTERVAL};
pub use patch::TriggerPatch;
pub use plan::{ParseContext, TriggerPlan};
pub use policy::{MAX_MISSED_JOBS, MissedPolicy, OverlapPolicy, TriggerPolicy};
pub use runtime_state::{Pause, TriggerCounters, TriggerRuntimeState};
pub use schedule::Schedule;
pub use status::TriggerStatus;

use crate::Triggers;
use crate::job::{CLIENT_WORKER, JobOptions, KONNECTOR_WORKER};
use crate::{Error, Result};
use konnector_accounts::AccountLocation;
use konnector_documents::doctype::{ACCOUNTS, TRIGGERS};
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Stored, new_id, to_object};

/// Input for creating a trigger.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewTrigger {
    /// See [`Trigger::kind`].
    pub kind: String,
    /// See [`Trigger::arguments`].
    pub arguments: String,
    /// See [`Trigger::worker`]; a `@client` trigger always has the client's worker.
    pub worker: String,
    /// See [`Trigger::message`].
    pub message: Value,
    /// See [`Trigger::debounce`].
    pub debounce: Option<GoDuration>,
    /// See [`Trigger::options`].
    pub options: Option<JobOptions>,
    /// See [`Trigger::time_zone`]; if absent, the time zone of the instance.
    pub time_zone: Option<chrono_tz::Tz>,
    /// See [`Trigger::policy`].
    pub policy: TriggerPolicy,
    /// Subject of the caller's token.
    pub created_by: String,
    /// The konnector that creates the trigger, if any; stricter limits apply to a konnector than to a person.
    pub created_by_konnector: Option<Slug>,
}

impl Triggers {
    /// Creates a trigger, which is first due after the current time.
    ///
    /// # Errors
    ///
    /// See [`TriggerPlan::parse`]; [`Error::NotFound`] for an unknown worker, [`Error::ForeignAccount`] for an account
    /// that its konnector may not use; [`Error::InvalidAttribute`] if the account is missing and its konnector needs
    /// one; [`Error::Forbidden`], [`Error::InvalidAttribute`] or [`Error::RetryLater`] for more than a konnector may
    /// plan.
    pub async fn create(&self, instance: &Instance, new: NewTrigger) -> Result<Trigger> {
        let now = self.context.core.clock().now();
        let zone_is_given = new.time_zone.is_some();
        let mut trigger = Trigger {
            id: new_id(),
            domain: instance.domain.clone(),
            kind: new.kind,
            arguments: new.arguments,
            worker: new.worker,
            message: new.message,
            debounce: new.debounce,
            options: new.options,
            time_zone: Some(new.time_zone.unwrap_or(instance.tz)),
            policy: new.policy,
            metadata: json!({
                "doctypeVersion": "1", "metadataVersion": 1, "createdAt": now, "updatedAt": now, "createdByApp": new.created_by,
            }),
            created_by_konnector: new.created_by_konnector,
            runtime: TriggerRuntimeState::default(),
        };
        if zone_is_given {
            trigger.check_time_zone()?;
        }
        let plan = trigger.plan(instance)?;
        trigger.check_interval()?;
        match plan {
            // Always the worker of the client's jobs, regardless of the requested one.
            TriggerPlan::Client => CLIENT_WORKER.clone_into(&mut trigger.worker),
            _ if trigger.worker == KONNECTOR_WORKER => {}
            _ => {
                return Err(Error::NotFound(format!(
                    "there is no worker '{}'; use {KONNECTOR_WORKER}",
                    trigger.worker
                )));
            }
        }
        trigger.check_message()?;
        self.context.accounts().check(instance, &trigger.message, AccountLocation::Message)?;
        // The jobs of a `@client` trigger are run by a client, which has its own way to log in.
        if trigger.worker != CLIENT_WORKER {
            self.context.accounts().check_given(instance, &trigger.message, AccountLocation::Message)?;
        }
        if let Some(slug) = &trigger.created_by_konnector {
            trigger.check_runs_konnector(slug)?;
            trigger.check_frequency(instance, now)?;
            self.check_konnector_limit(instance, slug)?;
            self.check_konnector_rate_limit(instance, slug)?;
        }
        // Runs that began before this revision of the account do not affect this trigger.
        if let Some(account) = trigger.account()
            && let Some(found) = self.context.core.store().get(&instance.doc(&ACCOUNTS, account))?
        {
            trigger.runtime.login_generation = found.rev.generation();
        }
        let at = instance.doc(&TRIGGERS, trigger.id.as_str());
        let mut changes = Changes::new();
        changes.create(at.clone(), to_object(&trigger)?);
        trigger.stage_index(instance, &mut changes);
        if let TriggerPlan::Time(schedule) = &plan {
            changes.schedule(at.clone(), schedule.first_due(now));
        }
        self.context.core.commit(changes).await?;
        self.context.core.publish(&at, ChangeKind::Created, &trigger);
        Ok(trigger)
    }

    /// Creates the `@cron` trigger of a konnector for an account, its crontab generated from the manifest.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the konnector is not installed, [`Error::InvalidParameter`] if it logs into accounts
    /// and none is given, [`Error::ForeignAccount`] if it may not use the given one.
    pub async fn create_for_konnector(
        &self,
        instance: &Instance,
        slug: &Slug,
        account: Option<&str>,
        created_by: &str,
        made_by: Option<Slug>,
    ) -> Result<Trigger> {
        let konnector = self.context.konnectors().get(instance, slug)?;
        let manifest = konnector.manifest()?;
        let members = [
            ("account", account.map(Value::from)),
            ("konnector", Some(json!(slug))),
            ("folder_to_save", manifest.wants_folder().then(|| json!("yes"))),
        ];
        let message = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let message = Value::Object(message);
        self.context.accounts().check(instance, &message, AccountLocation::Parameter)?;
        self.context.accounts().check_given(instance, &message, AccountLocation::Parameter)?;
        let arguments =
            konnector_crontab::generate(&manifest, slug.as_ref(), instance.id.as_str(), account.unwrap_or_default());
        let new = NewTrigger {
            kind: "@cron".to_owned(),
            arguments,
            worker: KONNECTOR_WORKER.to_owned(),
            message,
            created_by: created_by.to_owned(),
            created_by_konnector: made_by,
            ..NewTrigger::default()
        };
        self.create(instance, new).await
    }

    /// Returns a trigger.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it does not exist.
    pub fn get(&self, instance: &Instance, id: &str) -> Result<Trigger> {
        let found = self.context.core.load::<Trigger>(&instance.doc(&TRIGGERS, id))?;
        found.map(with_id).ok_or_else(|| not_found(id))
    }

    /// Returns up to `limit` triggers, ordered by id, starting after `after`.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list_after(&self, instance: &Instance, after: Option<&str>, limit: usize) -> Result<Vec<Trigger>> {
        let page = self.context.core.store().list(&instance.id, &TRIGGERS, after, limit)?;
        page.into_iter().map(|document| Stored::from_document(&TRIGGERS, document).map(with_id)).collect()
    }

    /// Returns all triggers. There may be many; see [`Triggers::list_after`].
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list(&self, instance: &Instance) -> Result<Vec<Trigger>> {
        Ok(self.context.core.load_all::<Trigger>(&instance.id, &TRIGGERS)?.into_iter().map(with_id).collect())
    }

    /// Returns the ids of an account's triggers.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn list_of_account(&self, instance: &Instance, account: &str) -> Result<Vec<String>> {
        let prefix = format!("{account}/");
        let found =
            self.context.core.store().lookup_prefix(&instance.id, document::BY_ACCOUNT, &prefix, None, usize::MAX)?;
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// Deletes the triggers of an account.
    pub(crate) async fn delete_of_account(&self, instance: &Instance, account: &str) -> Result<()> {
        for id in self.list_of_account(instance, account)? {
            match self.delete(instance, &id).await {
                Err(Error::NotFound(_)) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Deletes a trigger. Its jobs remain.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it does not exist, [`Error::Conflict`] after repeated concurrent changes.
    pub async fn delete(&self, instance: &Instance, id: &str) -> Result<()> {
        for last in [false, false, false, true] {
            let transition = self.load_transition(instance, id)?.ok_or_else(|| not_found(id))?;
            let mut changes = Changes::new();
            transition.trigger.stage_delete(instance, &transition.rev, &mut changes);
            match self.context.core.commit(changes).await {
                Err(error) if error.is_conflict() && !last => {}
                done => {
                    done?;
                    self.context.core.publish(&transition.doc_ref, ChangeKind::Deleted, &transition.trigger);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns the instance to which a stored document belongs.
    pub(crate) fn instance_of(&self, at: &DocRef) -> Result<Instance> {
        self.context.core.instances().get_by_id(at.instance.as_ref())
    }
}

fn not_found(id: &str) -> Error {
    Error::NotFound(format!("there is no trigger '{id}'"))
}

fn with_id(stored: Stored<Trigger>) -> Trigger {
    Trigger { id: stored.id, ..stored.value }
}
