//! Durations as Go writes them, which is how Cozy's API writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest: a hundred years, so that no date overflows.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A duration of numbers with a unit, one after the other, for example `1h30m` or `1.5s`; in whole seconds, at least one. It keeps its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GoDuration {
    text: String,
    value: Duration,
}

impl GoDuration {
    /// Its length.
    #[must_use]
    pub const fn value(&self) -> Duration {
        self.value
    }
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no duration; write numbers with units, for example 1h30m or 90s, a hundred years at the most")]
pub struct DurationError(String);

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let seconds = seconds(text.trim()).map(f64::round);
        let value = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match value.filter(|value| *value <= LONGEST) {
            Some(value) => Ok(Self { text: text.trim().to_owned(), value: value.max(Duration::from_secs(1)) }),
            None => Err(DurationError(text.to_owned())),
        }
    }
}

fn seconds(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() || text.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len()));
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    Some(seconds)
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
    fn durations_are_those_of_go_in_whole_seconds() {
        for (text, seconds) in
            [("1h30m", 5_400), ("1.5h", 5_400), ("90s", 90), ("500ms", 1), ("1ns", 1), ("2m0.4s", 120)]
        {
            assert_eq!(text.parse::<GoDuration>().map(|read| read.value().as_secs()), Ok(seconds), "{text}");
        }
        for wrong in ["", " ", "soon", "10", "1d", "1h x", "-5s", "1.2.3s", "s", "999999999999h"] {
            assert!(wrong.parse::<GoDuration>().is_err(), "{wrong}");
        }
    }
}
