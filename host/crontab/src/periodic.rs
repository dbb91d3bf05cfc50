//! The periodic grammar: `@weekly` with `on monday before 9am` (Cozy API, periodic grammar, §4.3).

use std::collections::BTreeSet;
use std::ops::Range;

use super::CrontabError;
use super::generate::DigestRng;

/// Frequency of a periodic schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Every hour, within the allowed hours.
    Hourly,
    /// Once a day, in one of the allowed hours.
    Daily,
    /// On one of the allowed days of the week.
    Weekly,
    /// On one of the allowed days of the month.
    Monthly,
}

/// Allowed times in each period; a pseudo-random choice picks one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Periodic {
    period: Period,
    days: Vec<u32>,
    hours: Range<u32>,
}

const DAYS: [(&str, &[u32]); 16] = [
    ("sun", &[0]),
    ("sunday", &[0]),
    ("mon", &[1]),
    ("monday", &[1]),
    ("tue", &[2]),
    ("tuesday", &[2]),
    ("wed", &[3]),
    ("wednesday", &[3]),
    ("thu", &[4]),
    ("thursday", &[4]),
    ("fri", &[5]),
    ("friday", &[5]),
    ("sat", &[6]),
    ("saturday", &[6]),
    ("weekday", &[1, 2, 3, 4, 5]),
    ("weekend", &[0, 6]),
];

impl Periodic {
    /// Parses clauses, `on <days>` (weekly), `on the <days>` (monthly), `before H` or `and H`, `after H` or `between
    /// H`, in any order; the last clause of a kind wins. Without clauses, all days up to the 28th and all hours are
    /// allowed.
    ///
    /// # Errors
    ///
    /// If words cannot be read; the error names them.
    pub fn parse(period: Period, text: &str) -> Result<Self, CrontabError> {
        let days = match period {
            Period::Weekly => (0..7).collect(),
            Period::Monthly => (1..29).collect(),
            Period::Hourly | Period::Daily => Vec::new(),
        };
        let mut periodic = Self { period, days, hours: 0..24 };
        let mut words = text.split_whitespace();
        while let Some(clause) = words.next() {
            let mut word = || words.next().ok_or_else(|| CrontabError(format!("a word is missing after '{clause}'")));
            match (clause, period) {
                ("before" | "and", _) => periodic.hours.end = parse_hour(word()?, 24)?,
                ("after" | "between", _) => periodic.hours.start = parse_hour(word()?, 0)?,
                ("on", Period::Weekly) => periodic.days = parse_days_of_week(word()?)?,
                ("on", Period::Monthly) => match word()? {
                    "the" => periodic.days = parse_days_of_month(word()?)?,
                    other => {
                        return Err(CrontabError(format!(
                            "expected 'the' after 'on', not '{other}'; write for example on the 1,15"
                        )));
                    }
                },
                _ => {
                    return Err(CrontabError(format!(
                        "'{clause}' is not supported here; use before, after, or between … and …; @weekly also accepts on monday, @monthly on the 1"
                    )));
                }
            }
        }
        if periodic.hours.is_empty() {
            let Range { start, end } = periodic.hours;
            return Err(CrontabError(format!(
                "the hours end at {end}, before they begin at {start}; use two schedules for a span across midnight"
            )));
        }
        Ok(periodic)
    }

    /// Returns the crontab, of six fields. Free choices are derived from a seed, so the same seed gives the same
    /// crontab.
    #[must_use]
    pub fn crontab(&self, seed: &str) -> String {
        let mut draw = DigestRng::new(seed);
        let (second, minute) = (draw.in_range(0..60), draw.in_range(0..60));
        if self.period == Period::Hourly {
            let Range { start, end } = self.hours;
            let hours = if self.hours == (0..24) { "*".to_owned() } else { format!("{start}-{}", end - 1) };
            return format!("{second} {minute} {hours} * * *");
        }
        let hour = draw.in_range(self.hours.clone());
        let day = draw.choose(&self.days);
        match self.period {
            Period::Weekly => format!("{second} {minute} {hour} * * {day}"),
            Period::Monthly => format!("{second} {minute} {hour} {day} * *"),
            Period::Hourly | Period::Daily => format!("{second} {minute} {hour} * * *"),
        }
    }
}

