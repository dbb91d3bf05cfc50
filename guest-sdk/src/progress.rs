use std::time::Duration;

use crate::bindings::konnector::host::progress::{CodeChannel, Question};
use crate::{Result, host};

/// Reports progress to the clients that watch the run. Free to call for every item.
pub fn report_progress(done: usize, total: usize, label: &str) {
    host::progress::report(done as u64, Some(total as u64), label);
}

/// Returns the time that remains before the host ends the run.
#[must_use]
pub fn remaining_time() -> Duration {
    Duration::from_millis(host::progress::remaining_ms())
}

/// Reports that the vendor accepted the credentials; waiting clients are notified at once.
pub fn login_succeeded() {
    host::progress::login_succeeded();
}

/// Asks the user for a one-time code and waits for it; the run's time limit is paused meanwhile. `hint` says where to
/// look, for example the last digits of a telephone number.
///
/// # Errors
///
/// [`crate::Error::CodeMissing`] if the user does not respond; [`crate::Error::LimitReached`] after five questions in
/// one run, or once the run has waited twice the limit `answer_s` in total.
pub fn ask_code(channel: CodeChannel, hint: &str) -> Result<String> {
    Ok(host::progress::ask_code(&Question { channel, hint: hint.to_owned(), is_retry: false })?)
}

/// Asks once more, after the vendor rejected the code.
///
/// # Errors
///
/// As [`ask_code`].
pub fn ask_code_again(channel: CodeChannel, hint: &str) -> Result<String> {
    Ok(host::progress::ask_code(&Question { channel, hint: hint.to_owned(), is_retry: true })?)
}

/// Asks the user to approve the login in the vendor's app. Does not wait, so poll the vendor until it
/// reports the approval.
///
/// # Errors
///
/// [`crate::Error::CodeMissing`] if no client watches the run.
pub fn request_approval(hint: &str) -> Result<()> {
    Ok(host::progress::request_approval(hint)?)
}
