//! Compares crontabs with an oracle that examines every minute around every change of the offset, in forty time zones
//! over ten years.
//!
//! `KONNECTOR_EVERY_YEAR=1` extends it to 1973 to 2037.

use parking_lot::Mutex;

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{Crontab, local_time};

const ZONES: [&str; 40] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Africa/Johannesburg",
    "Africa/Monrovia",
    "America/Asuncion",
    "America/Caracas",
    "America/Havana",
    "America/Los_Angeles",
    "America/Mexico_City",
    "America/New_York",
    "America/Nuuk",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Adelaide",
    "Australia/Eucla",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Istanbul",
    "Europe/Lisbon",
    "Europe/Moscow",
    "Europe/Paris",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Fiji",
    "Pacific/Kiritimati",
    "UTC",
];

/// Seconds are 0 in all of them, because the oracle examines only minutes.
const CRONTABS: [&str; 26] = [
    "30 2 * * *",
    "0 2 * * *",
    "0 3 * * *",
    "15 2 * * 0",
    "45 1 * * *",
    "30 1 * * *",
    "0 0 * * *",
    "5 0 * * *",
    "59 23 * * *",
    "0,30 1,2,3 * * *",
    "*/10 2 * * *",
    "* 1 * * 0",
    "20 0-3 * * *",
    "0 1 1 * *",
    "30 2 25-31 3,10 0",
    "0 12 30 12 *",
    "17 5 31 * *",
    "*/30 * * * *",
    "30 * * * *",
    "0 */2 * * *",
    "15 */3 * * 0",
    "0 */24 * * *",
    "*/20 * 1 * *",
    "7 * * 4,11 *",
    "0 0 */1 * 3",
    "30 2 13 * */1",
];

/// Fields as tables of allowed values; parsed without the code under test.
struct Table {
    minute: [bool; 60],
    hour: [bool; 60],
    day: [bool; 60],
    month: [bool; 60],
    weekday: [bool; 60],
    either_day: bool,
    is_wildcard: bool,
}

fn table(text: &str) -> [bool; 60] {
    let mut table = [false; 60];
    for part in text.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (first, last) = if range == "*" { ("0", "59") } else { range.split_once('-').unwrap_or((range, range)) };
        let number = |text: &str| text.parse::<usize>().expect("a number");
        (number(first)..=number(last)).step_by(number(step)).for_each(|value| table[value] = true);
    }
    table
}

impl Table {
    fn of(crontab: &str) -> Self {
        let fields: Vec<&str> = crontab.split(' ').collect();
        let [minute, hour, day, month, weekday] = *fields.as_slice() else { panic!("{crontab}") };
        Self {
            minute: table(minute),
            hour: table(hour),
            day: table(day),
            month: table(month),
            weekday: table(weekday),
            either_day: ![day, weekday].iter().any(|field| ["*", "*/1"].contains(field)),
            is_wildcard: hour.starts_with('*') && hour != "*/24",
        }
    }

    fn allows(&self, shown: &LocalMinute) -> bool {
        let (day, weekday) = (self.day[shown.day], self.weekday[shown.weekday]);
        let right_day = if self.either_day { day || weekday } else { day && weekday };
        self.minute[shown.minute] && self.hour[shown.hour] && self.month[shown.month] && right_day
    }
}

/// A local time, in the units that crontabs use.
struct LocalMinute {
    minute: usize,
    hour: usize,
    day: usize,
    month: usize,
    weekday: usize,
}

impl LocalMinute {
    /// Minutes since 1970 in local time.
    fn at(minutes: i64) -> Self {
        let date =
            NaiveDate::from_num_days_from_ce_opt(719_163 + i32::try_from(minutes.div_euclid(1_440)).expect("a date"))
                .expect("a date");
        let minute = usize::try_from(minutes.rem_euclid(1_440)).expect("a minute");
        Self {
            minute: minute % 60,
            hour: minute / 60,
            day: date.day() as usize,
            month: date.month() as usize,
            weekday: date.weekday().num_days_from_sunday() as usize,
        }
    }
}

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(minutes * 60, 0).expect("a date")
}

/// Returns the minutes that local time is ahead of UTC.
fn utc_offset_minutes(zone: Tz, minutes: i64) -> i64 {
    local_time::offset(zone, at(minutes)).num_minutes()
}

/// A minute in real time, with its local time and the local times that clocks skipped or showed for the first time with
/// it.
struct Minute {
    at: i64,
    shown: LocalMinute,
    /// Times that were never shown before, this one last; empty in a second pass.
    first_shown: Vec<LocalMinute>,
}

/// Returns the minutes from `from` to `to`. Clocks must not have been set back shortly before.
fn minutes(zone: Tz, from: i64, to: i64) -> Vec<Minute> {
    let mut latest = from - 1 + utc_offset_minutes(zone, from - 1);
    let minute = |at: i64| {
        let shown = at + utc_offset_minutes(zone, at);
        let new = (latest + 1..=shown).map(LocalMinute::at).collect();
        latest = latest.max(shown);
        Minute { at, shown: LocalMinute::at(shown), first_shown: new }
    };
    (from..to).map(minute).collect()
}

