//! The flags that say when a trigger runs, and what it does about what it misses.

use clap::Args;
use serde_json::{Map, Value, json};

/// At most one of these; without any, as often as the konnector's manifest says.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct ScheduleArguments {
    /// By a crontab: minutes, hours, days, months, weekdays; with the seconds first where there are six fields.
    #[arg(long, value_name = "CRONTAB")]
    cron: Option<String>,
    /// Again and again after this time: 1h30m.
    #[arg(long, value_name = "DURATION")]
    every: Option<String>,
    /// Once, at this date: 2027-01-31T08:00:00+01:00.
    #[arg(long, value_name = "DATE")]
    at: Option<String>,
    /// Once, after this time.
    #[arg(long, value_name = "DURATION")]
    r#in: Option<String>,
    /// Once an hour, perhaps with «between 8am and 6pm».
    #[arg(long, value_name = "HOURS", num_args = 0..=1, default_missing_value = "")]
    hourly: Option<String>,
    /// Once a day, perhaps with «before 5am».
    #[arg(long, value_name = "HOURS", num_args = 0..=1, default_missing_value = "")]
    daily: Option<String>,
    /// Once a week, perhaps with «on monday,thursday after 10pm».
    #[arg(long, value_name = "DAYS", num_args = 0..=1, default_missing_value = "")]
    weekly: Option<String>,
    /// Once a month, perhaps with «on the 1,15».
    #[arg(long, value_name = "DAYS", num_args = 0..=1, default_missing_value = "")]
    monthly: Option<String>,
    /// When documents change: io.cozy.bills:CREATED,UPDATED.
    #[arg(long, value_name = "EVENTS")]
    event: Option<String>,
    /// When its address is called, which is printed.
    #[arg(long)]
    webhook: bool,
}

impl ScheduleArguments {
    /// The type and arguments of the trigger; `None` to use the manifest's.
    pub fn into_type_and_arguments(self) -> Option<(&'static str, String)> {
        let given = [
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
        given.into_iter().find_map(|(kind, arguments)| arguments.map(|arguments| (kind, arguments)))
    }
}

/// What can be set when a trigger is added, and changed afterwards.
#[derive(Debug, Args)]
pub struct TriggerSettings {
    /// Clocks of this IANA time zone count, in place of the instance's: Europe/Paris.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// What becomes of instants that passed while the server was down: skip, coalesce (one run for all, the default) or all.
    #[arg(long, value_name = "POLICY")]
    missed_policy: Option<String>,
    /// With --missed-policy all, for how many of the newest ones: 1 to 100.
    #[arg(long, value_name = "COUNT")]
    missed_limit: Option<u32>,
    /// How long after it an instant is made up for: 48h.
    #[arg(long, value_name = "DURATION")]
    catch_up_window: Option<String>,
    /// What becomes of an instant while a run has not ended: skip (the default) or queue-one.
    #[arg(long, value_name = "POLICY")]
    overlap_policy: Option<String>,
    /// Collect events and calls for this time into one run: 5m.
    #[arg(long, value_name = "DURATION")]
    debounce: Option<String>,
}

impl TriggerSettings {
    /// The given arguments as attributes of the API.
    pub fn into_attributes(self) -> Map<String, Value> {
        let given = [
            ("time_zone", self.time_zone.map(Value::String)),
            ("missed_policy", self.missed_policy.map(Value::String)),
            ("missed_limit", self.missed_limit.map(|limit| json!(limit))),
            ("catch_up_window", self.catch_up_window.map(Value::String)),
            ("overlap_policy", self.overlap_policy.map(Value::String)),
            ("debounce", self.debounce.map(Value::String)),
        ];
        given.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))).collect()
    }
}
