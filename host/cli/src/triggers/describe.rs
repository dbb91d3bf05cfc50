//! Schedules as plain sentences: "every day at 05:27, Europe/Paris; next in 3 h".

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::output::cell;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Describes when a trigger runs, without the time zone.
pub fn describe_schedule(trigger: &Value) -> String {
    let (kind, arguments) = (cell(trigger.get("type")), cell(trigger.get("arguments")));
    let arguments = arguments.trim();
    let suffix = if arguments.is_empty() { String::new() } else { format!(" {arguments}") };
    match kind.as_str() {
        "@cron" => match arguments.strip_prefix("@every ") {
            Some(interval) => format!("every {interval}"),
            None => describe_crontab(arguments).unwrap_or_else(|| format!("by the crontab `{arguments}`")),
        },
        "@every" => format!("every {arguments}"),
        "@hourly" => format!("once an hour{suffix}"),
        "@daily" => format!("once a day{suffix}"),
        "@weekly" => format!("once a week{suffix}"),
        "@monthly" => format!("once a month{suffix}"),
        "@at" => format!("once, at {arguments}"),
        "@in" => format!("once, {arguments} after it was added"),
        "@event" => format!("on the event {arguments}"),
        "@webhook" => "when its webhook is called".to_owned(),
        "@client" => "when a client runs it".to_owned(),
        other => format!("{other}{suffix}"),
    }
}

/// Like [`describe_schedule`], with the time zone and the remaining time.
pub fn describe(trigger: &Value, now: DateTime<Utc>) -> String {
    let mut sentence = describe_schedule(trigger);
    // A crontab that names its own time zone uses that one.
    let has_own_zone = cell(trigger.get("arguments")).contains("TZ=");
    let follows_clock = !has_own_zone
        && !matches!(cell(trigger.get("type")).as_str(), "@every" | "@at" | "@in" | "@event" | "@webhook" | "@client");
    if let Some(zone) = trigger.get("time_zone").and_then(Value::as_str).filter(|_| follows_clock) {
        sentence = format!("{sentence}, {zone}");
    }
    let state = trigger.get("current_state");
    let state_field = |name: &str| state.and_then(|state| state.get(name));
    let next =
        state_field("next_execution").and_then(Value::as_str).and_then(|next| next.parse::<DateTime<Utc>>().ok());
    if let Some(locked) = state_field("locked_until") {
        sentence = format!("{sentence}; the vendor locked the account, nothing runs before {}", cell(Some(locked)));
    } else if let Some(code) = state_field("paused").and_then(|paused| paused.get("code")) {
        sentence = format!("{sentence}; paused until you act ({})", cell(Some(code)));
    } else if let Some(next) = next {
        sentence = format!("{sentence}; next {}", time_until(next, now));
    }
    sentence
}

/// Returns whether a trigger has a date in the past, at which it cannot run.
pub fn is_overdue(trigger: &Value, now: DateTime<Utc>) -> bool {
    let date = || DateTime::parse_from_rfc3339(cell(trigger.get("arguments")).trim()).ok();
    cell(trigger.get("type")) == "@at" && date().is_some_and(|date| date < now)
}

/// Formats the remaining time in its largest unit.
fn time_until(next: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match (next - now).num_seconds() {
        ..=0 => "now".to_owned(),
        seconds @ 1..60 => format!("in {seconds} s"),
        seconds @ 60..3_600 => format!("in {} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("in {} h", seconds / 3_600),
        seconds => format!("in {} days", seconds / 86_400),
    }
}

/// Describes a crontab in words; returns `None` if the words would be longer than the crontab.
fn describe_crontab(text: &str) -> Option<String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let (second, minute, hour, day, month, weekday) = match *fields.as_slice() {
        [minute, hour, day, month, weekday] => ("0", minute, hour, day, month, weekday),
        [second, minute, hour, day, month, weekday] => (second, minute, hour, day, month, weekday),
        ["@yearly" | "@annually"] => ("0", "0", "0", "1", "1", "*"),
        ["@monthly"] => ("0", "0", "0", "1", "*", "*"),
        ["@weekly"] => ("0", "0", "0", "*", "*", "0"),
        ["@daily" | "@midnight"] => ("0", "0", "0", "*", "*", "*"),
        ["@hourly"] => ("0", "0", "*", "*", "*", "*"),
        _ => return None,
    };
    let is_any = |field: &str| field == "*" || field == "?";
    let days = match (is_any(day), is_any(month), is_any(weekday)) {
        (true, true, true) => None,
        (true, true, false) => Some(format!("every {}", field_names(weekday, &DAYS, 0)?)),
        (false, true, true) => Some(format!("on the {} of every month", ordinals(day)?)),
        (false, false, true) => Some(format!("on the {} of {}", ordinals(day)?, field_names(month, &MONTHS, 1)?)),
        _ => return None,
    };
    let second: u32 = second.parse().ok()?;
    let seconds = if second == 0 { String::new() } else { format!(":{second:02}") };
    if is_any(hour) {
        let each = match minute.strip_prefix("*/") {
            Some(step) => format!("every {} minutes", step.parse::<u32>().ok()?),
            None if is_any(minute) => "every minute".to_owned(),
            None => format!("every hour at minute {:02}{seconds}", minute.parse::<u32>().ok()?),
        };
        return Some(days.map_or(each.clone(), |days| format!("{each}, {days}")));
    }
    let minute: u32 = minute.parse().ok()?;
    let hours = hour.split(',').map(|hour| hour.parse::<u32>().ok()).collect::<Option<Vec<_>>>()?;
    let times: Vec<_> = hours.iter().map(|hour| format!("{hour:02}:{minute:02}{seconds}")).collect();
    Some(format!("{} at {}", days.unwrap_or_else(|| "every day".to_owned()), join_list(&times)))
}