/// Two days before to two days after each change of the offset, and the end of February.
fn windows(zone: Tz, years: std::ops::Range<i32>) -> Vec<(i64, i64)> {
    let begin = |year, month, day| {
        let date = NaiveDate::from_ymd_opt(year, month, day).expect("a date");
        date.and_hms_opt(0, 0, 0).expect("midnight").and_utc().timestamp() / 60
    };
    let hours = (begin(years.start, 1, 1)..begin(years.end, 1, 1)).step_by(60);
    let changes = hours.filter(|hour| utc_offset_minutes(zone, *hour) != utc_offset_minutes(zone, hour + 60));
    let mut windows: Vec<_> = changes.map(|change| (change - 2 * 1_440, change + 2 * 1_440)).collect();
    windows.extend(years.step_by(3).map(|year| (begin(year, 2, 26), begin(year, 3, 3))));
    windows
}

/// Compares one zone over some years, and returns the number of instants.
fn compare(zone: Tz, years: std::ops::Range<i32>, crontabs: &[(&str, Crontab, Table)]) -> usize {
    let mut seen = 0;
    for (from, to) in windows(zone, years) {
        // If clocks were set back within the days before, some times are shown again: begin after that.
        let minutes = minutes(zone, from - 1_600, to);
        for (text, crontab, table) in crontabs {
            let due = |minute: &&Minute| {
                minute.at >= from
                    && if table.is_wildcard {
                        table.allows(&minute.shown)
                    } else {
                        minute.first_shown.iter().any(|new| table.allows(new))
                    }
            };
            let expected: Vec<_> = minutes.iter().filter(due).map(|minute| at(minute.at)).collect();
            let (before, end) = (at(from) - TimeDelta::seconds(1), at(to) - TimeDelta::seconds(1));
            let next = |instant: &DateTime<Utc>| crontab.next(*instant, zone).filter(|next| *next <= end);
            let found: Vec<_> = std::iter::successors(next(&before), next).collect();
            assert_eq!(found, expected, "{text} in {zone} from {}", at(from));
            assert_eq!(crontab.count(before, end, zone), expected.len() as u64, "{text} in {zone} from {}", at(from));
            let newest: Vec<_> = expected.iter().rev().take(3).rev().copied().collect();
            assert_eq!(crontab.newest(3, before, end, zone), newest, "{text} in {zone} from {}", at(from));
            seen += expected.len();
        }
    }
    seen
}

#[test]
fn every_minute_around_every_change_is_as_the_rule_says() {
    let crontabs: Vec<_> =
        CRONTABS.iter().map(|text| (*text, text.parse::<Crontab>().expect(text), Table::of(text))).collect();
    let every_year = std::env::var_os("KONNECTOR_EVERY_YEAR").is_some();
    let mut work = Vec::new();
    for zone in ZONES {
        let zone: Tz = zone.parse().expect(zone);
        work.push((zone, if every_year { 1973..2038 } else { 2008..2018 }));
        // Whole days were skipped or shown twice at the date line.
        work.extend(matches!(zone, Tz::Pacific__Kiritimati).then_some((zone, 1994..1996)));
    }
    work.push((Tz::Pacific__Kwajalein, 1993..1994));
    let (work, seen) = (Mutex::new(work), Mutex::new(0));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((zone, years)) = work.lock().pop() else { return };
                    let count = compare(zone, years, &crontabs);
                    *seen.lock() += count;
                }
            });
        }
    });
    let seen = seen.into_inner();
    assert!(seen > 100_000, "only {seen} instants were compared");
}

#[test]
fn what_the_rule_says_in_words() {
    let due = |crontab: &str, zone: Tz, after: &str, count: usize| {
        let crontab: Crontab = crontab.parse().expect(crontab);
        let after: DateTime<Utc> = after.parse().expect("a date");
        let next = |instant: &DateTime<Utc>| crontab.next(*instant, zone);
        let instants = std::iter::successors(next(&after), next).take(count);
        instants.map(|instant| instant.with_timezone(&zone).format("%F %T %Z").to_string()).collect::<Vec<_>>()
    };
    // Skipped times are due at the first instant after the gap.
    assert_eq!(
        due("30 2 * * *", Tz::Europe__Paris, "2026-03-28T12:00:00Z", 2),
        ["2026-03-29 03:00:00 CEST", "2026-03-30 02:30:00 CEST"]
    );
    // Times shown twice are due in the first pass only.
    assert_eq!(
        due("30 2 * * *", Tz::Europe__Paris, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25 02:30:00 CEST", "2026-10-26 02:30:00 CET"]
    );
    // A crontab that follows the hours follows elapsed time.
    assert_eq!(
        due("30 * * * *", Tz::Europe__Paris, "2026-10-24T23:00:00Z", 3),
        ["2026-10-25 01:30:00 CEST", "2026-10-25 02:30:00 CEST", "2026-10-25 02:30:00 CET"]
    );
    assert_eq!(
        due("30 * * * *", Tz::Europe__Paris, "2026-03-29T00:00:00Z", 2),
        ["2026-03-29 01:30:00 CET", "2026-03-29 03:30:00 CEST"]
    );
    // Half an hour at Lord Howe Island, and a skipped day in Samoa.
    assert_eq!(due("15 2 * * *", Tz::Australia__Lord_Howe, "2026-10-03T00:00:00Z", 1), ["2026-10-04 02:30:00 +11"]);
    assert_eq!(
        due("0 5 * * *", Tz::Pacific__Apia, "2011-12-29T16:00:00Z", 2),
        ["2011-12-31 00:00:00 +14", "2011-12-31 05:00:00 +14"]
    );
}
