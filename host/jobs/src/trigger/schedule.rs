//! The instants at which a trigger is due.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::duration::GoDuration;
use konnector_crontab::Crontab;

/// A schedule of instants.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// When clocks in a time zone show one of the given times.
    Cron(Box<Crontab>, Tz),
    /// At a fixed interval, counted from the first instant regardless of clock changes.
    Every(Duration),
    /// At a single instant.
    Once(DateTime<Utc>),
}

impl Schedule {
    /// Creates an interval of whole seconds, at least one, like Cozy's reference (robfig/cron v3, `Every`).
    #[must_use]
    pub const fn every(interval: &GoDuration) -> Self {
        let seconds = interval.as_duration().as_secs();
        Self::Every(Duration::from_secs(if seconds == 0 { 1 } else { seconds }))
    }

    /// Returns when a trigger that gets this schedule now is first due.
    #[must_use]
    pub fn first_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Once(instant) => Some((*instant).max(now)),
            Self::Cron(..) | Self::Every(_) => self.next(now, now),
        }
    }

    /// Returns the first instant after `now`, given that `due` is an instant.
    #[must_use]
    pub fn next(&self, due: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(crontab, zone) => crontab.next(due.max(now), *zone),
            Self::Every(every) => add_intervals(due, *every, self.count(due, now) + 1),
            Self::Once(_) => None,
        }
    }

    /// Counts the instants after `due`, which is an instant, up to and including `until`.
    #[must_use]
    pub fn count(&self, due: DateTime<Utc>, until: DateTime<Utc>) -> u64 {
        match self {
            Self::Cron(crontab, zone) => crontab.count(due, until, *zone),
            Self::Every(every) => {
                let passed = (until - due).to_std().unwrap_or_default();
                passed.as_secs().checked_div(every.as_secs()).unwrap_or_default()
            }
            Self::Once(_) => 0,
        }
    }

    /// Returns the newest instants from `due`, which is an instant, up to and including `until`: at most `most`, oldest
    /// first.
    #[must_use]
    pub fn newest(&self, most: u64, due: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let later = self.count(due, until);
        let mut newest = if later < most { vec![due] } else { Vec::new() };
        match self {
            _ if later == 0 => {}
            Self::Cron(crontab, zone) => newest.extend(crontab.newest(most, due, until, *zone)),
            Self::Every(every) => {
                let steps = (later + 1).saturating_sub(most).max(1)..=later;
                newest.extend(steps.filter_map(|steps| add_intervals(due, *every, steps)));
            }
            Self::Once(_) => {}
        }
        newest
    }
}

/// Advances `due` by `steps` intervals.
fn add_intervals(due: DateTime<Utc>, every: Duration, steps: u64) -> Option<DateTime<Utc>> {
    let seconds = i64::try_from(every.as_secs().checked_mul(steps)?).ok()?;
    due.checked_add_signed(TimeDelta::try_seconds(seconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a date")
    }

    #[test]
    fn once_in_the_past_is_due_now_and_never_again() {
        let now = at("2026-11-20T12:00:00Z");
        let schedule = Schedule::Once(at("2020-01-01T00:00:00Z"));
        assert_eq!(schedule.first_due(now), Some(now));
        assert_eq!(schedule.next(now, now), None);
    }

    #[test]
    fn an_interval_keeps_its_step_over_what_was_missed() {
        let schedule = Schedule::every(&"10s".parse().expect("a duration"));
        let (due, now) = (at("2026-11-20T12:00:00Z"), at("2026-11-20T12:00:35.500Z"));
        assert_eq!(schedule.first_due(due), Some(at("2026-11-20T12:00:10Z")));
        assert_eq!(schedule.count(due, now), 3);
        assert_eq!(schedule.next(due, now), Some(at("2026-11-20T12:00:40Z")));
        assert_eq!(schedule.newest(2, due, now), [at("2026-11-20T12:00:20Z"), at("2026-11-20T12:00:30Z")]);
        assert_eq!(schedule.newest(9, due, now).len(), 4);
        assert_eq!(schedule.newest(1, due, due), [due]);
    }
}
