//! How a run fails. Each variant of the error type is one case of the contract.

use std::time::Duration;

use crate::bindings::exports::konnector::host::run::{Action, Failure};
use crate::bindings::konnector::host::http::{DownloadError, HttpError, Phase};
use crate::bindings::konnector::host::types::Error as HostError;

/// Result of every fallible function of the SDK.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run ends without success. The variant decides whether the run is retried, whether the schedule waits for the
/// user, and which message the user reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The vendor rejected the credentials. The schedule waits until the user changes them, so return this only if the
    /// vendor said so.
    #[error("the vendor rejected the credentials: {0}")]
    BadCredentials(String),
    /// The account lacks a field that this login needs.
    #[error("the account lacks a field: {0}")]
    MissingCredentials(String),
    /// The vendor locked the account temporarily.
    #[error("the vendor temporarily locked the account: {0}")]
    TooManyAttempts(String),
    /// The user must act at the vendor.
    #[error("the user must act: {1}")]
    UserAction(Action, String),
    /// A one-time code was requested but not entered in time.
    #[error("the one-time code was not entered: {0}")]
    CodeMissing(String),
    /// The vendor rejected the one-time code that the user entered.
    #[error("the one-time code was rejected: {0}")]
    CodeRejected(String),
    /// The vendor requires a proof that this konnector cannot give.
    #[error("the vendor requires a proof that this konnector cannot give: {0}")]
    ChallengeUnsupported(String),
    /// A captcha could not be solved.
    #[error("the captcha was not solved: {0}")]
    CaptchaFailed(String),
    /// The vendor does not respond, or reports that it is unavailable; the run is retried later.
    #[error("the vendor does not respond: {0}")]
    VendorDown(String),
    /// The vendor reports maintenance.
    #[error("the vendor is down for maintenance: {0}")]
    VendorMaintenance(String),
    /// The vendor asks for fewer requests; the delay before the next request, if the vendor gives one.
    #[error("the vendor asks for fewer requests")]
    RateLimited(Option<Duration>),
    /// The site differs from what the konnector expects, so the author must act.
    #[error("the vendor's site changed: {0}")]
    VendorChanged(String),
    /// The manifest lacks a permission rule. The message comes from the host and names the rule to add.
    #[error("{0}")]
    Denied(String),
    /// The user's quota is used up.
    #[error("{0}")]
    StorageFull(String),
    /// The run reached a limit; items saved so far remain, and the next run continues.
    #[error("{0}")]
    LimitReached(String),
    /// The run is being cancelled.
    #[error("the run is being cancelled")]
    Cancelled,
    /// The host failed.
    #[error("the host failed: {0}")]
    HostFailed(String),
    /// The host rejects the input: a document, a name or a request. To the user this is a fault of the konnector.
    #[error("the host rejected the input: {0}")]
    Rejected(String),
    /// The konnector has a bug.
    #[error("{0}")]
    Bug(String),
}

/// One constructor per variant that an author returns; the message is a sentence for the user, or for the author if
/// only they can act.
impl Error {
    /// Creates [`Error::BadCredentials`]. Use it if the vendor rejected the credentials.
    pub fn bad_credentials(text: impl Into<String>) -> Self {
        Self::BadCredentials(text.into())
    }

    /// Creates [`Error::TooManyAttempts`]. Use it if the vendor locked the account temporarily.
    pub fn too_many_attempts(text: impl Into<String>) -> Self {
        Self::TooManyAttempts(text.into())
    }

    /// Creates [`Error::UserAction`]. Use it if the user must do `action` at the vendor.
    pub fn user_action(action: Action, text: impl Into<String>) -> Self {
        Self::UserAction(action, text.into())
    }

    /// Creates [`Error::MissingCredentials`]. Use it if the account lacks a field.
    pub fn missing_credentials(text: impl Into<String>) -> Self {
        Self::MissingCredentials(text.into())
    }

    /// Creates [`Error::CodeRejected`]. Use it if the vendor rejected the one-time code.
    pub fn code_rejected(text: impl Into<String>) -> Self {
        Self::CodeRejected(text.into())
    }

    /// Creates [`Error::ChallengeUnsupported`]. Use it if the vendor requires a proof that this konnector cannot give.
    pub fn challenge_unsupported(text: impl Into<String>) -> Self {
        Self::ChallengeUnsupported(text.into())
    }

    /// Creates [`Error::CaptchaFailed`]. Use it if a captcha could not be solved.
    pub fn captcha_failed(text: impl Into<String>) -> Self {
        Self::CaptchaFailed(text.into())
    }

