//! Limits on the triggers of a konnector. A konnector may schedule only its own runs, few of them, and not often. Users
//! have no such limits. A konnector's triggers and jobs run unattended, and a loop among them would keep the workers
//! busy forever.

use std::time::Duration;

use chrono::{DateTime, Utc};
use konnector_manifest::Slug;

use super::document::Trigger;
use super::plan::TriggerPlan;
use super::schedule::Schedule;
use crate::Triggers;
use crate::job::KONNECTOR_WORKER;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::rate::RateKind as Rate;

/// Maximum number of existing triggers that a konnector has created: enough for one per account of a large household,
/// or a few kinds of events.
pub const MAX_TRIGGERS_BY_KONNECTOR: usize = 10;
/// Minimum interval of a schedule that a konnector creates; manifests also have no frequency above hourly.
pub const MIN_INTERVAL: Duration = Duration::from_secs(3_600);
/// Minimum debounce of an `@event` trigger that a konnector creates. A run that saves documents of the awaited type
/// starts itself again; this limits it to twelve times per hour.
pub const MIN_DEBOUNCE: Duration = Duration::from_secs(300);
/// Number of checked instants of a crontab, two days of an hourly one. A shorter interval than an hour shows on the
/// first day.
const MAX_INSTANTS: usize = 50;

impl Trigger {
    /// Checks that a trigger runs only the konnector that creates or changes it, on this server.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for another konnector or worker; the message names the valid one.
    pub(super) fn check_runs_konnector(&self, slug: &Slug) -> Result<()> {
        if self.worker == KONNECTOR_WORKER && self.runs_konnector(slug.as_ref(), None) {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "a konnector can schedule only its own runs; put \"konnector\": \"{slug}\" into the message"
        )))
    }

    /// Checks how often a konnector's trigger is due.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for types that a konnector may not create, [`Error::InvalidAttribute`] for intervals that
    /// are too short.
    pub(super) fn check_frequency(&self, instance: &Instance, now: DateTime<Utc>) -> Result<()> {
        let refused = |what: &str| Err(Error::Forbidden(format!("a konnector cannot {what}")));
        match self.plan(instance)? {
            TriggerPlan::Webhook => refused("create a @webhook, because its URL gives others access"),
            TriggerPlan::Client => refused("create a @client trigger, because only a person's app may start it"),
            TriggerPlan::Event(_) => match self.debounce.as_ref().map(super::GoDuration::as_duration) {
                Some(debounce) if debounce >= MIN_DEBOUNCE => Ok(()),
                _ => Err(Error::InvalidAttribute {
                    name: "debounce",
                    message: format!(
                        "the events of a konnector's trigger must be collected for at least {} minutes; set debounce to \"5m\" or more",
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
                        "a konnector must schedule its runs at least {} minutes apart, as in its manifest",
                        MIN_INTERVAL.as_secs() / 60
                    ),
                })
            }
            TriggerPlan::Time(_) => Ok(()),
        }
    }
}

/// Returns the shortest time between two instants; `None` if there is only one.
fn shortest_interval(schedule: &Schedule, now: DateTime<Utc>) -> Option<Duration> {
    // In UTC, because the interval between two instants of any schedule may shrink when clocks are set forward.
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

impl Triggers {
    /// Counts a run that a konnector requests: a job that it pushes, or a trigger that it creates or changes.
    ///
    /// # Errors
    ///
    /// [`Error::RetryLater`] if the limit of this hour is reached.
    pub fn check_konnector_rate_limit(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        self.context.core.rate_limits().check_for(instance, Rate::KonnectorRequest, Some(slug))
    }

    /// Checks that a konnector may create another trigger.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if the konnector has the maximum number.
    pub(super) fn check_konnector_limit(&self, instance: &Instance, slug: &Slug) -> Result<()> {
        if self.list_created_by_konnector(instance, slug)?.len() < MAX_TRIGGERS_BY_KONNECTOR {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "{slug} has created {MAX_TRIGGERS_BY_KONNECTOR} triggers, which is the maximum for a konnector; delete one first"
        )))
    }

    /// Returns the ids of the triggers that a konnector created.
    pub(crate) fn list_created_by_konnector(&self, instance: &Instance, slug: &Slug) -> Result<Vec<String>> {
        let triggers = self.list(instance)?;
        let made = triggers.into_iter().filter(|trigger| trigger.created_by_konnector.as_ref() == Some(slug));
        Ok(made.map(|trigger| trigger.id).collect())
    }
}

#[cfg(test)]
mod tests;
