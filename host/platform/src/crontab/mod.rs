//! Crontabs: what they mean, and the one that a konnector gets from its manifest.

mod fields;
mod generate;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use fields::Fields;
pub use generate::generate;

/// A parsed crontab of 5 or 6 fields (seconds first where there are six), with an optional `TZ=Area/City` in front.
///
/// Sunday is 0, and where both day fields are restricted a day that satisfies either one matches, as in cron(5).
#[derive(Debug, Clone)]
pub struct Crontab {
    /// One schedule, or two where either day field is enough.
    schedules: Vec<cron::Schedule>,
    zone: Option<Tz>,
}

/// Why a text is no crontab. The text names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the crontab cannot be read: {0}")]
pub struct CrontabError(pub(crate) String);

impl std::str::FromStr for Crontab {
    type Err = CrontabError;

    fn from_str(text: &str) -> Result<Self, CrontabError> {
        let text = text.trim();
        let zoned = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        let (zone, rest) = match zoned {
            None => (None, text),
            Some(zoned) => {
                let (name, rest) = zoned
                    .split_once(char::is_whitespace)
                    .ok_or_else(|| CrontabError("after TZ= come the time zone, a space and the fields".to_owned()))?;
                let zone: Tz = name.parse().map_err(|_| {
                    CrontabError(format!(
                        "the time zone '{name}' is unknown; use an IANA name, for example Europe/Paris"
                    ))
                })?;
                (Some(zone), rest)
            }
        };
        let schedules = Fields::parse(rest)?
            .expressions()
            .into_iter()
            .map(|expression| {
                expression
                    .parse()
                    .map_err(|error| CrontabError(format!("'{rest}' has no meaning as {expression}: {error}")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { schedules, zone })
    }
}

impl Crontab {
    /// The first instant strictly after `after`, in the crontab's own zone or else in `zone`; `None` when there is none within five years.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let zone = self.zone.unwrap_or(zone);
        let horizon = after + chrono::Duration::days(5 * 366);
        self.schedules
            .iter()
            .filter_map(|schedule| schedule.after(&after.with_timezone(&zone)).next())
            .map(|instant| instant.with_timezone(&Utc))
            .min()
            .filter(|instant| *instant <= horizon)
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
        assert_eq!(next("0 0 3 * * SUN", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-22 03:00:00 Sun"));
        assert_eq!(next("0 0 3 * * fri", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-27 03:00:00 Fri"));
    }

    #[test]
    fn five_fields_mean_second_zero_and_steps_start_where_they_say() {
        assert_eq!(next("5/15 * * * *", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-20 12:05:00 Fri"));
        assert_eq!(next("5/15 * * * *", "2026-11-20T12:50:00Z").as_deref(), Some("2026-11-20 13:05:00 Fri"));
    }

    #[test]
    fn either_day_field_is_enough_when_both_are_restricted() {
        assert_eq!(next("0 0 1 * 1", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-23 00:00:00 Mon"));
        assert_eq!(next("0 0 1 * 1", "2026-11-30T12:00:00Z").as_deref(), Some("2026-12-01 00:00:00 Tue"));
        // A step is no star: both fields are restricted here (cozy-stack, crontab grammar).
        assert_eq!(next("0 0 */10 * 1", "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-21 00:00:00 Sat"));
    }

    #[test]
    fn a_day_that_never_comes_is_never_due() {
        assert_eq!(next("0 0 31 2 *", "2026-11-20T12:00:00Z"), None);
    }

    #[test]
    fn the_zone_of_the_text_wins_over_that_of_the_trigger() {
        let crontab: Crontab = "TZ=Europe/Paris 0 3 * * *".parse().expect("valid");
        assert_eq!(crontab.next(at("2026-11-20T12:00:00Z"), Tz::America__New_York), Some(at("2026-11-21T02:00:00Z")));
        let crontab: Crontab = "0 3 * * *".parse().expect("valid");
        assert_eq!(crontab.next(at("2026-11-20T12:00:00Z"), Tz::Europe__Paris), Some(at("2026-11-21T02:00:00Z")));
    }

    #[test]
    fn errors_name_the_field() {
        let errors: Vec<String> = [
            "* * * *",
            "60 * * * * *",
            "0 0 0 * * 7",
            "10-5 * * * *",
            "*/0 * * * *",
            "0 0 * * funday",
            "TZ=Mars/Base 0 0 * * *",
        ]
        .iter()
        .map(|text| text.parse::<Crontab>().expect_err(text).to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        the crontab cannot be read: '* * * *' has 4 fields; write 5, or 6 with the seconds first
        the crontab cannot be read: '60' is no second: use 0 to 59
        the crontab cannot be read: '7' is no day of week: use 0 to 6 or a name
        the crontab cannot be read: '10-5' is no minute: a range goes from the smaller to the larger value
        the crontab cannot be read: '*/0' is no minute: the step after / is a number from 1
        the crontab cannot be read: 'funday' is no day of week: use 0 to 6 or a name
        the crontab cannot be read: the time zone 'Mars/Base' is unknown; use an IANA name, for example Europe/Paris
        ");
    }
}
