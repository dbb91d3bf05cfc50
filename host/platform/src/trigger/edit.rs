//! Changing a trigger.

use konnector_manifest::Slug;
use konnector_store::Changes;
use serde_json::Value;

use super::duration::GoDuration;
use super::plan::Plan;
use super::policy::{MissedPolicy, OverlapPolicy};
use super::schedule::Schedule;
use super::step::Event;
use super::{Trigger, unknown};
use crate::account::Place;
use crate::instance::Instance;
use crate::job::CLIENT_WORKER;
use crate::realtime::Happened;
use crate::stored::object;
use crate::{Error, Platform, Result};

/// How often a change is tried again when somebody else was quicker.
const TRIES: usize = 8;

/// What is to be replaced in a trigger.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TriggerPatch {
    /// See [`Trigger::message`].
    pub message: Option<Value>,
    /// See [`Trigger::arguments`]; of a `@cron` only.
    pub arguments: Option<String>,
    /// See [`Trigger::debounce`].
    pub debounce: Option<GoDuration>,
    /// See [`Trigger::time_zone`].
    pub time_zone: Option<chrono_tz::Tz>,
    /// See [`super::Policy`].
    pub missed_policy: Option<MissedPolicy>,
    /// See [`super::Policy`].
    pub missed_limit: Option<u32>,
    /// See [`super::Policy`].
    pub catch_up_window: Option<GoDuration>,
    /// See [`super::Policy`].
    pub overlap_policy: Option<OverlapPolicy>,
    /// The konnector that asks, if one does.
    pub by_konnector: Option<Slug>,
}

impl TriggerPatch {
    /// Whether the trigger may be due at other times afterwards.
    const fn changes_pace(&self) -> bool {
        self.arguments.is_some() || self.debounce.is_some() || self.time_zone.is_some()
    }

    fn apply(self, trigger: &mut Trigger) -> Result<()> {
        if self == (Self { by_konnector: self.by_konnector.clone(), ..Self::default() }) {
            return Err(Error::BadRequest(
                "Only arguments and message can be patched, and debounce, time_zone, missed_policy, missed_limit, catch_up_window and overlap_policy"
                    .to_owned(),
            ));
        }
        if self.arguments.is_some() && trigger.kind != "@cron" {
            return Err(Error::Attribute {
                name: "Type",
                message: format!("only the arguments of a @cron trigger can be changed, this one is {}", trigger.kind),
            });
        }
        replace(&mut trigger.message, self.message);
        replace(&mut trigger.arguments, self.arguments);
        replace(&mut trigger.policy.missed_policy, self.missed_policy);
        replace(&mut trigger.policy.overlap_policy, self.overlap_policy);
        trigger.debounce = self.debounce.or(trigger.debounce.take());
        trigger.time_zone = self.time_zone.or(trigger.time_zone);
        trigger.policy.missed_limit = self.missed_limit.or(trigger.policy.missed_limit);
        trigger.policy.catch_up_window = self.catch_up_window.or(trigger.policy.catch_up_window.take());
        if self.time_zone.is_some() { trigger.check_zone() } else { Ok(()) }
    }
}

fn replace<T>(member: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *member = new;
    }
}

impl Platform {
    /// Changes a trigger; one that could not be used is tried again. A new schedule counts from now: instants of the old one that passed and did not fire are counted as missed. Where
    /// the message decides about the schedule (the periodic types), a new message makes a new schedule.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] when there is nothing to change or the crontab cannot be read, [`Error::Attribute`] when the arguments of
    /// another type are to change, [`Error::ForeignAccount`] when its konnector may not use its account; nothing is changed then.
    pub async fn patch_trigger(&self, instance: &Instance, id: &str, patch: TriggerPatch) -> Result<Trigger> {
        for tries in 1.. {
            let mut turn = self.read_turn(instance, id)?.ok_or_else(|| unknown(id))?;
            // One that cannot be read makes nothing due.
            let before = turn.trigger.plan(instance).unwrap_or(Plan::Client);
            let unusable = turn.trigger.life.is_unusable();
            let mut changes = Changes::new();
            if let Some(slug) = &patch.by_konnector {
                turn.trigger.check_runs(slug)?;
            }
            turn.trigger.leave(instance, &mut changes);
            patch.clone().apply(&mut turn.trigger)?;
            turn.trigger.check_message()?;
            self.check_account(instance, &turn.trigger.message, Place::Message)?;
            if patch.message.is_some() && turn.trigger.worker != CLIENT_WORKER {
                self.check_login(instance, &turn.trigger.message, Place::Message)?;
            }
            if let Some(slug) = &patch.by_konnector {
                turn.trigger.check_runs(slug)?;
                if patch.changes_pace() {
                    turn.trigger.check_pace(instance, self.clock.now())?;
                }
                if tries == 1 {
                    self.admit_of_konnector(instance, slug)?;
                }
            }
            turn.trigger.enter(instance, &mut changes);
            turn.trigger.touch(self.clock.now());
            let after = turn.trigger.plan(instance)?;
            let (at, rev, patched) = (turn.at.clone(), turn.rev.clone(), turn.trigger.clone());
            let rescheduled = unusable || patch.arguments.is_some() || differ(&before, &after);
            let trigger = if rescheduled {
                self.stage_step(instance, turn, Event::Rescheduled(Box::new(before)), &mut changes)?.trigger
            } else {
                changes.put(at.clone(), &rev, object(&patched)?);
                patched
            };
            match self.commit(changes).await {
                Err(error) if error.is_conflict() && tries < TRIES => continue,
                done => drop(done?),
            }
            self.publish(&at, Happened::Updated, &trigger);
            return Ok(trigger);
        }
        Err(unknown(id))
    }
}

/// Whether two plans are due at different times.
fn differ(before: &Plan, after: &Plan) -> bool {
    match (before, after) {
        (Plan::Time(Schedule::Cron(before, zone)), Plan::Time(Schedule::Cron(after, other))) => {
            before.to_string() != after.to_string() || before.zone().unwrap_or(*zone) != after.zone().unwrap_or(*other)
        }
        _ => false,
    }
}
