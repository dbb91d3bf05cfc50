//! Conversion between local time, in which crontabs are written, and the instants at which they are due.

use chrono::offset::Offset as _;
use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// Distance between the instants that are compared when searching for an offset change. No zone of the IANA database
/// leaves an offset and comes back to it within this time.
const SEARCH_STEP: TimeDelta = TimeDelta::hours(6);

/// Largest clock change that ever happened at once (a day, at the date line), plus a margin.
pub const MAX_OFFSET_CHANGE: TimeDelta = TimeDelta::hours(26);

/// Returns how far local time is ahead of UTC at an instant.
pub fn offset(zone: Tz, at: DateTime<Utc>) -> TimeDelta {
    TimeDelta::seconds(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc().into())
}

/// Returns the local time at an instant.
pub fn to_local(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    at.naive_utc() + offset(zone, at)
}

/// Returns the first instant after `from`, up to and including `to`, from which clocks use another offset, to the
/// second.
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

/// Returns when clocks show a time: the first time if they show it twice, or the first instant after the gap if they
/// skip it.
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
