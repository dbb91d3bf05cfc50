//! When a trigger is due.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::crontab::Crontab;
use crate::{Error, Result};

/// The kinds of triggers that time decides.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// `@cron`.
    Cron(Crontab),
    /// `@every`: a fixed distance from one instant to the next.
    Every(Duration),
    /// `@at` and `@in`: once.
    Once(DateTime<Utc>),
}

impl Schedule {
    /// Reads a trigger's type and arguments. `created` is what `@in` counts from.
    ///
    /// # Errors
    ///
    /// [`Error::Attribute`] for an unknown type, [`Error::BadRequest`] for arguments that cannot be read.
    pub fn parse(kind: &str, arguments: &str, created: DateTime<Utc>) -> Result<Self> {
        let unparsable = |message: String| Error::BadRequest(format!("Trigger unparsable: {message}"));
        match kind {
            "@cron" => Ok(Self::Cron(
                arguments.parse().map_err(|error: crate::crontab::CrontabError| unparsable(error.to_string()))?,
            )),
            "@every" => {
                duration(arguments).map(|every| Self::Every(every.max(Duration::from_secs(1)))).map_err(unparsable)
            }
            "@in" => duration(arguments).map(|after| Self::Once(created + after)).map_err(unparsable),
            "@at" => DateTime::parse_from_rfc3339(arguments)
                .map(|instant| Self::Once(instant.with_timezone(&Utc)))
                .map_err(|error| {
                    unparsable(format!("'{arguments}' is no RFC 3339 date such as 2026-11-20T08:00:00Z: {error}"))
                }),
            other => Err(Error::Attribute {
                name: "Type",
                message: format!("Unknown trigger type '{other}'; use @cron, @every, @at or @in"),
            }),
        }
    }

    /// The first instant at or after now for a new trigger, else the first one strictly after `after`.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(crontab) => crontab.next(after, zone),
            Self::Every(every) => Some(after + *every),
            Self::Once(_) => None,
        }
    }

    /// When a trigger that is created now is due for the first time.
    #[must_use]
    pub fn first(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Once(instant) => Some((*instant).max(now)),
            Self::Cron(_) | Self::Every(_) => self.next(now, zone),
        }
    }
}

/// A duration as Go writes it: numbers with a unit, one after the other, for example `1h30m` or `1.5s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration; write numbers with units, for example 1h30m or 90s");
    let mut rest = text.trim();
    let mut seconds = 0.0_f64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds.round()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go_in_whole_seconds() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "soon", "10", "1d", "1h x", "-5s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn once_in_the_past_is_due_now_and_never_again() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().expect("a date");
        let schedule = Schedule::parse("@at", "2020-01-01T00:00:00Z", now).expect("valid");
        assert_eq!(schedule.first(now, Tz::UTC), Some(now));
        assert_eq!(schedule.next(now, Tz::UTC), None);
    }

    #[test]
    fn every_half_a_second_is_every_second() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().expect("a date");
        let schedule = Schedule::parse("@every", "500ms", now).expect("valid");
        assert_eq!(schedule.next(now, Tz::UTC), Some(now + Duration::from_secs(1)));
    }
}
