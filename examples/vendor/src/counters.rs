//! Counters of the vendor, with which a test proves, for example, that a rejected password was tried once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts since the start or the last reset. The control API itself is not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Successful logins, including the code if one is required.
    pub logins: u64,
    /// Wrong logins or passwords.
    pub login_attempts_wrong: u64,
    /// Logins rejected without a check because the account is locked.
    pub login_attempts_locked: u64,
    /// Wrong one-time codes.
    pub codes_wrong: u64,
    /// Forms rejected because of a wrong CSRF token.
    pub forged: u64,
    /// HTML pages sent with status 200, including error pages.
    pub pages: u64,
    /// PDFs sent (a 304 sends none).
    pub pdfs: u64,
    /// Requests by path; those to unknown paths count as `other`.
    pub requests_by_path: BTreeMap<String, u64>,
    /// Requests by the number of the session; those without a live session count as `none`.
    pub requests_by_session: BTreeMap<String, u64>,
}

impl Counters {
    /// Counts a request on arrival, so that a request whose client disconnects is counted, too.
    pub fn count_request(&mut self, path: &str, session: Option<u64>) {
        *self.requests_by_path.entry(path.to_owned()).or_default() += 1;
        let session = session.map_or_else(|| "none".to_owned(), |number| number.to_string());
        *self.requests_by_session.entry(session).or_default() += 1;
    }

    /// Returns the total number of requests.
    pub fn requests(&self) -> u64 {
        self.requests_by_path.values().sum()
    }
}
