//! The fields of a crontab. They are expanded here to plain lists, because the `cron` crate counts Sunday as 1 and
//! requires both day fields to match, whereas cron(5) and Cozy count it as 0 and match if either does.

use chrono::{Datelike as _, NaiveDate, NaiveTime, Timelike as _};

use super::CrontabError;

/// Name, first and last value, and names of the values.
struct FieldSpec {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const SECOND: FieldSpec = FieldSpec { name: "second", first: 0, last: 59, names: &[] };
const MINUTE: FieldSpec = FieldSpec { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: FieldSpec = FieldSpec { name: "hour", first: 0, last: 23, names: &[] };
const DAY_OF_MONTH: FieldSpec = FieldSpec { name: "day of month", first: 1, last: 31, names: &[] };
const MONTH: FieldSpec = FieldSpec { name: "month", first: 1, last: 12, names: &MONTHS };
const DAY_OF_WEEK: FieldSpec = FieldSpec { name: "day of week", first: 0, last: 6, names: &DAYS };

/// The values of one field.
#[derive(Debug, Clone)]
struct Field {
    values: Vec<u32>,
    /// Whether the field is `*` or `*/1`, which the rule for the two day fields needs (robfig/cron v3, `getRange`: only
    /// a step above 1 ends the star).
    is_star: bool,
    /// Whether the field is `*` or a step through all values, such as `*/5`.
    is_wildcard: bool,
}

impl Field {
    fn to_list(&self, shift: u32) -> String {
        if self.is_star {
            return "*".to_owned();
        }
        self.values.iter().map(|value| (value + shift).to_string()).collect::<Vec<_>>().join(",")
    }

    fn contains(&self, value: u32) -> bool {
        self.values.binary_search(&value).is_ok()
    }

    fn count_below(&self, value: u32) -> u64 {
        self.values.partition_point(|own| *own < value) as u64
    }

    fn count(&self) -> u64 {
        self.values.len() as u64
    }
}

/// The six fields of a crontab, from second to day of week.
#[derive(Debug, Clone)]
pub struct Fields {
    second: Field,
    minute: Field,
    hour: Field,
    day_of_month: Field,
    month: Field,
    day_of_week: Field,
}

impl Fields {
    pub fn parse(text: &str) -> Result<Self, CrontabError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [second, minute, hour, day_of_month, month, day_of_week] = match *words.as_slice() {
            [minute, hour, day_of_month, month, day_of_week] => ["0", minute, hour, day_of_month, month, day_of_week],
            [second, minute, hour, day_of_month, month, day_of_week] => {
                [second, minute, hour, day_of_month, month, day_of_week]
            }
            _ => {
                return Err(CrontabError(format!(
                    "'{text}' has {} fields; expected 5, or 6 with the seconds first",
                    words.len()
                )));
            }
        };
        let fields = Self {
            second: SECOND.parse(second)?,
            minute: MINUTE.parse(minute)?,
            hour: HOUR.parse(hour)?,
            day_of_month: DAY_OF_MONTH.parse(day_of_month)?,
            month: MONTH.parse(month)?,
            day_of_week: DAY_OF_WEEK.parse(day_of_week)?,
        };
        if !fields.is_ever_due() {
            return Err(CrontabError(format!(
                "'{text}' is never due: none of its months has any of its days; check day of month and month"
            )));
        }
        Ok(fields)
    }

    /// Returns whether any day satisfies the crontab, including 29 February.
    fn is_ever_due(&self) -> bool {
        // A day of the week occurs in every month, whether it suffices or is a further condition.
        let either = !self.day_of_month.is_star && !self.day_of_week.is_star;
        let first = self.day_of_month.values.first().copied().unwrap_or(u32::MAX);
        either || self.month.values.iter().any(|month| first <= max_days(*month))
    }

    /// Returns the crontab as expressions of the `cron` crate: two if either day field suffices.
    pub fn expressions(&self) -> Vec<String> {
        let time = format!("{} {} {}", self.second.to_list(0), self.minute.to_list(0), self.hour.to_list(0));
        let month = self.month.to_list(0);
        let (dom, dow) = (self.day_of_month.to_list(0), self.day_of_week.to_list(1));
        if self.day_of_month.is_star || self.day_of_week.is_star {
            vec![format!("{time} {dom} {month} {dow}")]
        } else {
            vec![format!("{time} {dom} {month} *"), format!("{time} * {month} {dow}")]
        }
    }

    /// Returns whether the crontab follows elapsed hours, rather than naming some.
    pub fn follows_hours(&self) -> bool {
        self.hour.is_wildcard && self.hour.values.len() > 1
    }

    /// Returns whether a day matches.
    pub fn has_day(&self, day: NaiveDate) -> bool {
        let (dom, dow) =
            (self.day_of_month.contains(day.day()), self.day_of_week.contains(day.weekday().num_days_from_sunday()));
        let either = !self.day_of_month.is_star && !self.day_of_week.is_star;
        self.month.contains(day.month()) && if either { dom || dow } else { dom && dow }
    }

    /// Returns whether a time of day matches.
    pub fn has_time(&self, time: NaiveTime) -> bool {
        self.hour.contains(time.hour()) && self.minute.contains(time.minute()) && self.second.contains(time.second())
    }

    /// Counts the matching times of day up to and including this one.
    pub fn count_times_up_to(&self, time: NaiveTime) -> u64 {
        let mut count = self.hour.count_below(time.hour()) * self.minute.count() * self.second.count();
        if self.hour.contains(time.hour()) {
            count += self.minute.count_below(time.minute()) * self.second.count();
            if self.minute.contains(time.minute()) {
                count += self.second.count_below(time.second() + 1);
            }
        }
        count
    }
}

/// Returns the days of a month, in a leap year.
const fn max_days(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl FieldSpec {
    fn parse(&self, text: &str) -> Result<Field, CrontabError> {
        let mut values = std::collections::BTreeSet::new();
        let (mut star, mut wild) = (false, false);
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                None => (part, None),
                Some((range, step)) => match step.parse::<u32>() {
                    Ok(step) if step > 0 => (range, Some(step)),
                    _ => return Err(self.error(part, "the step after / is not a whole number of at least 1")),
                },
            };
            let (first, last) = if range == "*" || range == "?" {
                star |= step.is_none_or(|step| step == 1);
                wild = true;
                (self.first, self.last)
            } else if let Some((first, last)) = range.split_once('-') {
                (self.parse_value(first)?, self.parse_value(last)?)
            } else {
                let value = self.parse_value(range)?;
                (value, if step.is_some() { self.last } else { value })
            };
            if first > last {
                return Err(self.error(part, "the range begins after its end"));
            }
            values.extend((first..=last).step_by(step.unwrap_or(1) as usize));
        }
        Ok(Field { values: values.into_iter().collect(), is_star: star, is_wildcard: wild })
    }

    fn parse_value(&self, text: &str) -> Result<u32, CrontabError> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().zip(self.first..).find(|(name, _)| **name == lower).map(|(_, value)| value);
        match named.or_else(|| text.parse().ok()) {
            Some(value) if (self.first..=self.last).contains(&value) => Ok(value),
            _ => Err(self.error(
                text,
                &format!(
                    "use {} to {}{}",
                    self.first,
                    self.last,
                    if self.names.is_empty() { "" } else { " or a name" }
                ),
            )),
        }
    }

    fn error(&self, part: &str, hint: &str) -> CrontabError {
        CrontabError(format!("'{part}' is not a valid {}: {hint}", self.name))
    }
}
