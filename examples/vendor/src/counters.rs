//! What the vendor has seen: the evidence of a test that, say, a refused password was tried once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts since the start or the last reset. The control API itself is not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Logins that succeeded, with the code where one is asked for.
    pub logins: u64,
    /// Wrong logins or passwords.
    pub login_attempts_wrong: u64,
    /// Logins refused unread because the account is locked.
    pub login_attempts_locked: u64,
    /// Wrong one-time codes.
    pub codes_wrong: u64,
    /// Forms refused for want of the right CSRF token.
    pub forged: u64,
    /// HTML pages answered with 200, error pages among them.
    pub pages: u64,
    /// PDFs sent (a 304 sends none).
    pub pdfs: u64,
    /// Requests by path; those that no page answers to count as `other`.
    pub requests_by_path: BTreeMap<String, u64>,
    /// Requests by the number of the session; those without a live session count as `none`.
    pub requests_by_session: BTreeMap<String, u64>,
}

impl Counters {
    /// Counts a request as it arrives, so that one whose client gives up is counted too.
    pub fn count_request(&mut self, path: &str, session: Option<u64>) {
        *self.requests_by_path.entry(path.to_owned()).or_default() += 1;
        let session = session.map_or_else(|| "none".to_owned(), |number| number.to_string());
        *self.requests_by_session.entry(session).or_default() += 1;
    }

    /// All requests.
    pub fn requests(&self) -> u64 {
        self.requests_by_path.values().sum()
    }
}
