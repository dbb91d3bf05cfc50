//! Flags for the schedule of a trigger and its policies.

use clap::Args;
use serde_json::{Map, Value, json};

/// Schedule of a trigger. At most one of these flags is allowed; without any flag, it is the schedule of the
/// konnector's manifest.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct ScheduleArguments {
    /// Crontab: minutes, hours, days, months, weekdays; the first of six fields is seconds.
    #[arg(long, value_name = "CRONTAB")]
    cron: Option<String>,
    /// Interval between runs, at least 1s: 1h30m.
    #[arg(long, value_name = "DURATION")]
    every: Option<String>,
    /// Once, at this date: 2027-01-31T08:00:00+01:00. With a date in the past, it runs at once.
    #[arg(long, value_name = "DATE")]
    at: Option<String>,
    /// Once, after this duration.
    #[arg(long, value_name = "DURATION")]
    r#in: Option<String>,
    /// Once an hour, optionally with hours: "between 8am and 6pm".
    #[arg(long, value_name = "HOURS", num_args = 0..=1, default_missing_value = "")]
    hourly: Option<String>,
    /// Once a day, optionally with hours: "before 5am".
    #[arg(long, value_name = "HOURS", num_args = 0..=1, default_missing_value = "")]
    daily: Option<String>,
    /// Once a week, optionally with days and hours: "on monday,thursday after 10pm".
    #[arg(long, value_name = "DAYS", num_args = 0..=1, default_missing_value = "")]
    weekly: Option<String>,
    /// Once a month, optionally with days: "on the 1,15".
    #[arg(long, value_name = "DAYS", num_args = 0..=1, default_missing_value = "")]
    monthly: Option<String>,
    /// Runs when documents change, as in io.cozy.bills:CREATED,UPDATED.
    #[arg(long, value_name = "EVENTS")]
    event: Option<String>,
    /// Runs when its webhook URL is called; the command prints the URL.
    #[arg(long)]
    webhook: bool,
}

impl ScheduleArguments {
    /// Returns the type and arguments of the trigger; `None` to use the manifest's.
    pub fn into_type_and_arguments(self) -> Option<(&'static str, String)> {
        let flags = [
            ("@cron", self.cron),
            ("@every", self.every),
            ("@at", self.at),
            ("@in", self.r#in),
            ("@hourly", self.hourly),
            ("@daily", self.daily),
            ("@weekly", self.weekly),
            ("@monthly", self.monthly),
            ("@event", self.event),
            ("@webhook", self.webhook.then(String::new)),
        ];
        flags.into_iter().find_map(|(kind, arguments)| arguments.map(|arguments| (kind, arguments)))
    }
}

/// Settings of a trigger that can be changed after it was added.
#[derive(Debug, Args)]
pub struct TriggerSettings {
    /// IANA time zone of the schedule, instead of the instance's: Europe/Paris.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Policy for ticks that were missed while the server was down: skip, coalesce (one run for all, the default) or
    /// all.
    #[arg(long, value_name = "POLICY")]
    missed_policy: Option<String>,
    /// Maximum number of missed ticks that --missed-policy all makes up for, newest first: 1 to 100.
    #[arg(long, value_name = "COUNT")]
    missed_limit: Option<u32>,
    /// Maximum age of a missed tick that is made up for: 48h.
    #[arg(long, value_name = "DURATION")]
    catch_up_window: Option<String>,
    /// Policy for a tick while a run has not ended: skip (the default) or queue-one.
    #[arg(long, value_name = "POLICY")]
    overlap_policy: Option<String>,
    /// Collect the events and calls of this duration into one run: 5m.
    #[arg(long, value_name = "DURATION")]
    debounce: Option<String>,
}

impl TriggerSettings {
    /// Converts the given flags to attributes of the API.
    pub fn into_attributes(self) -> Map<String, Value> {
        let attributes = [
            ("time_zone", self.time_zone.map(Value::String)),
            ("missed_policy", self.missed_policy.map(Value::String)),
            ("missed_limit", self.missed_limit.map(|limit| json!(limit))),
            ("catch_up_window", self.catch_up_window.map(Value::String)),
            ("overlap_policy", self.overlap_policy.map(Value::String)),
            ("debounce", self.debounce.map(Value::String)),
        ];
        attributes.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))).collect()
    }
}
