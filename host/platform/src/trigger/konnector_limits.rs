//! What a konnector may plan: runs of itself, a few, and not often. A person plans what they like; a konnector's triggers and jobs go on without
//! anybody looking, and a loop among them would keep the workers busy for ever.

use std::time::Duration;

use chrono::{DateTime, Utc};
use konnector_manifest::Slug;

use super::document::Trigger;
use super::plan::TriggerPlan;
use super::schedule::Schedule;
use crate::instance::Instance;
use crate::job::KONNECTOR_WORKER;
use crate::rate::RateKind as Rate;
use crate::{Error, Platform, Result};

/// Triggers that a konnector has made, at one time: enough for one per account of a large household, or a few kinds of events.
pub const MAX_TRIGGERS_BY_KONNECTOR: usize = 10;
/// The shortest time between two runs of a schedule that a konnector makes: manifests know no frequency above hourly either.
pub const MIN_INTERVAL: Duration = Duration::from_secs(3_600);
/// The shortest debounce of an `@event` trigger that a konnector makes. A run that saves documents of the type that it waits for starts
/// itself again; so it does that twelve times in an hour at most.
pub const MIN_DEBOUNCE: Duration = Duration::from_secs(300);
/// Instants of a crontab that are looked at: two days of an hourly one. Whatever comes more often than hourly shows on the first day.
const MAX_INSTANTS: usize = 50;

impl Trigger {
    /// Checks that a trigger runs the konnector that makes or changes it, here and for nobody else.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] says what to do.
    pub(super) fn check_runs_konnector(&self, slug: &Slug) -> Result<()> {
        if self.worker == KONNECTOR_WORKER && self.runs_konnector(slug.as_ref(), None) {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "a konnector cannot plan runs of anything but itself; put \"konnector\": \"{slug}\" into the message"
        )))
    }

    /// Checks when a trigger that a konnector plans is due.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for what a konnector may not plan at all, [`Error::InvalidAttribute`] for what it plans too often.
    pub(super) fn check_frequency(&self, instance: &Instance, now: DateTime<Utc>) -> Result<()> {
        let refused = |what: &str| Err(Error::Forbidden(format!("a konnector cannot {what}")));
        match self.plan(instance)? {
            TriggerPlan::Webhook => refused("make a @webhook, whose address lets others in"),
            TriggerPlan::Client => refused("make a @client trigger, which a person's app starts"),
            TriggerPlan::Event(_) => match self.debounce.as_ref().map(super::GoDuration::as_duration) {
                Some(debounce) if debounce >= MIN_DEBOUNCE => Ok(()),
                _ => Err(Error::InvalidAttribute {
                    name: "debounce",
                    message: format!(
                        "the events of a konnector's trigger are collected for at least {} minutes; set debounce to \"5m\" or more",
                        MIN_DEBOUNCE.as_secs() / 60
                    ),
                }),
            },
            TriggerPlan::Time(schedule)
                if shortest_interval(&schedule, now).is_some_and(|interval| interval < MIN_INTERVAL) =>
            {
                Err(Error::InvalidAttribute {
                    name: "arguments",
                    message: format!(
                        "a konnector plans its runs at least {} minutes apart, as its manifest does",
                        MIN_INTERVAL.as_secs() / 60
                    ),
                })
            }
            TriggerPlan::Time(_) => Ok(()),
        }
    }
}

/// The shortest time between two instants; `None` where there is only one.
fn shortest_interval(schedule: &Schedule, now: DateTime<Utc>) -> Option<Duration> {
    // In UTC: where clocks are set forward, two instants of any schedule may come closer.
    let schedule = match schedule {
        Schedule::Cron(crontab, _) => &Schedule::Cron(crontab.clone(), chrono_tz::Tz::UTC),
        other => other,
    };
    let next = |due: &DateTime<Utc>| schedule.next(*due, *due);
    let instants: Vec<_> = std::iter::successors(schedule.first_due(now), next).take(MAX_INSTANTS).collect();
    let intervals = instants.windows(2).filter_map(|pair| match pair {
        [earlier, later] => (*later - *earlier).to_std().ok(),
        _ => None,
    });
    intervals.min()
}

impl Platform {
    /// Counts a run that a konnector asks for: a job that it pushes, a trigger that it makes or changes.
    ///
    /// # Errors
    ///
    /// [`Error::RetryLater`] when there were enough in this hour.
    pub fn check_konnector_rate_limit(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        self.check_rate_limit_for(instance, Rate::KonnectorRequest, Some(slug))
    }

    /// Whether a konnector may make one more trigger.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] when it has as many as it may have.
    pub(super) fn check_konnector_trigger_limit(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        if self.triggers_created_by_konnector(instance, slug)?.len() < MAX_TRIGGERS_BY_KONNECTOR {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "{slug} has made {MAX_TRIGGERS_BY_KONNECTOR} triggers, and a konnector has no more at one time; delete one first"
        )))
    }

    /// The triggers that a konnector made, by their ids.
    pub(crate) fn triggers_created_by_konnector(&self, instance: &Instance, slug: &Slug) -> Result<Vec<String>> {
        let triggers = self.triggers(instance)?;
        let made = triggers.into_iter().filter(|trigger| trigger.created_by_konnector.as_ref() == Some(slug));
        Ok(made.map(|trigger| trigger.id).collect())
    }
}

#[cfg(test)]
mod tests;
