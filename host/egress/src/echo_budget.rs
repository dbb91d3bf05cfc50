//! Limits how much text a guest may send together with a secret that the vendor echoes.
//!
//! Text that a guest wrote into a request is not hidden in the response ([`guess`](super::guess)). So if the vendor
//! echoes only the secret, each response reveals whether the guest's text contains the secret. Each such response is
//! charged with the bytes of that text. The account is charged, not the run, because guessing could continue in the
//! next run.
//!
//! Only a response in which a value was hidden is charged. If the guest wrote the value itself, nothing is hidden, so
//! the charge reveals nothing that the response does not show.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Duration, Instant};

use super::error::HttpError;

/// Maximum number of bytes that an account's requests may contain in addition to an echoed secret within a day. A
/// login form with its hidden fields has a few thousand; after a day, one six-digit PIN in sixteen is among the
/// guesses.
pub const MAX_ECHOED_REQUEST_BYTES: u64 = 64 << 10;

/// Time after which the charges of an account expire.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum number of accounts whose charges are stored, at about 100 bytes each.
const MAX_ACCOUNTS: usize = 10_000;

/// The budgets of all accounts of the process.
#[derive(Debug, Default)]
pub(super) struct EchoBudgets(Mutex<HashMap<String, EchoBudget>>);

impl EchoBudgets {
    /// Returns the budget of an account, or a separate one for a run without an account.
    pub(super) fn for_account(&self, account: Option<&str>) -> EchoBudget {
        let Some(account) = account else { return EchoBudget::default() };
        let mut budgets = self.0.lock();
        if let Some(budget) = budgets.get(account) {
            return budget.clone();
        }
        if budgets.len() >= MAX_ACCOUNTS {
            budgets.retain(|_, budget| Arc::strong_count(&budget.0) > 1 || budget.spent() > 0);
        }
        if budgets.len() >= MAX_ACCOUNTS {
            // Evict the account with the lowest charge.
            let lightest = budgets.iter().min_by_key(|(_, budget)| budget.spent()).map(|(account, _)| account.clone());
            lightest.and_then(|account| budgets.remove(&account));
        }
        budgets.entry(account.to_owned()).or_default().clone()
    }
}

/// Echo budget of one account. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct EchoBudget(Arc<Mutex<Option<WindowUsage>>>);

#[derive(Debug, Clone, Copy)]
struct WindowUsage {
    since: Instant,
    bytes: u64,
}

impl EchoBudget {
    fn spent(&self) -> u64 {
        let spent = *self.0.lock();
        spent.filter(|spent| spent.since.elapsed() < WINDOW).map_or(0, |spent| spent.bytes)
    }

    /// Rejects a request with these secrets if the budget is exhausted.
    pub(super) fn check(&self, secrets: &[String]) -> Result<(), HttpError> {
        if self.spent() < MAX_ECHOED_REQUEST_BYTES {
            return Ok(());
        }
        Err(HttpError::QuotaExceeded(format!(
            "the vendor repeats {} in its responses, and this account's requests contained more than \
             {MAX_ECHOED_REQUEST_BYTES} bytes besides it within 24 hours; bind the secret to the path and the field of \
             the login in the manifest, or send less alongside it",
            secrets.join(", ")
        )))
    }

    /// Prepares the charge for the response to a request with this many bytes from the guest.
    pub(super) fn charge(&self, bytes: u64) -> EchoCharge {
        EchoCharge { budget: self.clone(), bytes, applied: Arc::default() }
    }

    fn spend(&self, bytes: u64) {
        let mut guard = self.0.lock();
        let spent = guard.filter(|spent| spent.since.elapsed() < WINDOW);
        let spent = spent.unwrap_or(WindowUsage { since: Instant::now(), bytes: 0 });
        *guard = Some(WindowUsage { bytes: spent.bytes.saturating_add(bytes), ..spent });
    }
}

/// Cost of the responses to a request and its redirects if one of them echoes a secret. No byte is booked twice.
#[derive(Debug, Clone)]
pub(super) struct EchoCharge {
    budget: EchoBudget,
    bytes: u64,
    applied: Arc<AtomicU64>,
}

impl EchoCharge {
    /// Raises the charge for the next redirect, whose request contains this many bytes from the guest.
    pub(super) fn raise_to(&mut self, bytes: u64) {
        self.bytes = self.bytes.max(bytes);
    }

    /// Books the charge, because the response echoes a secret.
    pub(super) fn apply(&self) {
        // The counter guards no other data, so no ordering with other memory is needed.
        let booked = self.applied.fetch_max(self.bytes, Ordering::Relaxed);
        if self.bytes > booked {
            self.budget.spend(self.bytes - booked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_account_is_charged_for_a_day() {
        let budgets = EchoBudgets::default();
        let (budget, secrets) = (budgets.for_account(Some("a/1")), ["password".to_owned()]);
        let charge = budget.charge(MAX_ECHOED_REQUEST_BYTES - 1);
        charge.apply();
        let mut next = charge.clone();
        next.raise_to(10);
        next.apply();
        budget.check(&secrets).unwrap();
        budget.charge(1).apply();
        drop(budget);
        assert!(budgets.for_account(Some("a/1")).check(&secrets).is_err(), "the next run goes on");
        budgets.for_account(Some("a/2")).check(&secrets).unwrap();
        budgets.for_account(None).check(&secrets).unwrap();
        tokio::time::advance(WINDOW).await;
        budgets.for_account(Some("a/1")).check(&secrets).unwrap();
    }

    #[tokio::test]
    async fn the_heaviest_are_remembered() {
        let budgets = EchoBudgets::default();
        budgets.for_account(Some("heavy")).charge(MAX_ECHOED_REQUEST_BYTES).apply();
        for number in 0..MAX_ACCOUNTS + 10 {
            budgets.for_account(Some(&number.to_string())).charge(1).apply();
        }
        assert!(budgets.0.lock().len() <= MAX_ACCOUNTS);
        assert!(budgets.for_account(Some("heavy")).check(&[]).is_err());
    }
}