    /// Creates [`Error::VendorDown`]. Use it if the vendor does not respond. The run is retried later.
    pub fn vendor_down(text: impl Into<String>) -> Self {
        Self::VendorDown(text.into())
    }

    /// Creates [`Error::VendorMaintenance`]. Use it if the vendor reports maintenance.
    pub fn vendor_maintenance(text: impl Into<String>) -> Self {
        Self::VendorMaintenance(text.into())
    }

    /// Creates [`Error::VendorChanged`]. Use it if the site differs from what the konnector expects.
    pub fn vendor_changed(text: impl Into<String>) -> Self {
        Self::VendorChanged(text.into())
    }

    /// Creates [`Error::Bug`]. Use it if the konnector has a bug.
    pub fn bug(text: impl Into<String>) -> Self {
        Self::Bug(text.into())
    }

    /// Returns the same failure, with the konnector's activity in front of its message:
    /// `error.context("the list of bills")`.
    #[must_use]
    pub fn context(self, activity: impl std::fmt::Display) -> Self {
        let add = |text: String| format!("{activity}: {text}");
        match self {
            Self::BadCredentials(text) => Self::BadCredentials(add(text)),
            Self::TooManyAttempts(text) => Self::TooManyAttempts(add(text)),
            Self::UserAction(action, text) => Self::UserAction(action, add(text)),
            Self::MissingCredentials(text) => Self::MissingCredentials(add(text)),
            Self::CodeMissing(text) => Self::CodeMissing(add(text)),
            Self::CodeRejected(text) => Self::CodeRejected(add(text)),
            Self::ChallengeUnsupported(text) => Self::ChallengeUnsupported(add(text)),
            Self::CaptchaFailed(text) => Self::CaptchaFailed(add(text)),
            Self::VendorDown(text) => Self::VendorDown(add(text)),
            Self::VendorMaintenance(text) => Self::VendorMaintenance(add(text)),
            Self::VendorChanged(text) => Self::VendorChanged(add(text)),
            Self::Denied(text) => Self::Denied(add(text)),
            Self::StorageFull(text) => Self::StorageFull(add(text)),
            Self::LimitReached(text) => Self::LimitReached(add(text)),
            Self::HostFailed(text) => Self::HostFailed(add(text)),
            Self::Rejected(text) => Self::Rejected(add(text)),
            Self::Bug(text) => Self::Bug(add(text)),
            Self::RateLimited(_) | Self::Cancelled => self,
        }
    }

    /// Returns whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::VendorDown(_))
    }

    /// Returns whether the error concerns only this item, so that the other items are worth trying.
    pub(crate) fn is_item_error(&self) -> bool {
        matches!(self, Self::VendorDown(_) | Self::VendorChanged(_) | Self::Rejected(_) | Self::Bug(_))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::BadCredentials(text) => Self::BadCredentials(text),
            Error::TooManyAttempts(text) => Self::TooManyAttempts(text),
            Error::UserAction(action, text) => Self::UserAction((action, text)),
            Error::MissingCredentials(text) => Self::MissingCredentials(text),
            Error::CodeMissing(text) => Self::CodeMissing(text),
            Error::CodeRejected(text) => Self::CodeRejected(text),
            Error::ChallengeUnsupported(text) => Self::ChallengeUnsupported(text),
            Error::CaptchaFailed(text) => Self::CaptchaFailed(text),
            Error::VendorDown(text) => Self::VendorDown(text),
            Error::VendorMaintenance(text) => Self::VendorMaintenance(text),
            Error::RateLimited(after) => {
                Self::RateLimited(after.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX)))
            }
            Error::VendorChanged(text) => Self::VendorChanged(text),
            Error::Denied(text) => Self::Denied(text),
            Error::StorageFull(text) => Self::StorageFull(text),
            Error::LimitReached(text) => Self::LimitReached(text),
            Error::HostFailed(text) => Self::HostFailed(text),
            Error::Cancelled => Self::Cancelled,
            Error::Rejected(_) => Self::Bug(error.to_string()),
            Error::Bug(text) => Self::Bug(text),
        }
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Denied(text) => Self::Denied(text),
            HostError::NotFound(text) => Self::Bug(format!("the item was not found: {text}")),
            HostError::Conflict(text) => Self::Bug(format!("conflict: {text}")),
            HostError::TooLarge(limit) => {
                Self::LimitReached(format!("the item is larger than the limit of {limit} bytes"))
            }
            HostError::StorageFull => Self::StorageFull("the user's storage quota is used up".to_owned()),
            HostError::LimitReached(text) => Self::LimitReached(text),
            HostError::Invalid(text) => Self::Rejected(text),
            HostError::Internal(text) => Self::HostFailed(text),
            HostError::Unattended => Self::CodeMissing("no client watches the run".to_owned()),
            HostError::Cancelled => Self::Cancelled,
        }
    }
}

