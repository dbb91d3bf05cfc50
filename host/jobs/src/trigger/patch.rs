//! Changes the message, arguments, time zone and policies of a trigger.

use std::sync::atomic::{AtomicBool, Ordering};

use konnector_manifest::Slug;
use konnector_store::Changes;
use serde_json::Value;

use super::duration::GoDuration;
use super::plan::TriggerPlan;
use super::policy::{MissedPolicy, OverlapPolicy};
use super::schedule::Schedule;
use super::step::TriggerEvent;
use super::{Trigger, not_found};
use crate::Triggers;
use crate::job::CLIENT_WORKER;
use crate::{Error, Result};
use konnector_accounts::AccountLocation;
use konnector_documents::instance::Instance;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{retry_on_conflict, to_object};

/// Fields of a trigger to replace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TriggerPatch {
    /// See [`Trigger::message`].
    pub message: Option<Value>,
    /// See [`Trigger::arguments`]; for a `@cron` trigger only.
    pub arguments: Option<String>,
    /// See [`Trigger::debounce`].
    pub debounce: Option<GoDuration>,
    /// See [`Trigger::time_zone`].
    pub time_zone: Option<chrono_tz::Tz>,
    /// See [`super::TriggerPolicy`].
    pub missed_policy: Option<MissedPolicy>,
    /// See [`super::TriggerPolicy`].
    pub missed_limit: Option<u32>,
    /// See [`super::TriggerPolicy`].
    pub catch_up_window: Option<GoDuration>,
    /// See [`super::TriggerPolicy`].
    pub overlap_policy: Option<OverlapPolicy>,
    /// The konnector that changes the trigger, if any.
    pub by_konnector: Option<Slug>,
}

impl TriggerPatch {
    /// Returns whether the change may alter when the trigger is due.
    const fn changes_schedule(&self) -> bool {
        self.arguments.is_some() || self.debounce.is_some() || self.time_zone.is_some()
    }

    fn apply(self, trigger: &mut Trigger) -> Result<()> {
        if self == (Self { by_konnector: self.by_konnector.clone(), ..Self::default() }) {
            // The first half is Cozy's text.
            return Err(Error::BadRequest(
                "Only arguments and message can be patched, as well as debounce, time_zone, missed_policy, missed_limit, catch_up_window and overlap_policy"
                    .to_owned(),
            ));
        }
        if self.arguments.is_some() && trigger.kind != "@cron" {
            return Err(Error::InvalidAttribute {
                name: "Type",
                message: format!("only the arguments of a @cron trigger can be changed; this one is {}", trigger.kind),
            });
        }
        set_if_some(&mut trigger.message, self.message);
        set_if_some(&mut trigger.arguments, self.arguments);
        set_if_some(&mut trigger.policy.missed_policy, self.missed_policy);
        set_if_some(&mut trigger.policy.overlap_policy, self.overlap_policy);
        trigger.debounce = self.debounce.or(trigger.debounce.take());
        trigger.time_zone = self.time_zone.or(trigger.time_zone);
        trigger.policy.missed_limit = self.missed_limit.or(trigger.policy.missed_limit);
        trigger.policy.catch_up_window = self.catch_up_window.or(trigger.policy.catch_up_window.take());
        if self.time_zone.is_some() { trigger.check_time_zone() } else { Ok(()) }
    }
}

fn set_if_some<T>(member: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *member = new;
    }
}

impl Triggers {
    /// Changes a trigger; an unusable one becomes active again. A new schedule starts now: instants of the old one that
    /// passed without firing are counted as missed. If the schedule depends on the message (the periodic types), a new
    /// message results in a new schedule.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] if there is nothing to change or the crontab is invalid, [`Error::InvalidAttribute`] for
    /// new arguments of another type, [`Error::ForeignAccount`] if the trigger's konnector may not use its account.
    /// Nothing is changed then.
    pub async fn patch(&self, instance: &Instance, id: &str, patch: TriggerPatch) -> Result<Trigger> {
        let is_first_attempt = AtomicBool::new(true);
        retry_on_conflict(|| async {
            let is_first_attempt = is_first_attempt.swap(false, Ordering::Relaxed);
            let mut transition = self.load_transition(instance, id)?.ok_or_else(|| not_found(id))?;
            // A trigger with an invalid plan is never due.
            let before = transition.trigger.plan(instance).unwrap_or(TriggerPlan::Client);
            let unusable = transition.trigger.runtime.is_unusable();
            let mut changes = Changes::new();
            if let Some(slug) = &patch.by_konnector {
                transition.trigger.check_runs_konnector(slug)?;
            }
            transition.trigger.stage_unindex(instance, &mut changes);
            patch.clone().apply(&mut transition.trigger)?;
            transition.trigger.check_message()?;
            self.context.accounts().check(instance, &transition.trigger.message, AccountLocation::Message)?;
            if patch.message.is_some() && transition.trigger.worker != CLIENT_WORKER {
                self.context.accounts().check_given(instance, &transition.trigger.message, AccountLocation::Message)?;
            }
            if let Some(slug) = &patch.by_konnector {
                transition.trigger.check_runs_konnector(slug)?;
                if patch.changes_schedule() {
                    transition.trigger.check_frequency(instance, self.context.core.clock().now())?;
                }
                if is_first_attempt {
                    self.check_konnector_rate_limit(instance, slug)?;
                }
            }
            transition.trigger.stage_index(instance, &mut changes);
            transition.trigger.touch(self.context.core.clock().now());
            let after = transition.trigger.plan(instance)?;
            let (at, rev, patched) = (transition.doc_ref.clone(), transition.rev.clone(), transition.trigger.clone());
            let rescheduled = unusable || patch.arguments.is_some() || have_different_schedules(&before, &after);
            let trigger = if rescheduled {
                self.stage_transition(instance, transition, TriggerEvent::Rescheduled(Box::new(before)), &mut changes)?
                    .trigger
            } else {
                changes.put(at.clone(), &rev, to_object(&patched)?);
                patched
            };
            self.context.core.commit(changes).await?;
            self.context.core.publish(&at, ChangeKind::Updated, &trigger);
            Ok(trigger)
        })
        .await
    }
}

/// Returns whether two plans have different crontab schedules.
fn have_different_schedules(before: &TriggerPlan, after: &TriggerPlan) -> bool {
    match (before, after) {
        (TriggerPlan::Time(Schedule::Cron(before, zone)), TriggerPlan::Time(Schedule::Cron(after, other))) => {
            before.to_string() != after.to_string() || before.zone().unwrap_or(*zone) != after.zone().unwrap_or(*other)
        }
        _ => false,
    }
}
