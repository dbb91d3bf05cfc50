//! Expiration of cookies (RFC 6265 §5.1.1, §5.2.1, §5.2.2).

use cookie_store::CookieExpiration;
use time::{Date, Month, OffsetDateTime, Time};

/// Returns the expiration given by the attributes of a `Set-Cookie` line: `Max-Age` takes precedence over `Expires`,
/// and the last valid one of each counts.
pub(super) fn expiration(line: &str) -> CookieExpiration {
    let (mut max_age, mut expires) = (None, None);
    for attribute in line.split(';').skip(1) {
        let Some((name, value)) = attribute.split_once('=') else { continue };
        let (name, value) = (name.trim_matches([' ', '\t']), value.trim_matches([' ', '\t']));
        if name.eq_ignore_ascii_case("max-age") {
            max_age = seconds(value).or(max_age);
        } else if name.eq_ignore_ascii_case("expires") {
            expires = cookie_date(value).or(expires);
        }
    }
    match (max_age, expires) {
        (Some(0), _) => CookieExpiration::from(OffsetDateTime::UNIX_EPOCH),
        (Some(seconds), _) => CookieExpiration::from(seconds),
        (None, Some(moment)) => CookieExpiration::from(moment),
        (None, None) => CookieExpiration::SessionEnd,
    }
}

/// Returns the seconds of a `Max-Age`, or zero for a negative number.
fn seconds(value: &str) -> Option<u64> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number that is too large means the longest possible time.
    Some(if digits.len() < value.len() { 0 } else { digits.parse().unwrap_or(u64::MAX) })
}

/// Parses a `cookie-date`: a time, a day of the month, a month and a year in any order, with any text around them.
fn cookie_date(text: &str) -> Option<OffsetDateTime> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.as_bytes().split(|byte| is_delimiter(*byte)).filter(|token| !token.is_empty()) {
        // The first of each kind counts, and a token is tried as the first kind that is still missing.
        if time.is_none() {
            time = hms_time(token);
            if time.is_some() {
                continue;
            }
        }
        if day.is_none() {
            day = number(token, 1..=2);
            if day.is_some() {
                continue;
            }
        }
        if month.is_none() {
            month = month_of(token);
            if month.is_some() {
                continue;
            }
        }
        if year.is_none() {
            year = number(token, 2..=4);
        }
    }
    let (hour, minute, second) = time?;
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    if year < 1601 {
        return None;
    }
    let small = |number: u16| u8::try_from(number).ok();
    let date = Date::from_calendar_date(i32::from(year), month?, small(day?)?).ok()?;
    let time = Time::from_hms(small(hour)?, small(minute)?, small(second)?).ok()?;
    Some(date.with_time(time).assume_utc())
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// Parses `hms-time`: three numbers of one or two digits, the last followed by anything but a digit.
fn hms_time(token: &[u8]) -> Option<(u16, u16, u16)> {
    let mut fields = token.splitn(3, |byte| *byte == b':');
    let mut whole = || {
        let field = fields.next()?;
        number(field, 1..=2).filter(|_| field.iter().all(u8::is_ascii_digit))
    };
    let (hour, minute) = (whole()?, whole()?);
    Some((hour, minute, number(fields.next()?, 1..=2)?))
}

/// Parses as many leading digits of a token as `lengths` allows, followed by anything but a digit.
fn number(token: &[u8], lengths: std::ops::RangeInclusive<usize>) -> Option<u16> {
    let length = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    lengths.contains(&length).then(|| std::str::from_utf8(token.get(..length)?).ok()?.parse().ok())?
}