/// Parses an hour such as `9am`; `12am` is the start of a day, or the end of a day if it is the upper bound.
fn parse_hour(text: &str, midnight: u32) -> Result<u32, CrontabError> {
    let wrong = || CrontabError(format!("'{text}' is not an hour; write 1am to 12am or 1pm to 12pm"));
    let (number, noon) = match (text.strip_suffix("am"), text.strip_suffix("pm")) {
        (Some(number), _) => (number, 0),
        (_, Some(number)) => (number, 12),
        _ => return Err(wrong()),
    };
    match number.parse::<u32>() {
        Ok(12) if noon == 0 => Ok(midnight),
        Ok(12) => Ok(12),
        Ok(hour @ 1..12) => Ok(hour + noon),
        _ => Err(wrong()),
    }
}

fn parse_days_of_week(text: &str) -> Result<Vec<u32>, CrontabError> {
    let named = |name: &str| {
        let found = DAYS.iter().find(|(known, _)| *known == name).map(|(_, days)| *days);
        found.ok_or_else(|| {
            CrontabError(format!(
                "'{name}' is not a day of the week; write for example mon, friday, weekday or fri-mon"
            ))
        })
    };
    let one = |name: &str| match named(name)? {
        [day] => Ok(*day),
        _ => Err(CrontabError(format!("'{name}' stands for several days and cannot begin or end a range"))),
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let Some((first, last)) = part.split_once('-') else {
            days.extend(named(part)?);
            continue;
        };
        let (first, last) = (one(first)?, one(last)?);
        if first == last {
            return Err(CrontabError(format!("'{part}' begins and ends on the same day; write only that day")));
        }
        // A range may cross the end of the week.
        let length = (last + 7 - first) % 7;
        days.extend((0..=length).map(|step| (first + step) % 7));
    }
    let mut known = BTreeSet::new();
    days.retain(|day| known.insert(*day));
    Ok(days)
}

