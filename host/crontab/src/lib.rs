//! Grammar and meaning of crontabs, and the crontab that a konnector gets from its manifest.
//!
//! A crontab names local times; [`Crontab::next`] computes when clocks in a time zone show them. A crontab that names
//! hours (a *fixed* one, `30 2 * * *`) is due once a day even if clocks are set forward or back: a skipped time is due
//! at the first instant after the gap, and a time that is shown twice counts only the first time. A crontab that
//! follows the hours (`*` or `*/n` in the hour field) follows elapsed time.

mod count;
mod fields;
mod generate;
mod local_time;
#[cfg(test)]
mod oracle;
mod periodic;

use chrono::{DateTime, NaiveDateTime, SubsecRound as _, TimeDelta, Utc};
use chrono_tz::Tz;

use fields::Fields;
pub use generate::generate;
pub use periodic::{Period, Periodic};

/// The search for the next instant ends after this time (Cozy API, crontab grammar, §4.2).
const SEARCH_HORIZON: TimeDelta = TimeDelta::days(5 * 366);

/// Names for common crontabs (cron(5)).
const DESCRIPTORS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A parsed crontab of 5 or 6 fields (with six, seconds come first) or a descriptor such as `@daily`, with an optional
/// `TZ=Area/City` in front.
///
/// Sunday is 0. If both day fields are restricted, a day that satisfies either one matches, as in cron(5).
#[derive(Debug, Clone)]
pub struct Crontab {
    fields: Fields,
    /// One schedule, or two if either day field suffices. They are evaluated on local time as if it were UTC.
    schedules: Vec<cron::Schedule>,
    zone: Option<Tz>,
    /// Whether the crontab follows elapsed hours.
    is_wildcard: bool,
}

/// Returns the text after the time zone prefix, if the crontab names a zone.
fn strip_time_zone_mark(text: &str) -> Option<&str> {
    text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="))
}

/// Returns whether a crontab names its time zone.
#[must_use]
pub fn has_time_zone(text: &str) -> bool {
    strip_time_zone_mark(text.trim()).is_some()
}

/// Error for a string that is not a valid crontab; the message names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the crontab cannot be read: {0}")]
pub struct CrontabError(pub(crate) String);

impl std::str::FromStr for Crontab {
    type Err = CrontabError;

