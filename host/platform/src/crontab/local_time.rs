//! Between local time, which crontabs are written in, and the instants at which they are due.

use chrono::offset::Offset as _;
use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// How far apart two instants are looked at in the search for a change of the offset. No zone of the IANA database leaves an offset and
/// comes back to it within this time.
const SEARCH_STEP: TimeDelta = TimeDelta::hours(6);

/// The longest that clocks were ever set back or forward at once: a day, at the date line, and some more.
pub const MAX_OFFSET_CHANGE: TimeDelta = TimeDelta::hours(26);

/// How much local time is ahead of UTC at an instant.
pub fn offset(zone: Tz, at: DateTime<Utc>) -> TimeDelta {
    TimeDelta::seconds(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc().into())
}

/// What clocks show at an instant.
pub fn to_local(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    at.naive_utc() + offset(zone, at)
}

/// The first instant after `from`, up to and including `to`, from which on clocks go by another offset; to the second.
pub fn next_offset_change(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let before = offset(zone, from);
    let mut low = from;
    while low < to {
        let mut high = (low + SEARCH_STEP).min(to);
        if offset(zone, high) == before {
            low = high;
            continue;
        }
        while high - low > TimeDelta::seconds(1) {
            let middle = low + TimeDelta::seconds((high - low).num_seconds() / 2);
            if offset(zone, middle) == before { low = middle } else { high = middle }
        }
        return Some(high);
    }
    None
}

/// When clocks show a time: the first time where they show it twice, and where they skip it the first instant after the gap.
pub fn first_occurrence(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    let around = local.and_utc();
    let exact = zone.from_local_datetime(&local).earliest().map(|exact| exact.with_timezone(&Utc));
    exact.or_else(|| end_of_gap(zone, local)).unwrap_or(around)
}

fn end_of_gap(zone: Tz, local_time: NaiveDateTime) -> Option<DateTime<Utc>> {
    let around = local_time.and_utc();
    let mut from = around - MAX_OFFSET_CHANGE * 2;
    while let Some(end) = next_offset_change(zone, from, around + MAX_OFFSET_CHANGE * 2) {
        if to_local(zone, end) > local_time {
            return Some(end);
        }
        from = end;
    }
    None
}
