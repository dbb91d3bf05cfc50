use std::time::Duration;

use crate::bindings::konnector::host::progress::{CodeChannel, Question};
use crate::{Result, host};

/// Tells whoever watches how far the run is. Free to call for every item.
pub fn report_progress(done: usize, total: usize, label: &str) {
    host::progress::report(done as u64, Some(total as u64), label);
}

/// How long the run may still take before the host ends it.
#[must_use]
pub fn remaining_time() -> Duration {
    Duration::from_millis(host::progress::remaining_ms())
}

/// The vendor accepted the credentials: tells waiting clients at once.
pub fn login_succeeded() {
    host::progress::login_succeeded();
}

/// Asks the user for a one-time code and waits for it; the clock of the run stands still meanwhile. `hint` says where to look, for
/// example the last digits of a telephone number.
///
/// # Errors
/// [`crate::Error::CodeMissing`] when nobody answers; [`crate::Error::LimitReached`] after five questions in one run, or once the run has waited
/// twice the limit `answer_s` in all.
pub fn ask_code(channel: CodeChannel, hint: &str) -> Result<String> {
    Ok(host::progress::ask_code(&Question { channel, hint: hint.to_owned(), is_retry: false })?)
}

/// Asks once more, after the vendor refused the code that was given.
///
/// # Errors
/// As [`ask_code`].
pub fn ask_code_again(channel: CodeChannel, hint: &str) -> Result<String> {
    Ok(host::progress::ask_code(&Question { channel, hint: hint.to_owned(), is_retry: true })?)
}

/// Tells the user to approve the login in the vendor's application, and does not wait: ask the vendor until it says that it was approved.
///
/// # Errors
/// [`crate::Error::CodeMissing`] when nobody watches the run.
pub fn request_approval(hint: &str) -> Result<()> {
    Ok(host::progress::request_approval(hint)?)
}