    fn from_str(text: &str) -> Result<Self, CrontabError> {
        let text = text.trim();
        let (zone, rest) = match strip_time_zone_mark(text) {
            None => (None, text),
            Some(zoned) => {
                let (name, rest) = zoned.split_once(char::is_whitespace).ok_or_else(|| {
                    CrontabError("TZ= must be followed by the time zone, a space and the fields".to_owned())
                })?;
                let zone: Tz = name.parse().map_err(|_| {
                    CrontabError(format!(
                        "the time zone '{name}' is unknown; use an IANA name, for example Europe/Paris"
                    ))
                })?;
                (Some(zone), rest)
            }
        };
        let rest = match rest.trim() {
            name if name.starts_with('@') => {
                let known = DESCRIPTORS.iter().find(|(known, _)| *known == name);
                let names = || DESCRIPTORS.map(|(name, _)| name).join(", ");
                known.ok_or_else(|| CrontabError(format!("'{name}' is unknown; use fields, @every, or {}", names())))?.1
            }
            fields => fields,
        };
        let fields = Fields::parse(rest)?;
        let schedules = fields
            .expressions()
            .into_iter()
            .map(|expression| {
                expression
                    .parse()
                    .map_err(|error| CrontabError(format!("'{rest}' cannot be evaluated as {expression}: {error}")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { is_wildcard: fields.follows_hours(), fields, schedules, zone })
    }
}

impl std::fmt::Display for Crontab {
    /// Writes the local times, as expressions of the `cron` crate.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.schedules.iter().try_for_each(|schedule| write!(f, "{schedule};"))
    }
}

impl Crontab {
    /// Returns the first instant strictly after `after`, in the crontab's own zone or else in `zone`; `None` if there
    /// is none within five years.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let (zone, after) = (self.zone.unwrap_or(zone), after.trunc_subsecs(0));
        let horizon = after + SEARCH_HORIZON;
        let next =
            if self.is_wildcard { self.next_wildcard(after, zone, horizon) } else { self.next_fixed(after, zone) };
        next.filter(|next| *next <= horizon)
    }

    /// Returns the next instant of a crontab that names hours. Local times map to instants in order, so the first one
    /// whose first occurrence is in the future is the result.
    fn next_fixed(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let mut local = local_time::to_local(zone, after);
        loop {
            local = self.next_local(local)?;
            let instant = local_time::first_occurrence(zone, local);
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// Returns the next instant of a crontab that follows elapsed hours. While the offset stays the same, local time
    /// runs like UTC.
    fn next_wildcard(&self, after: DateTime<Utc>, zone: Tz, horizon: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let second = TimeDelta::seconds(1);
        let mut from = after + second;
        loop {
            let offset = local_time::offset(zone, from);
            let next = (self.next_local(from.naive_utc() + offset - second)? - offset).and_utc();
            match local_time::next_offset_change(zone, from, next.min(horizon)) {
                None => return Some(next),
                Some(change) => from = change,
            }
        }
    }

    /// Returns the first local time after another one.
    fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let next = |schedule: &cron::Schedule| schedule.after(&after.and_utc()).next();
        self.schedules.iter().filter_map(next).min().map(|next| next.naive_utc())
    }

    /// Returns the time zone that the crontab names.
    #[must_use]
    pub const fn zone(&self) -> Option<Tz> {
        self.zone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a date")
    }

    fn next(crontab: &str, after: &str) -> Option<String> {
        let crontab: Crontab = crontab.parse().expect(crontab);
        crontab.next(at(after), Tz::UTC).map(|instant| instant.format("%F %T %a").to_string())
    }

    #[test]
    fn sunday_is_zero_and_saturday_six() {
        // 2026-11-20 is a Friday.
        assert_eq!(next("0 0 3 * * 0", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-22 03:00:00 Sun"));
        assert_eq!(next("0 0 3 * * 1", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-23 03:00:00 Mon"));
        assert_eq!(next("0 0 3 * * 6", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-21 03:00:00 Sat"));
        assert_eq!(next("0 0 3 * * fri", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-27 03:00:00 Fri"));
    }

    #[test]
    fn a_step_through_all_days_restricts_them() {
        // A step is not a star: both fields are restricted here (cozy-stack, crontab grammar).
        assert_eq!(next("0 0 */10 * 1", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-21 00:00:00 Sat"));
    }

    #[test]
    fn a_step_of_one_is_a_star() {
        // All of these match Wednesdays only, because the day of the month does not restrict them.
        for wednesdays in ["0 0 * * 3", "0 0 */1 * 3", "0 0 ? * wed", "0 0 ?/1 * 3", "0 0 5,*/1 * 3", "0 0 0 */1 * 3"] {
            let expected = Some("2026-11-25 00:00:00 Wed");
            assert_eq!(next(wednesdays, "2026-11-20T12:00:00Z").as_deref(), expected, "{wednesdays}");
        }
        // The day of the week does not restrict this one; the day of the month does.
        assert_eq!(next("0 0 24 * */1", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-24 00:00:00 Tue"));
        // Other notations for all days are not a star.
        assert_eq!(next("0 0 1-31 * 3", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-21 00:00:00 Sat"));
        assert_eq!(next("0 0 1/1 * 3", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-21 00:00:00 Sat"));
    }

    #[test]
    fn the_zone_of_the_text_wins_over_that_of_the_trigger() {
        let crontab: Crontab = "TZ=Europe/Paris 0 3 * * *".parse().expect("valid");
        assert_eq!(crontab.next(at("2026-11-20T12:00:00Z"), Tz::America__New_York), Some(at("2026-11-21T02:00:00Z")));
        let crontab: Crontab = "0 3 * * *".parse().expect("valid");
        assert_eq!(crontab.next(at("2026-11-20T12:00:00Z"), Tz::Europe__Paris), Some(at("2026-11-21T02:00:00Z")));
    }

    #[test]
    fn what_never_comes_to_pass_is_refused() {
        let never = |text: &str| text.parse::<Crontab>().expect_err(text).to_string();
        insta::assert_snapshot!(never("0 0 31 2 *"), @"the crontab cannot be read: '0 0 31 2 *' is never due: none of its months has any of its days; check day of month and month");
        for text in ["0 0 30 feb *", "0 0 0 30,31 2 ?", "TZ=Europe/Paris 0 0 31 4,6,9,11 *"] {
            never(text);
        }
        // 29 February is due in leap years, and Mondays occur in February.
        assert_eq!(next("0 0 29 2 *", "2026-11-20T12:00:00Z").as_deref(), Some("2028-02-29 00:00:00 Tue"));
        assert_eq!(next("0 0 31 2 1", "2026-11-20T12:00:00Z").as_deref(), Some("2027-02-01 00:00:00 Mon"));
        assert_eq!(next("0 0 29-31 2,4 *", "2026-11-20T12:00:00Z").as_deref(), Some("2027-04-29 00:00:00 Thu"));
    }

    #[test]
    fn errors_name_the_field() {
        let errors: Vec<String> = ["*/0 * * * *", "0 0 * * funday", "TZ=Mars/Base 0 0 * * *"]
            .iter()
            .map(|text| text.parse::<Crontab>().expect_err(text).to_string())
            .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        the crontab cannot be read: '*/0' is not a valid minute: the step after / is not a whole number of at least 1
        the crontab cannot be read: 'funday' is not a valid day of week: use 0 to 6 or a name
        the crontab cannot be read: the time zone 'Mars/Base' is unknown; use an IANA name, for example Europe/Paris
        ");
    }
}
