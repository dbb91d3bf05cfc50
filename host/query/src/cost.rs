//! What one query may cost. Selectors and documents come from clients, and what a selector asks of a document may take the product of their
//! sizes; so work is counted while it is done, and a query that needs too much of it ends.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::QueryError;

/// Units of work of one query, each about as much as looking at a byte. Comparing a million documents with a selector of a few members takes a
/// tenth of it.
const MAX_WORK: u64 = 1 << 33;
/// How long a query may take; the whole request has 30 s.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Units of work between two looks at the clock: a few milliseconds.
const CLOCK_INTERVAL: u64 = 1 << 22;
/// What a comparison costs, however small the values are.
const COMPARISON: u64 = 32;
/// Steps of a regular expression in one text. They cannot be interrupted, and take about a second at worst.
const MAX_STEPS: u64 = 1 << 28;

/// What is left of it.
#[derive(Debug)]
pub struct Cost {
    work: u64,
    until_clock: u64,
    until: Instant,
}

impl Default for Cost {
    /// That of one query, which begins now.
    fn default() -> Self {
        Self::new(MAX_WORK, MAX_TIME)
    }
}

impl Cost {
    pub(super) fn new(work: u64, time: Duration) -> Self {
        Self { work, until_clock: CLOCK_INTERVAL, until: Instant::now() + time }
    }

    /// Counts work that is about to be done.
    ///
    /// # Errors
    ///
    /// [`QueryError::TooExpensive`] when it is too much.
    pub(super) fn spend(&mut self, work: u64) -> Result<(), QueryError> {
        self.work = self.work.checked_sub(work).ok_or(QueryError::TooExpensive)?;
        if let Some(left) = self.until_clock.checked_sub(work) {
            self.until_clock = left;
            return Ok(());
        }
        self.check_clock()
    }

    /// Counts a comparison with a value.
    pub(super) fn spend_comparison(&mut self, wanted: &Value) -> Result<(), QueryError> {
        self.spend(weight(wanted))
    }

    /// Counts a search of a regular expression that takes `states` steps for each byte at worst.
    pub(super) fn spend_search(&mut self, text: &str, states: u64) -> Result<(), QueryError> {
        if (text.len() as u64).saturating_mul(states) > MAX_STEPS {
            return Err(QueryError::TooExpensive);
        }
        // Most searches take a few steps for each byte; the clock sees the others.
        self.spend(COMPARISON + text.len() as u64 * 4)
    }

    /// Looks at the clock; to be called between two documents, each of which may take long to read.
    ///
    /// # Errors
    ///
    /// [`QueryError::TooExpensive`] when the query has taken too long.
    pub fn check_clock(&mut self) -> Result<(), QueryError> {
        self.until_clock = CLOCK_INTERVAL;
        if Instant::now() > self.until { Err(QueryError::TooExpensive) } else { Ok(()) }
    }
}

/// What a comparison with a value costs at most, whatever the other one is.
fn weight(value: &Value) -> u64 {
    COMPARISON
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len() as u64,
            Value::Array(items) => items.iter().map(weight).sum(),
            Value::Object(members) => members.iter().map(|(name, value)| name.len() as u64 + weight(value)).sum(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_time_have_an_end() {
        let mut little = Cost::new(100, MAX_TIME);
        little.spend(100).expect("that much is there");
        assert_eq!(little.spend(1), Err(QueryError::TooExpensive));

        let mut late = Cost::new(u64::MAX, Duration::ZERO);
        assert_eq!(late.check_clock(), Err(QueryError::TooExpensive));
        assert_eq!(late.spend(CLOCK_INTERVAL + 1), Err(QueryError::TooExpensive));
    }

    #[test]
    fn a_search_that_cannot_be_interrupted_is_short() {
        let mut cost = Cost::default();
        cost.spend_search(&"x".repeat(1_000), 1_000).expect("short");
        assert_eq!(cost.spend_search(&"x".repeat(1_000_000), 1_000), Err(QueryError::TooExpensive));
    }
}
