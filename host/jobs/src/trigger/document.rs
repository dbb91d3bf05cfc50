//! The stored document of a trigger, and its indexes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use konnector_manifest::Slug;
use konnector_store::{Changes, Links, Rev};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::duration::GoDuration;
use super::plan::{ParseContext, TriggerPlan};
use super::policy::TriggerPolicy;
use super::runtime_state::TriggerRuntimeState;
use super::step::TriggerSpec;
use crate::job::{CLIENT_WORKER, JobOptions, KONNECTOR_WORKER, check_message};
use crate::{Error, Result};
use konnector_documents::doctype::TRIGGERS;
use konnector_documents::instance::Instance;

/// Index from an account to its triggers: `<account>/<trigger>`.
pub(super) const BY_ACCOUNT: &str = "triggers.account";
/// Index from a document type to the triggers that wait for its events: `<doctype>/<trigger>`.
pub(super) const BY_DOCTYPE: &str = "triggers.event";

/// Minimum interval of an `@every` trigger, which counts whole seconds.
const MIN_EVERY: Duration = Duration::from_secs(1);

/// The indexes of triggers.
pub const INDEXES: [&str; 2] = [BY_ACCOUNT, BY_DOCTYPE];

/// Trigger, as stored in its document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trigger {
    /// Document id.
    #[serde(skip)]
    pub id: String,
    /// Domain of the instance.
    pub domain: String,
    /// `@cron`, `@every`, `@at`, …; see [`TriggerPlan::parse`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Arguments of the type: a crontab, a duration, a date, event rules.
    pub arguments: String,
    /// Name of the worker.
    pub worker: String,
    /// Message of the trigger's jobs.
    pub message: Value,
    /// Period in which events and calls are collected into one job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce: Option<GoDuration>,
    /// Limits of the trigger's jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<JobOptions>,
    /// IANA time zone in which a crontab is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<chrono_tz::Tz>,
    /// Policy for instants at which the trigger cannot fire.
    #[serde(flatten)]
    pub policy: TriggerPolicy,
    /// Creator and creation date.
    #[serde(rename = "cozyMetadata")]
    pub metadata: Value,
    /// The konnector that created the trigger, which is deleted with the konnector.
    #[serde(rename = "_made_by", default, skip_serializing_if = "Option::is_none")]
    pub created_by_konnector: Option<Slug>,
    /// Runtime state.
    #[serde(rename = "_life", default)]
    pub runtime: TriggerRuntimeState,
}

impl Trigger {
    /// Rejects a separate time zone if the crontab names one itself, because the separate one would have no effect.
    pub(super) fn check_time_zone(&self) -> Result<()> {
        if !konnector_crontab::has_time_zone(&self.arguments) {
            return Ok(());
        }
        Err(Error::InvalidAttribute {
            name: "time_zone",
            message: format!("the crontab \"{}\" already names a time zone; omit one of the two", self.arguments),
        })
    }

    /// Rejects an interval below a second, because intervals count whole seconds. Cozy's crontabs accept `@every 1ms`
    /// and run once a second; those do so here, too.
    pub(super) fn check_interval(&self) -> Result<()> {
        let is_too_short = |interval: GoDuration| interval.as_duration() < MIN_EVERY;
        if self.kind != "@every" || !self.arguments.parse().is_ok_and(is_too_short) {
            return Ok(());
        }
        Err(Error::InvalidAttribute {
            name: "arguments",
            message: format!("arguments: the interval '{}' is shorter than a second; use 1s or more", self.arguments),
        })
    }

    /// Rejects a message that the trigger's worker cannot use.
    pub(super) fn check_message(&self) -> Result<()> {
        check_message(&self.worker, &self.message)
            .map_err(|message| Error::InvalidAttribute { name: "message", message })
    }

    /// Parses the plan, which determines when the trigger pushes jobs.
    ///
    /// # Errors
    ///
    /// See [`TriggerPlan::parse`].
    pub fn plan(&self, instance: &Instance) -> Result<TriggerPlan> {
        self.plan_in(instance.tz)
    }

    fn plan_in(&self, zone: chrono_tz::Tz) -> Result<TriggerPlan> {
        let created = self.metadata.get("createdAt").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let seed = format!("{}/{}/{}", self.domain, self.worker, self.message);
        let zone = self.time_zone.unwrap_or(zone);
        TriggerPlan::parse(
            &self.kind,
            &self.arguments,
            ParseContext { created: created.unwrap_or_default(), zone, seed: &seed },
        )
    }

    /// Returns the specification, the input of the trigger's core.
    ///
    /// # Errors
    ///
    /// See [`TriggerPlan::parse`].
    pub(super) fn spec(&self, instance: &Instance) -> Result<TriggerSpec> {
        let debounce = self.debounce.as_ref().map(GoDuration::as_duration);
        Ok(TriggerSpec { plan: self.plan(instance)?, policy: self.policy.clone(), debounce, maintenance: false })
    }

    /// Returns whether the trigger's jobs run a konnector, here or in a client, for an account (or, without `account`,
    /// at all).
    #[must_use]
    pub fn runs_konnector(&self, slug: &str, account: Option<&str>) -> bool {
        matches!(self.worker.as_str(), KONNECTOR_WORKER | CLIENT_WORKER)
            && self.message.get("konnector").and_then(Value::as_str) == Some(slug)
            && account.is_none_or(|id| self.account() == Some(id))
    }

    /// Returns the account for which the trigger's jobs run.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.message.get("account").and_then(Value::as_str)
    }

    pub(super) fn touch(&mut self, now: DateTime<Utc>) {
        if let Some(metadata) = self.metadata.as_object_mut() {
            metadata.insert("updatedAt".to_owned(), serde_json::json!(now));
        }
    }

    /// Stages the trigger's index entries.
    pub(super) fn stage_index(&self, instance: &Instance, changes: &mut Changes) {
        for (index, key) in self.index_entries(&self.id) {
            changes.put_unique(&instance.id, index, key, &self.id);
        }
    }

    /// Stages the removal of the trigger's index entries.
    pub(super) fn stage_unindex(&self, instance: &Instance, changes: &mut Changes) {
        for (index, key) in self.index_entries(&self.id) {
            changes.remove_unique(&instance.id, index, key);
        }
    }

    /// Stages the deletion of the trigger with its index entries and schedule. Its jobs remain.
    pub(super) fn stage_delete(&self, instance: &Instance, rev: &Rev, changes: &mut Changes) {
        self.stage_unindex(instance, changes);
        changes.delete(instance.doc(&TRIGGERS, self.id.as_str()), rev);
    }

    /// Returns the links of a trigger's document.
    pub fn links(&self, id: &str) -> Links {
        Links { blobs: Vec::new(), unique_keys: self.index_entries(id) }
    }

    fn index_entries(&self, id: &str) -> Vec<(&'static str, String)> {
        let key = |name: &str| format!("{name}/{id}");
        let mut entries: Vec<_> = self.account().map(|account| (BY_ACCOUNT, key(account))).into_iter().collect();
        // Events have no time zone.
        if let Ok(TriggerPlan::Event(rules)) = self.plan_in(chrono_tz::Tz::UTC) {
            entries.extend(rules.doctypes().map(|doctype| (BY_DOCTYPE, key(doctype.as_ref()))));
        }
        entries
    }
}
