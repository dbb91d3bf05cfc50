//! Limits the cost of one query. Selectors and documents come from clients, and matching may take time in proportion to
//! the product of their sizes. So work is counted as it is done, and a query that needs too much is aborted.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::QueryError;

/// Maximum units of work of one query; one unit is about the work of reading a byte. Matching a million documents
/// against a selector of a few fields takes a tenth of it.
const MAX_WORK: u64 = 1 << 33;
/// Maximum duration of a query; the whole request has 30 s.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Units of work between two checks of the clock, which take a few milliseconds.
const CLOCK_INTERVAL: u64 = 1 << 22;
/// Minimum cost of a comparison, even of small values.
const MIN_COMPARISON_WORK: u64 = 32;
/// Maximum steps of a regular expression on one string. They cannot be interrupted, and take about a second at worst.
const MAX_REGEX_STEPS: u64 = 1 << 28;

/// Remaining budget of a query.
#[derive(Debug)]
pub struct QueryBudget {
    remaining_work: u64,
    work_until_clock_check: u64,
    deadline: Instant,
}

impl Default for QueryBudget {
    /// Creates the budget of a query that starts now.
    fn default() -> Self {
        Self::new(MAX_WORK, MAX_TIME)
    }
}

impl QueryBudget {
    pub(super) fn new(work: u64, time: Duration) -> Self {
        Self { remaining_work: work, work_until_clock_check: CLOCK_INTERVAL, deadline: Instant::now() + time }
    }

    /// Counts work that is about to be done.
    ///
    /// # Errors
    ///
    /// [`QueryError::TooExpensive`] if the budget is exceeded.
    pub(super) fn spend(&mut self, work: u64) -> Result<(), QueryError> {
        self.remaining_work = self.remaining_work.checked_sub(work).ok_or(QueryError::TooExpensive)?;
        if let Some(remaining) = self.work_until_clock_check.checked_sub(work) {
            self.work_until_clock_check = remaining;
            return Ok(());
        }
        self.check_clock()
    }

    /// Counts a comparison with a value.
    pub(super) fn spend_comparison(&mut self, expected: &Value) -> Result<(), QueryError> {
        self.spend(comparison_work(expected))
    }

    /// Counts a search with a regular expression that takes at most `states` steps per byte.
    pub(super) fn spend_search(&mut self, text: &str, states: u64) -> Result<(), QueryError> {
        if (text.len() as u64).saturating_mul(states) > MAX_REGEX_STEPS {
            return Err(QueryError::TooExpensive);
        }
        // Most searches take a few steps per byte; checking the clock catches the others.
        self.spend(MIN_COMPARISON_WORK + text.len() as u64 * 4)
    }

    /// Checks the clock; call it between two documents, each of which may take long to read.
    ///
    /// # Errors
    ///
    /// [`QueryError::TooExpensive`] if the query has taken too long.
    pub fn check_clock(&mut self) -> Result<(), QueryError> {
        self.work_until_clock_check = CLOCK_INTERVAL;
        if Instant::now() > self.deadline { Err(QueryError::TooExpensive) } else { Ok(()) }
    }
}

/// Returns the maximum cost of a comparison with a value, for any other value.
fn comparison_work(value: &Value) -> u64 {
    MIN_COMPARISON_WORK
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len() as u64,
            Value::Array(items) => items.iter().map(comparison_work).sum(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| name.len() as u64 + comparison_work(value)).sum()
            }
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_time_have_an_end() {
        let mut little = QueryBudget::new(100, MAX_TIME);
        little.spend(100).expect("that much is there");
        assert_eq!(little.spend(1), Err(QueryError::TooExpensive));

        let mut late = QueryBudget::new(u64::MAX, Duration::ZERO);
        assert_eq!(late.check_clock(), Err(QueryError::TooExpensive));
        assert_eq!(late.spend(CLOCK_INTERVAL + 1), Err(QueryError::TooExpensive));
    }

    #[test]
    fn a_search_that_cannot_be_interrupted_is_short() {
        let mut cost = QueryBudget::default();
        cost.spend_search(&"x".repeat(1_000), 1_000).expect("short");
        assert_eq!(cost.spend_search(&"x".repeat(1_000_000), 1_000), Err(QueryError::TooExpensive));
    }
}
