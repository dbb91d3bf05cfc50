//! The in-process handle of a vendor. The control API under `/_control` makes the same calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bill::{Bill, NewBill};
use crate::counters::Counters;
use crate::options::VendorOptions;
use crate::pdf;
use crate::site::BankSite;
use crate::switches::Switches;

/// Sets the switches of a vendor and reads its counters. Clones share the vendor.
#[derive(Debug, Clone)]
pub struct Control {
    site: Arc<Mutex<BankSite>>,
}

/// The switches and their effects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The switches.
    #[serde(flatten)]
    pub switches: Switches,
    /// Whether the account is locked now.
    pub locked: bool,
    /// The one-time code that the newest login waits for: the code on the customer's telephone.
    pub code: Option<String>,
}

impl Control {
    pub(crate) fn new(options: VendorOptions) -> Self {
        Self { site: Arc::new(Mutex::new(BankSite::new(options))) }
    }

    /// Locks the state of the site. The guard is never held across an await.
    pub(crate) fn site(&self) -> MutexGuard<'_, BankSite> {
        // Nothing panics under the lock; if a handler did, the demo should continue instead of responding to every
        // page with an error.
        self.site.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the switches and their effects.
    pub fn state(&self) -> State {
        let site = self.site();
        State { switches: site.switches.clone(), locked: site.is_locked(), code: site.sessions.pending_code() }
    }

    /// Sets switches: `control.set(|switches| switches.maintenance = true)`.
    pub fn set(&self, change: impl FnOnce(&mut Switches)) {
        let mut site = self.site();
        let mut switches = site.switches.clone();
        change(&mut switches);
        site.set(switches);
    }

    /// Returns the one-time code that the newest login waits for.
    pub fn code(&self) -> Option<String> {
        self.site().sessions.pending_code()
    }

    /// Returns the counters of the vendor.
    pub fn counters(&self) -> Counters {
        self.site().counters.clone()
    }

    /// Returns all bills, oldest first.
    pub fn bills(&self) -> Vec<Bill> {
        self.site().ledger.all().to_vec()
    }

    /// Adds a bill; `NewBill::default()` adds the bill of the next month.
    pub fn add_bill(&self, new: NewBill) -> Bill {
        self.site().ledger.add(new)
    }

    /// Returns the bytes of a bill's PDF, exactly as the site serves them; `None` if the bill does not exist.
    pub fn pdf(&self, reference: &str) -> Option<Vec<u8>> {
        let bill = self.site().ledger.find(reference)?.clone();
        Some(pdf::render(&bill))
    }

    /// Ends every session, as a vendor does overnight, so existing cookies become invalid.
    pub fn end_sessions(&self) {
        self.site().sessions.end_all();
    }

    /// Resets everything to its initial state: switches, bills, counters; no sessions, not locked.
    pub fn reset(&self) {
        self.site().reset();
    }
}
