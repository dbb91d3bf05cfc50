//! Counts the instants of a crontab in a time span without iterating over them, because a server that was down for a
//! month must count each one.

use chrono::{DateTime, NaiveDateTime, NaiveTime, SubsecRound as _, TimeDelta, Utc};
use chrono_tz::Tz;

use super::Crontab;
use super::local_time::{MAX_OFFSET_CHANGE, next_offset_change, to_local};

impl Crontab {
    /// Counts the instants after `after`, up to and including `until`.
    #[must_use]
    pub fn count(&self, after: DateTime<Utc>, until: DateTime<Utc>, zone: Tz) -> u64 {
        let zone = self.zone.unwrap_or(zone);
        let (mut from, until) = (after.trunc_subsecs(0), until.trunc_subsecs(0));
        let mut count = 0;
        while from < until {
            // Local time advances evenly until the offset changes. Near a change, at most a fixed span is iterated
            // over.
            let looked_at = if self.is_wildcard { from } else { from - MAX_OFFSET_CHANGE };
            let change = next_offset_change(zone, looked_at, until);
            let even = change.map_or(until, |change| (change - TimeDelta::seconds(1)).max(from));
            if even > from {
                count += self.count_local(to_local(zone, from), to_local(zone, even));
            }
            from = match change {
                None => return count,
                Some(change) if self.is_wildcard => {
                    let first = self.matches_local(to_local(zone, change));
                    count += u64::from(first);
                    change
                }
                Some(change) => {
                    let end = (change + MAX_OFFSET_CHANGE).min(until);
                    count += self.count_one_by_one(even, end, zone);
                    end
                }
            };
        }
        count
    }

    /// Returns the newest instants after `after`, up to and including `until`, at most `most` of them, oldest first.
    #[must_use]
    pub fn newest(&self, most: u64, after: DateTime<Utc>, until: DateTime<Utc>, zone: Tz) -> Vec<DateTime<Utc>> {
        let (mut low, mut high) = (after.trunc_subsecs(0), until.trunc_subsecs(0));
        if self.count(low, until, zone) > most {
            // Invariant: more than `most` are after `low`, no more than that after `high`.
            while high - low > TimeDelta::seconds(1) {
                let middle = low + TimeDelta::seconds((high - low).num_seconds() / 2);
                if self.count(middle, until, zone) > most { low = middle } else { high = middle }
            }
            low = high;
        }
        let next = |instant: &DateTime<Utc>| self.next(*instant, zone).filter(|next| *next <= until);
        std::iter::successors(next(&low), next).collect()
    }

    fn count_one_by_one(&self, after: DateTime<Utc>, until: DateTime<Utc>, zone: Tz) -> u64 {
        let next = |instant: &DateTime<Utc>| self.next(*instant, zone).filter(|next| *next <= until);
        std::iter::successors(next(&after), next).map(|_| 1).sum()
    }

    fn matches_local(&self, local: NaiveDateTime) -> bool {
        self.fields.has_day(local.date()) && self.fields.has_time(local.time())
    }

    /// Counts how often evenly running clocks show a time of this crontab, after `after` up to and including `until`.
    fn count_local(&self, after: NaiveDateTime, until: NaiveDateTime) -> u64 {
        let up_to = |moment: NaiveDateTime| {
            if self.fields.has_day(moment.date()) { self.fields.count_times_up_to(moment.time()) } else { 0 }
        };
        let whole_days = after.date().iter_days().take_while(|day| *day < until.date());
        let days: u64 = whole_days.filter(|day| self.fields.has_day(*day)).map(|_| 1).sum();
        days * self.fields.count_times_up_to(END_OF_DAY) + up_to(until) - up_to(after)
    }
}

/// The last second of a day.
const END_OF_DAY: NaiveTime = match NaiveTime::from_hms_opt(23, 59, 59) {
    Some(time) => time,
    None => NaiveTime::MIN,
};
