//! The types of triggers, and how each parses its arguments (Cozy API, trigger types and arguments, §4.4).

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::duration::GoDuration;
use super::event::EventRules;
use super::schedule::Schedule;
use crate::{Error, Result};
use konnector_crontab::{Crontab, Period, Periodic};

/// Plan of a trigger: when it pushes jobs.
#[derive(Debug, Clone)]
pub enum TriggerPlan {
    /// `@cron`, `@every`, `@hourly`, `@daily`, `@weekly`, `@monthly`, `@at`, `@in`: at given times.
    Time(Schedule),
    /// `@event`: after changes of documents.
    Event(EventRules),
    /// `@webhook`: when its URL is called.
    Webhook,
    /// `@client`: when a client starts it; the client also does the work.
    Client,
}

/// Context on which the meaning of some arguments depends.
#[derive(Debug, Clone, Copy)]
pub struct ParseContext<'a> {
    /// When the trigger was created; `@in` counts from it.
    pub created: DateTime<Utc>,
    /// The time zone for clock times.
    pub zone: Tz,
    /// Seed for choices that the periodic grammar leaves open.
    pub seed: &'a str,
}

impl TriggerPlan {
    /// Parses a trigger's type and arguments.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidAttribute`] for an unknown type, [`Error::BadRequest`] for invalid arguments.
    pub fn parse(kind: &str, arguments: &str, context: ParseContext<'_>) -> Result<Self> {
        let cron = |text: &str| text.parse().map(|crontab: Crontab| Schedule::Cron(Box::new(crontab), context.zone));
        let periodic =
            |period| Periodic::parse(period, arguments).and_then(|periodic| cron(&periodic.crontab(context.seed)));
        let schedule = match kind {
            "@event" => return arguments.parse().map(Self::Event),
            "@webhook" => return Ok(Self::Webhook),
            "@client" => return Ok(Self::Client),
            "@cron" => match arguments.trim().strip_prefix("@every ") {
                Some(interval) => parse_interval(interval)?,
                None => cron(arguments).map_err(unparsable)?,
            },
            "@every" => parse_interval(arguments)?,
            "@hourly" => periodic(Period::Hourly).map_err(unparsable)?,
            "@daily" => periodic(Period::Daily).map_err(unparsable)?,
            "@weekly" => periodic(Period::Weekly).map_err(unparsable)?,
            "@monthly" => periodic(Period::Monthly).map_err(unparsable)?,
            "@in" => {
                Schedule::Once(context.created + arguments.parse::<GoDuration>().map_err(unparsable)?.as_duration())
            }
            "@at" => Schedule::Once(parse_date(arguments)?),
            other => {
                return Err(Error::InvalidAttribute {
                    name: "Type",
                    message: format!(
                        "Unknown trigger type '{other}'; use @cron, @every, @hourly, @daily, @weekly, @monthly, @at, @in, @event, @webhook or @client"
                    ),
                });
            }
        };
        Ok(Self::Time(schedule))
    }
}

fn parse_interval(interval: &str) -> Result<Schedule> {
    Ok(Schedule::every(&interval.parse().map_err(unparsable)?))
}

fn parse_date(text: &str) -> Result<DateTime<Utc>> {
    let read = DateTime::parse_from_rfc3339(text).map(|instant| instant.with_timezone(&Utc));
    read.map_err(|error| unparsable(format!("'{text}' is not an RFC 3339 date such as 2026-11-20T08:00:00Z: {error}")))
}

