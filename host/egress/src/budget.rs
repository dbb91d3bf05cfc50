//! Network budget of a run.

use std::sync::atomic::{AtomicU64, Ordering};

use konnector_manifest::Limit;
use serde::{Deserialize, Serialize};

use super::error::HttpError;

/// Limits of one run. Denied attempts and every hop of a redirect count as requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpBudget {
    /// Number of requests.
    pub requests: u64,
    /// Number of bytes sent: request lines, headers and bodies.
    pub bytes_up: u64,
    /// Number of bytes received: headers, and bodies after decompression.
    pub bytes_down: u64,
    /// Maximum number of bytes of one decoded body that [`Session::send`](super::Session::send) returns.
    pub body_limit: u64,
}

impl Default for HttpBudget {
    fn default() -> Self {
        let default = |limit: Limit| limit.default_value().saturating_mul(limit.unit().scale());
        Self {
            requests: default(Limit::Requests),
            bytes_up: default(Limit::Upload),
            bytes_down: default(Limit::Download),
            body_limit: default(Limit::Body),
        }
    }
}

/// Maximum number of placeholder replacements per run. A token in a header accompanies every request, and large runs
/// send about ten thousand; a run that needs more is probing how a vendor displays a secret.
pub const MAX_SUBSTITUTIONS: u64 = 20_000;

/// Usage counted against a budget. A charge that does not fit is not booked, so a smaller one may still fit.
#[derive(Debug)]
pub(super) struct Meter {
    budget: HttpBudget,
    requests: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    substitutions: AtomicU64,
}

impl Meter {
    pub(super) fn new(budget: HttpBudget) -> Self {
        let none = || AtomicU64::new(0);
        Self { budget, requests: none(), bytes_up: none(), bytes_down: none(), substitutions: none() }
    }

    pub(super) fn budget(&self) -> &HttpBudget {
        &self.budget
    }

    pub(super) fn count_request(&self) -> Result<(), HttpError> {
        charge(&self.requests, 1, self.budget.requests, "requests")
    }

    pub(super) fn count_sent(&self, bytes: u64) -> Result<(), HttpError> {
        charge(&self.bytes_up, bytes, self.budget.bytes_up, "bytes to send")
    }

    pub(super) fn count_substitutions(&self, count: u64) -> Result<(), HttpError> {
        charge(&self.substitutions, count, MAX_SUBSTITUTIONS, "placeholder replacements")
    }

    pub(super) fn count_received(&self, bytes: u64) -> Result<(), HttpError> {
        charge(&self.bytes_down, bytes, self.budget.bytes_down, "bytes to receive")
    }
}

fn charge(used: &AtomicU64, amount: u64, limit: u64, unit: &str) -> Result<(), HttpError> {
    // The counter guards no other data, so no ordering with other memory is needed.
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(amount).filter(|sum| *sum <= limit))
        .map(|_| ())
        .map_err(|_| HttpError::QuotaExceeded(format!("the run's budget of {limit} {unit} is exhausted")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_can_be_used_up_exactly() {
        let meter = Meter::new(HttpBudget { requests: 2, bytes_up: 10, bytes_down: u64::MAX, body_limit: 0 });
        meter.count_request().unwrap();
        meter.count_request().unwrap();
        insta::assert_snapshot!(meter.count_request().unwrap_err(), @"the run's budget of 2 requests is exhausted");
        meter.count_sent(9).unwrap();
        insta::assert_snapshot!(meter.count_sent(2).unwrap_err(), @"the run's budget of 10 bytes to send is exhausted");
        meter.count_sent(1).unwrap();
        meter.count_substitutions(MAX_SUBSTITUTIONS).unwrap();
        insta::assert_snapshot!(meter.count_substitutions(1).unwrap_err(), @"the run's budget of 20000 placeholder replacements is exhausted");
        meter.count_received(u64::MAX).unwrap();
        assert!(meter.count_received(1).is_err(), "the counter does not wrap around");
    }
}
