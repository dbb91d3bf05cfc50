//! Durations in Go's format, which Cozy's API uses.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Maximum duration: a hundred years, so that no date overflows.
const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 86_400);
/// Nanoseconds per second.
const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// Number of significant digits after the decimal point: a nanosecond is the 13th digit of an hour.
const MAX_FRACTION_DIGITS: usize = 18;

/// A duration of numbers with a unit, one after the other, for example `1h30m` or `1.5s`; exact to the nanosecond, as
/// in Go. It preserves its original text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GoDuration {
    text: String,
    value: Duration,
}

impl GoDuration {
    /// Returns the length of the duration.
    #[must_use]
    pub const fn as_duration(&self) -> Duration {
        self.value
    }
}

/// Why a string is not a valid duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a valid duration; write numbers with units, for example 1h30m or 90s, at most 100 years")]
pub struct DurationError(String);

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let text = text.trim();
        match parse_nanoseconds(text).and_then(from_nanoseconds).filter(|value| *value <= MAX_DURATION) {
            Some(value) => Ok(Self { text: text.to_owned(), value }),
            None => Err(DurationError(text.to_owned())),
        }
    }
}

fn from_nanoseconds(nanoseconds: u128) -> Option<Duration> {
    let seconds = u64::try_from(nanoseconds / NANOS_PER_SECOND).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanoseconds % NANOS_PER_SECOND).ok()?))
}

fn parse_nanoseconds(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut sum = 0_u128;
    while !rest.is_empty() || text.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len()));
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => NANOS_PER_SECOND,
            "m" => 60 * NANOS_PER_SECOND,
            "h" => 3_600 * NANOS_PER_SECOND,
            _ => return None,
        };
        sum = sum.checked_add(multiply(number, unit)?)?;
        rest = tail;
    }
    Some(sum)
}

/// Multiplies a decimal number by a unit; fractions of a nanosecond are cut off, as in Go.
fn multiply(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    // Further digits are less than a nanosecond of an hour.
    let fraction = fraction.get(..MAX_FRACTION_DIGITS).filter(|_| all_digits(fraction)).unwrap_or(fraction);
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    digits(whole)?.checked_mul(unit)?.checked_add(digits(fraction)?.checked_mul(unit)? / scale)
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl TryFrom<String> for GoDuration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl From<GoDuration> for String {
    fn from(duration: GoDuration) -> Self {
        duration.text
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, nanoseconds) in [
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("90s", 90_000_000_000),
            ("2500ms", 2_500_000_000),
            ("1ns", 1),
            ("0s", 0),
            ("1µs1us", 2_000),
            ("2m0.4s", 120_400_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("0.1s", 100_000_000),
            ("1.0000000019s", 1_000_000_001),
            ("0.00000000000000000000000000000000000001h", 0),
            ("878400h", 3_162_240_000_000_000_000),
        ] {
            assert_eq!(text.parse::<GoDuration>().map(|read| read.as_duration().as_nanos()), Ok(nanoseconds), "{text}");
        }
        for wrong in ["", " ", "soon", "10", "1d", "1h x", "-5s", "1.2.3s", "s", ".s", "999999999999h", "878400h1ns"] {
            assert!(wrong.parse::<GoDuration>().is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        /// Accepted durations are not rounded, and whole numbers of a unit are exact.
        #[test]
        fn whole_numbers_are_exact(hours in 0..1_000_u64, seconds in 0..100_000_u64, millis in 0..100_000_u64, nanos in 0..u64::from(u32::MAX)) {
            let text = format!("{hours}h{seconds}s{millis}ms{nanos}ns");
            let expected = Duration::from_secs(hours * 3_600 + seconds) + Duration::from_millis(millis) + Duration::from_nanos(nanos);
            proptest::prop_assert_eq!(text.parse::<GoDuration>().map(|read| read.as_duration()), Ok(expected));
        }
    }
}