fn unparsable(error: impl std::fmt::Display) -> Error {
    Error::BadRequest(format!("Trigger unparsable: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, arguments: &str, seed: &str) -> Result<TriggerPlan> {
        let created = "2026-11-20T12:00:00Z".parse().expect("a date");
        TriggerPlan::parse(kind, arguments, ParseContext { created, zone: Tz::Europe__Paris, seed })
    }

    fn first(kind: &str, arguments: &str, seed: &str) -> String {
        let TriggerPlan::Time(schedule) = parse(kind, arguments, seed).expect(arguments) else {
            panic!("{kind} is no time")
        };
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().expect("a date");
        schedule.first_due(now).map(|first| first.to_rfc3339()).unwrap_or_default()
    }

    #[test]
    fn each_type_reads_its_arguments() {
        assert_eq!(first("@cron", "@daily", ""), "2026-11-20T23:00:00+00:00");
        assert_eq!(first("@cron", "TZ=Asia/Tokyo @midnight", ""), "2026-11-20T15:00:00+00:00");
        assert_eq!(first("@cron", "0 5 * * *", ""), "2026-11-21T04:00:00+00:00");
        assert_eq!(first("@in", "1h30m", ""), "2026-11-20T13:30:00+00:00");
        assert_eq!(first("@at", "2027-01-01T00:00:00+01:00", ""), "2026-12-31T23:00:00+00:00");
        assert_eq!(first("@daily", "before 5am", "a"), first("@daily", "before 5am", "a"));
        assert_ne!(first("@daily", "", "a/konnector/1"), first("@daily", "", "b/konnector/1"));
        assert!(matches!(parse("@webhook", "whatever", ""), Ok(TriggerPlan::Webhook)));
        assert!(matches!(parse("@client", "", ""), Ok(TriggerPlan::Client)));
    }

    /// The crontab cases of the behaviour reference: the next runs of each, or the error. 2026-11-20 is a Friday.
    #[test]
    fn crontabs_are_read_as_cozy_reads_them() {
        let created: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().expect("a date");
        let runs = |crontab: &str| {
            let plan = TriggerPlan::parse("@cron", crontab, ParseContext { created, zone: Tz::UTC, seed: "" });
            let schedule = match plan {
                Ok(TriggerPlan::Time(schedule)) => schedule,
                Ok(other) => panic!("{other:?}"),
                Err(error) => return error.to_string(),
            };
            let next = |due: &DateTime<Utc>| schedule.next(*due, *due);
            let runs = std::iter::successors(schedule.first_due(created), next).take(4);
            let shown: Vec<String> = runs.map(|run| run.format("%a %F %T").to_string()).collect();
            if shown.is_empty() { "never".to_owned() } else { shown.join(", ") }
        };
        let table = [
            "0 0 0 * * 7",
            "0 0 0 * * SUN",
            "60 * * * * *",
            "* * * *",
            "0 0 31 2 *",
            "0 0 1 * 1",
            "@every 500ms",
            "@reboot",
            "5/15 * * * *",
            "10-5 * * * *",
        ]
        .map(|crontab| format!("{crontab} → {}", runs(crontab)));
        insta::assert_snapshot!(table.join("\n"), @r"
        0 0 0 * * 7 → Trigger unparsable: the crontab cannot be read: '7' is not a valid day of week: use 0 to 6 or a name
        0 0 0 * * SUN → Sun 2026-11-22 00:00:00, Sun 2026-11-29 00:00:00, Sun 2026-12-06 00:00:00, Sun 2026-12-13 00:00:00
        60 * * * * * → Trigger unparsable: the crontab cannot be read: '60' is not a valid second: use 0 to 59
        * * * * → Trigger unparsable: the crontab cannot be read: '* * * *' has 4 fields; expected 5, or 6 with the seconds first
        0 0 31 2 * → Trigger unparsable: the crontab cannot be read: '0 0 31 2 *' is never due: none of its months has any of its days; check day of month and month
        0 0 1 * 1 → Mon 2026-11-23 00:00:00, Mon 2026-11-30 00:00:00, Tue 2026-12-01 00:00:00, Mon 2026-12-07 00:00:00
        @every 500ms → Fri 2026-11-20 12:00:01, Fri 2026-11-20 12:00:02, Fri 2026-11-20 12:00:03, Fri 2026-11-20 12:00:04
        @reboot → Trigger unparsable: the crontab cannot be read: '@reboot' is unknown; use fields, @every, or @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly
        5/15 * * * * → Fri 2026-11-20 12:05:00, Fri 2026-11-20 12:20:00, Fri 2026-11-20 12:35:00, Fri 2026-11-20 12:50:00
        10-5 * * * * → Trigger unparsable: the crontab cannot be read: '10-5' is not a valid minute: the range begins after its end
        ");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let errors: Vec<String> = [
            ("@cron", "@every soon"),
            ("@every", "1 hour"),
            ("@daily", "on monday"),
            ("@in", "tomorrow"),
            ("@at", "tomorrow"),
            ("@event", ""),
            ("@event", "io.cozy.bills:MOVED"),
            ("@event", "io.cozy.bills:CREATED:a:b:c"),
            ("@event", "io.cozy.jobs"),
            ("@event", "Bills"),
            ("@event", "io.cozy.bills:UPDATED:!="),
            ("@reboot", ""),
        ]
        .map(|(kind, arguments)| parse(kind, arguments, "").expect_err(arguments).to_string())
        .to_vec();
        insta::assert_snapshot!(errors.join("\n"));
    }
}