/// Returns the full names for a list of numbers or short names.
fn field_names(field: &str, names: &[&str], first: usize) -> Option<String> {
    let name = |part: &str| {
        let by_name =
            names.iter().find(|name| part.len() == 3 && name.to_lowercase().starts_with(&part.to_lowercase()));
        by_name.or_else(|| names.get(part.parse::<usize>().ok()?.checked_sub(first)?)).map(|name| (*name).to_owned())
    };
    field.split(',').map(name).collect::<Option<Vec<_>>>().map(|names| join_list(&names))
}

fn ordinals(field: &str) -> Option<String> {
    let ordinal = |part: &str| {
        let number: u32 = part.parse().ok()?;
        let ending = match (number % 10, number % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        Some(format!("{number}{ending}"))
    };
    field.split(',').map(ordinal).collect::<Option<Vec<_>>>().map(|ordinals| join_list(&ordinals))
}

fn join_list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_date_in_the_past_is_overdue() {
        let now = "2026-11-20T12:00:00Z".parse().expect("a date");
        for (kind, arguments, expected) in [
            ("@at", "2020-01-01T00:00:00Z", true),
            ("@at", "2026-11-20T13:30:00+02:00", true),
            ("@at", "2026-11-20T12:00:01Z", false),
            ("@cron", "@every 1h", false),
            ("@in", "1h", false),
        ] {
            assert_eq!(is_overdue(&json!({ "type": kind, "arguments": arguments }), now), expected, "{arguments}");
        }
    }

    #[test]
    fn schedules_read_as_sentences() {
        let sentences: Vec<String> = [
            json!({ "type": "@cron", "arguments": "0 27 5 * * *" }),
            json!({ "type": "@cron", "arguments": "30 27 5,17 * * *" }),
            json!({ "type": "@cron", "arguments": "0 5 * * 1,thu" }),
            json!({ "type": "@cron", "arguments": "0 5 1,2,13,22 * *" }),
            json!({ "type": "@cron", "arguments": "0 5 3 1,jul *" }),
            json!({ "type": "@cron", "arguments": "*/5 * * * *" }),
            json!({ "type": "@cron", "arguments": "7 * * * 0" }),
            json!({ "type": "@cron", "arguments": "0 0 1 * 1" }),
            json!({ "type": "@cron", "arguments": "@weekly" }),
            json!({ "type": "@cron", "arguments": "@every 1h30m" }),
            json!({ "type": "@cron", "arguments": "TZ=Asia/Tokyo 0 5 * * *" }),
            json!({ "type": "@every", "arguments": "1h" }),
            json!({ "type": "@weekly", "arguments": "on monday before 9am" }),
            json!({ "type": "@daily", "arguments": "" }),
            json!({ "type": "@at", "arguments": "2027-01-01T00:00:00Z" }),
            json!({ "type": "@event", "arguments": "io.cozy.bills:CREATED" }),
            json!({ "type": "@webhook", "arguments": "" }),
        ]
        .iter()
        .map(describe_schedule)
        .collect();
        insta::assert_snapshot!(sentences.join("\n"), @r"
        every day at 05:27
        every day at 05:27:30 and 17:27:30
        every Monday and Thursday at 05:00
        on the 1st, 2nd, 13th and 22nd of every month at 05:00
        on the 3rd of January and July at 05:00
        every 5 minutes
        every hour at minute 07, every Sunday
        by the crontab `0 0 1 * 1`
        every Sunday at 00:00
        every 1h30m
        by the crontab `TZ=Asia/Tokyo 0 5 * * *`
        every 1h
        once a week on monday before 9am
        once a day
        once, at 2027-01-01T00:00:00Z
        on the event io.cozy.bills:CREATED
        when its webhook is called
        ");
    }

    #[test]
    fn a_sentence_ends_with_what_comes_next() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().expect("a date");
        let with = |state: Value| {
            let trigger = json!({
                "type": "@cron", "arguments": "0 27 5 * * *", "time_zone": "Europe/Paris", "current_state": state,
            });
            describe(&trigger, now)
        };
        let sentences = [
            with(json!({ "next_execution": "2026-11-20T15:40:00Z" })),
            with(json!({ "next_execution": "2026-11-29T15:40:00Z" })),
            with(json!({ "next_execution": "2026-11-20T15:40:00Z", "paused": { "code": "LOGIN_FAILED" } })),
            with(json!({ "next_execution": "2026-11-20T15:40:00Z", "locked_until": "2026-11-21T08:00:00Z" })),
            with(json!({})),
        ];
        insta::assert_snapshot!(sentences.join("\n"), @r"
        every day at 05:27, Europe/Paris; next in 3 h
        every day at 05:27, Europe/Paris; next in 9 days
        every day at 05:27, Europe/Paris; paused until you act (LOGIN_FAILED)
        every day at 05:27, Europe/Paris; the vendor locked the account, nothing runs before 2026-11-21T08:00:00Z
        every day at 05:27, Europe/Paris
        ");
    }
}