/// Without the URL; the requests of [`crate::http::Client`] add it.
impl From<HttpError> for Error {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Denied(text) | HttpError::AddressProhibited(text) => Self::Denied(text),
            HttpError::Unreachable(text) => Self::VendorDown(text),
            HttpError::Tls(text) => Self::VendorDown(format!("a secure connection could not be established: {text}")),
            HttpError::Timeout(phase) => {
                Self::VendorDown(format!("the response did not arrive in time ({})", phase_name(phase)))
            }
            HttpError::TooManyRedirects => Self::VendorChanged("there were too many redirects".to_owned()),
            HttpError::TooLarge(limit) => {
                Self::Bug(format!("the response is larger than {limit} bytes; use `download` for it"))
            }
            HttpError::LimitReached(text) => Self::LimitReached(text),
            HttpError::Invalid(text) => Self::Rejected(format!("the request is malformed: {text}")),
            HttpError::Protocol(text) => Self::VendorDown(text),
            HttpError::Cancelled => Self::Cancelled,
            HttpError::Internal(text) => Self::HostFailed(text),
        }
    }
}

/// The same conversion for a download.
impl From<DownloadError> for Error {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Http(error) => error.into(),
            DownloadError::Status(status) => crate::http::status_error(status, None, "the address"),
            DownloadError::UnexpectedContent(text) => Self::VendorChanged(text),
            DownloadError::File(error) => error.into(),
        }
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Connect => "while connecting",
        Phase::Headers => "while waiting for the response",
        Phase::Body => "while reading the response",
        Phase::Total => "the whole exchange",
    }
}

/// A konnector parses values that come from the vendor, so a value that does not parse means that the vendor changed
/// it.
macro_rules! vendor_changed_from {
    ($($kind:ty),* $(,)?) => {$(
        impl From<$kind> for Error {
            fn from(error: $kind) -> Self {
                Self::VendorChanged(error.to_string())
            }
        }
    )*};
}
vendor_changed_from!(
    serde_json::Error,
    std::num::ParseIntError,
    std::num::ParseFloatError,
    chrono::ParseError,
    url::ParseError,
    std::string::FromUtf8Error,
);

/// A konnector's local files are in the run's own memory, so the vendor is not to blame for their errors.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Bug(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_network_errors_become_the_failure_that_decides_rightly() {
        let cases = [
            (HttpError::Unreachable("refused".into()), Error::vendor_down("refused")),
            (
                HttpError::Timeout(Phase::Body),
                Error::vendor_down("the response did not arrive in time (while reading the response)"),
            ),
            (HttpError::Denied("add a rule".into()), Error::Denied("add a rule".into())),
            (HttpError::Cancelled, Error::Cancelled),
            (HttpError::Internal("closed".into()), Error::HostFailed("closed".into())),
        ];
        for (host_error, expected) in cases {
            assert_eq!(Error::from(host_error), expected);
        }
        let cases = [
            (DownloadError::Status(503), Error::vendor_down("the address returned 503 Service Unavailable")),
            (DownloadError::Status(202), Error::vendor_down("the address returned 202 Accepted")),
            (DownloadError::Status(206), Error::vendor_changed("the address returned 206 Partial Content")),
            (DownloadError::Status(404), Error::vendor_changed("the address returned 404 Not Found")),
            (DownloadError::Status(429), Error::RateLimited(None)),
            (
                DownloadError::File(HostError::TooLarge(7)),
                Error::LimitReached("the item is larger than the limit of 7 bytes".into()),
            ),
            (
                DownloadError::File(HostError::StorageFull),
                Error::StorageFull("the user's storage quota is used up".into()),
            ),
            (DownloadError::Http(HttpError::Cancelled), Error::Cancelled),
        ];
        for (host_error, expected) in cases {
            assert_eq!(Error::from(host_error), expected);
        }
    }

    #[test]
    fn the_text_says_what_the_konnector_was_doing() {
        let error = Error::vendor_changed("no `td.date`").context("bill 7");
        assert_eq!(error.to_string(), "the vendor's site changed: bill 7: no `td.date`");
        assert_eq!(Error::Cancelled.context("x"), Error::Cancelled);
    }
}