fn parse_days_of_month(text: &str) -> Result<Vec<u32>, CrontabError> {
    let day = |text: &str| match text.parse::<u32>() {
        Ok(day @ 1..=31) => Ok(day),
        _ => {
            Err(CrontabError(format!("'{text}' is not a day of the month; write 1 to 31, for example on the 1,10-15")))
        }
    };
    let mut days = BTreeSet::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => {
                days.insert(day(part)?);
            }
            Some((first, last)) => {
                let (first, last) = (day(first)?, day(last)?);
                if first >= last {
                    return Err(CrontabError(format!("'{part}' is not a range from an earlier to a later day")));
                }
                days.extend(first..=last);
            }
        }
    }
    Ok(days.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(period: Period, text: &str) -> (Vec<u32>, Range<u32>) {
        let periodic = Periodic::parse(period, text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (periodic.days, periodic.hours)
    }

    /// The behaviour reference's cases of accepted periodic schedules.
    #[test]
    fn clauses_are_read_as_cozy_reads_them() {
        assert_eq!(parsed(Period::Weekly, ""), ((0..7).collect(), 0..24));
        assert_eq!(parsed(Period::Monthly, ""), ((1..=28).collect(), 0..24));
        for (text, days) in [
            ("on the 1", vec![1]),
            ("on the 1,16", vec![1, 16]),
            ("on the 1-3,5-7,9-11", vec![1, 2, 3, 5, 6, 7, 9, 10, 11]),
        ] {
            assert_eq!(parsed(Period::Monthly, text).0, days, "{text}");
        }
        for (text, days) in [
            ("on monday", vec![1]),
            ("on mon,wed,fri", vec![1, 3, 5]),
            ("on wed-fri", vec![3, 4, 5]),
            ("on fri-mon", vec![5, 6, 0, 1]),
            ("on weekday", vec![1, 2, 3, 4, 5]),
            ("on weekend", vec![0, 6]),
            ("on weekday,saturday", vec![1, 2, 3, 4, 5, 6]),
        ] {
            assert_eq!(parsed(Period::Weekly, text).0, days, "{text}");
        }
        for (text, hours) in [
            ("before 5am", 0..5),
            ("after 10pm", 22..24),
            ("between 8am and 6pm", 8..18),
            ("between 12am and 12pm", 0..12),
            ("before 5am before 12am", 0..24),
        ] {
            assert_eq!(parsed(Period::Daily, text).1, hours, "{text}");
        }
        assert_eq!(parsed(Period::Weekly, "on monday before 9am"), (vec![1], 0..9));
    }

    #[test]
    fn errors_name_the_words() {
        let errors: Vec<String> = [
            (Period::Daily, "on monday"),
            (Period::Monthly, "on monday"),
            (Period::Monthly, "on the 0"),
            (Period::Monthly, "on the 5-5"),
            (Period::Weekly, "on mon-mon"),
            (Period::Weekly, "on weekday-sat"),
            (Period::Weekly, "on funday"),
            (Period::Daily, "after 10pm before 5am"),
            (Period::Daily, "before 13pm"),
            (Period::Daily, "before"),
            (Period::Daily, "sometimes"),
        ]
        .map(|(period, text)| Periodic::parse(period, text).expect_err(text).to_string())
        .to_vec();
        insta::assert_snapshot!(errors.join("\n"));
    }

    /// The behaviour reference's cases of generated crontabs: hours, the field with the day and its days, and the
    /// number of days between two runs.
    #[test]
    fn crontabs_are_drawn_from_what_is_allowed() {
        let utc = chrono_tz::Tz::UTC;
        for (period, clauses, hours, day, apart) in [
            (Period::Monthly, "on the 3-7 between 8am and 4pm", 8..16, Some((3, 3..=7)), 28..=31),
            (Period::Weekly, "on mon-fri before 5am", 0..5, Some((5, 1..=5)), 7..=7),
            (Period::Daily, "after 4pm", 16..24, None, 1..=1),
        ] {
            let periodic = Periodic::parse(period, clauses).expect(clauses);
            let crontabs: BTreeSet<String> =
                (0..50).map(|number| periodic.crontab(&format!("alice/konnector/{number}"))).collect();
            assert!(crontabs.len() > 45, "{crontabs:?}");
            assert_eq!(periodic.crontab("alice/konnector/7"), periodic.crontab("alice/konnector/7"));
            for text in crontabs {
                let fields: Vec<Option<u32>> = text.split(' ').map(|field| field.parse().ok()).collect();
                let [Some(second), Some(minute), Some(hour), ..] = *fields.as_slice() else { panic!("{text}") };
                assert!(second < 60 && minute < 60 && hours.contains(&hour), "{text}");
                assert_eq!(text.matches('*').count(), if day.is_some() { 2 } else { 3 }, "{text}");
                if let Some((field, days)) = &day {
                    assert!(days.contains(&fields[*field].expect("a day")), "{text}");
                }
                let crontab: crate::Crontab = text.parse().expect("a crontab");
                let first = crontab.next("2026-11-20T12:00:00Z".parse().expect("a date"), utc).expect("a run");
                let second = crontab.next(first, utc).expect("a run");
                assert!(apart.contains(&(second - first).num_days()), "{text}");
            }
        }
        let hourly = Periodic::parse(Period::Hourly, "between 8am and 6pm").expect("valid").crontab("seed");
        assert!(hourly.ends_with(" 8-17 * * *"), "{hourly}");
    }
}