fn month_of(token: &[u8]) -> Option<Month> {
    const MONTHS: [&[u8]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let name = token.get(..3)?;
    let index = MONTHS.iter().position(|month| name.eq_ignore_ascii_case(month))?;
    Month::try_from(u8::try_from(index + 1).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(text: &str) -> Option<i64> {
        cookie_date(text).map(OffsetDateTime::unix_timestamp)
    }

    #[test]
    fn the_forms_of_servers_are_read() {
        for text in [
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 1 Jan 1970 00:00:00 GMT",
            "Thursday, 01-Jan-70 00:00:00 GMT",
            "Thu, 01-Jan-1970 00:00:00 GMT",
            "Thu Jan  1 00:00:00 1970",
            "Thu Jan 01 1970 00:00:00 GMT+0000 (UTC)",
            "1970 01 jan 0:0:0",
            "01 January 1970 00:00:00",
            "00:00:00 1 Jan 70",
            "1;Jan;1970;00:00:00",
            "Thu, 01 Jan 1970 00:00:00",
            "Thu, 01 Jan 1970 00:00:00.000Z",
            "1st Janissary 1970th 00:00:00x",
            "Xyz, 01 Jan 1970 00:00:00 +0200",
        ] {
            assert_eq!(stamp(text), Some(0), "{text}");
        }
        assert_eq!(stamp("Sat, 05-Dec-2037 23:59:59 GMT"), Some(2_143_670_399));
        assert_eq!(stamp("1 Jan 69 0:0:0"), stamp("1 Jan 2069 0:0:0"));
    }

    #[test]
    fn invalid_dates_are_none() {
        for text in [
            "",
            "0",
            "Thu",
            "Thu, 01 Jan 1970",
            "01 Jan 00:00:00",
            "32 Jan 1970 00:00:00",
            "0 Jan 1970 00:00:00",
            "31 Feb 1970 00:00:00",
            "1 Jan 1600 00:00:00",
            "1 Jan 1970 24:00:00",
            "1 Jan 1970 00:60:00",
            "1 Jan 1970 00:00:60",
            "1 Jan 1970 000:00:00",
            "1 Jan 1970 00:00",
            "1 Jan 19700 00:00:00",
            "001 Jan 1970 00:00:00",
            "1 01 1970 00:00:00",
        ] {
            assert_eq!(stamp(text), None, "{text}");
        }
    }

    #[test]
    fn max_age_counts_before_expires_and_the_last_of_each() {
        let is_expired = |attributes: &str| expiration(&format!("a=1; {attributes}")).is_expired();
        let is_session = |attributes: &str| expiration(&format!("a=1; {attributes}")) == CookieExpiration::SessionEnd;
        let (past, future) = ("Expires=Thu, 1 Jan 1970 00:00:00 GMT", "eXpires = 1 Jan 9999 00:00:00");
        assert!(is_expired(past));
        assert!(!is_expired(future) && !is_session(future));
        assert!(is_expired(&format!("{future}; {past}")) && !is_expired(&format!("{past}; {future}")));
        assert!(is_expired(&format!("{past}; Expires=soon; Expires")));
        assert!(!is_expired(&format!("Max-Age=60; {past}")) && is_expired(&format!("max-age=-1; {future}")));
        assert!(is_expired(&format!("Max-Age=x; Max-Age=; Max-Age=+1; {past}")));
        assert!(is_expired("Max-Age=60; Max-Age=0") && !is_expired("Max-Age=0; Max-Age=60"));
        assert!(!is_expired(&format!("Max-Age={}", "9".repeat(40))));
        assert!(is_session("Path=/") && is_session("Expires=0") && is_session("Max-Age=1.5"));
    }

    proptest! {
        /// The order of the parts, their delimiters and the case of letters do not matter.
        #[test]
        fn a_date_in_any_order_is_read(
            stamp in 0_i64..3_000_000_000,
            order in Just([0, 1, 2, 3]).prop_shuffle(),
            delimiter in "[\t -/;-@\\[-`{-~]{1,3}",
        ) {
            let moment = OffsetDateTime::from_unix_timestamp(stamp).unwrap();
            let time = format!("{}:{:02}:{}", moment.hour(), moment.minute(), moment.second());
            let parts = [time, format!("{:02}", moment.day()), moment.month().to_string().to_uppercase(), moment.year().to_string()];
            let text = order.map(|part| parts[part].clone()).join(&delimiter);
            prop_assert_eq!(cookie_date(&text), Some(moment), "{}", text);
        }

        #[test]
        fn any_text_is_a_date_or_none(text in "\\PC{0,40}|([0-9:]{1,8}[ ,-]){0,5}|(jan|1|99|2026|0:0:0| ){0,8}") {
            if let Some(moment) = cookie_date(&text) {
                prop_assert!((1601..=9999).contains(&moment.year()));
            }
        }
    }
}
