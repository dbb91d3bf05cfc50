//! Classification of failed runs. Each has one error code of Cozy's vocabulary, one retry rule and one sentence that
//! says who must act.

use std::fmt;
use std::time::Duration;

use konnector_sandbox::capability::QuotaKind;
use konnector_sandbox::{AbortReason, Failure, Outcome, Receipt, UserAction};

use super::retry::Retry;
use konnector_accounts::ForeignAccount;
use konnector_packages::maintenance::Maintenance;

/// Cozy's code for a vendor, or a konnector, in maintenance.
const MAINTENANCE_CODE: &str = "VENDOR_DOWN.MAINTENANCE";

/// An error code, `TYPE` or `TYPE.SUBTYPE`; clients that do not know the subtype fall back to the type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the codes of Cozy's vocabulary")]
pub enum JobErrorCode {
    LoginFailed,
    LoginFailedNeedsSecret,
    LoginFailedTooManyAttempts,
    UserActionNeeded,
    UserActionNeededTerms,
    UserActionNeededChangePassword,
    UserActionNeededStrongAuthentication,
    UserActionNeededWebAuthentication,
    UserActionNeededReconnect,
    UserActionNeededAccountRemoved,
    UserActionNeededPermissionsChanged,
    UserActionNeededTwoFactorExpired,
    UserActionNeededWrongTwoFactorCode,
    ChallengeAsked,
    CaptchaResolutionFailed,
    VendorDown,
    VendorDownRateLimited,
    Maintenance,
    DiskQuotaExceeded,
    UnknownError,
    UnknownErrorVendorChanged,
    UnknownErrorPermissionDenied,
    UnknownErrorPartialSync,
    UnknownErrorTimeout,
    UnknownErrorMemory,
    UnknownErrorCancelled,
    UnknownErrorInterrupted,
    /// Not the code of a job, but the reason why its trigger waits.
    NeedsAuthor,
    NotInstalled,
    AccountNotFound,
    ForeignAccount,
    /// Error of a command component: a code or any other string.
    Custom(String),
}

impl fmt::Display for JobErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoginFailed => "LOGIN_FAILED",
            Self::LoginFailedNeedsSecret => "LOGIN_FAILED.NEEDS_SECRET",
            Self::LoginFailedTooManyAttempts => "LOGIN_FAILED.TOO_MANY_ATTEMPTS",
            Self::UserActionNeeded => "USER_ACTION_NEEDED",
            Self::UserActionNeededTerms => "USER_ACTION_NEEDED.CGU_FORM",
            Self::UserActionNeededChangePassword => "USER_ACTION_NEEDED.CHANGE_PASSWORD",
            Self::UserActionNeededStrongAuthentication => "USER_ACTION_NEEDED.SCA_REQUIRED",
            Self::UserActionNeededWebAuthentication => "USER_ACTION_NEEDED.WEBAUTH_REQUIRED",
            Self::UserActionNeededReconnect => "USER_ACTION_NEEDED.OAUTH_OUTDATED",
            Self::UserActionNeededAccountRemoved => "USER_ACTION_NEEDED.ACCOUNT_REMOVED",
            Self::UserActionNeededPermissionsChanged => "USER_ACTION_NEEDED.PERMISSIONS_CHANGED",
            Self::UserActionNeededTwoFactorExpired => "USER_ACTION_NEEDED.TWOFA_EXPIRED",
            Self::UserActionNeededWrongTwoFactorCode => "USER_ACTION_NEEDED.WRONG_TWOFA_CODE",
            Self::ChallengeAsked => "CHALLENGE_ASKED",
            Self::CaptchaResolutionFailed => "CAPTCHA_RESOLUTION_FAILED",
            Self::VendorDown => "VENDOR_DOWN",
            Self::VendorDownRateLimited => "VENDOR_DOWN.RATE_LIMITED",
            Self::Maintenance => "VENDOR_DOWN.MAINTENANCE",
            Self::DiskQuotaExceeded => "DISK_QUOTA_EXCEEDED",
            Self::UnknownError => "UNKNOWN_ERROR",
            Self::UnknownErrorVendorChanged => "UNKNOWN_ERROR.VENDOR_CHANGED",
            Self::UnknownErrorPermissionDenied => "UNKNOWN_ERROR.PERMISSION_DENIED",
            Self::UnknownErrorPartialSync => "UNKNOWN_ERROR.PARTIAL_SYNC",
            Self::UnknownErrorTimeout => "UNKNOWN_ERROR.TIMEOUT",
            Self::UnknownErrorMemory => "UNKNOWN_ERROR.OUT_OF_MEMORY",
            Self::UnknownErrorCancelled => "UNKNOWN_ERROR.CANCELLED",
            Self::UnknownErrorInterrupted => "UNKNOWN_ERROR.INTERRUPTED",
            Self::NeedsAuthor => "UNKNOWN_ERROR.NEEDS_AUTHOR",
            Self::NotInstalled => "UNKNOWN_ERROR.KONNECTOR_NOT_INSTALLED",
            Self::AccountNotFound => "UNKNOWN_ERROR.ACCOUNT_NOT_FOUND",
            Self::ForeignAccount => "UNKNOWN_ERROR.FOREIGN_ACCOUNT",
            Self::Custom(error) => error,
        })
    }
}

/// Classification of a failed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// Error code, for programs.
    pub code: JobErrorCode,
    /// Explanation for users: the cause, and who must act.
    pub message: String,
    /// Whether and when the run is retried.
    pub retry: Retry,
    /// Whether the schedule waits until the user has acted.
    pub pauses_schedule: bool,
}

impl JobFailure {
    fn new(code: JobErrorCode, retry: Retry, pause: bool, message: impl Into<String>) -> Self {
        Self { code, message: with_full_stop(message.into()), retry, pauses_schedule: pause }
    }

    /// Returns the failure of a job that is not tried because its konnector is in maintenance.
    #[must_use]
    pub fn from_maintenance(maintenance: &Maintenance) -> Self {
        Self::new(
            JobErrorCode::Custom(MAINTENANCE_CODE.to_owned()),
            Retry::Never,
            false,
            format!(
                "Not run: the konnector '{}' is in maintenance. \
                 No action is needed: its schedule continues afterwards.",
                maintenance.slug
            ),
        )
    }

    /// Returns the failure for a konnector that is not installed; its trigger is deleted.
    pub fn not_installed(slug: &str) -> Self {
        Self::new(
            JobErrorCode::NotInstalled,
            Retry::Never,
            false,
            format!("The konnector '{slug}' is not installed; install it and try again. A trigger for it is deleted."),
        )
    }

    /// Returns the failure for an account that does not exist; its trigger is deleted.
    pub fn account_not_found(id: &str) -> Self {
        Self::new(JobErrorCode::AccountNotFound, Retry::Never, false, format!("The account '{id}' no longer exists."))
    }

    /// Returns the failure for an account that the konnector may not use; its trigger is deleted.
    pub fn foreign_account(foreign: &ForeignAccount) -> Self {
        Self::new(
            JobErrorCode::ForeignAccount,
            Retry::Never,
            false,
            format!("Not run: {foreign}. A trigger for it is deleted."),
        )
    }

    /// Returns the failure for a run that could not be set up.
    pub fn setup_failed(error: &crate::Error) -> Self {
        if let crate::Error::Manifest(error @ konnector_manifest::Error::AccountAddress { .. }) = error {
            return Self::from_failure(&Failure::MissingCredentials(error.to_string()));
        }
        Self::new(JobErrorCode::UnknownError, Retry::Once, false, format!("The run could not be set up: {error}"))
    }

    /// Returns the failure for an account whose provider no longer accepts its token, so every run would fail.
    pub fn reconnect() -> Self {
        Self::from_action(UserAction::Reconnect, "")
    }

    /// Returns the failure for a job that was cancelled before it began, or while its server shut down.
    pub(crate) fn cancelled() -> Self {
        Self::from_failure(&Failure::Cancelled)
    }

    /// Returns the failure for a job during which the server stopped repeatedly.
    pub(crate) fn interrupted(times: u32) -> Self {
        Self::new(
            JobErrorCode::UnknownErrorInterrupted,
            Retry::Never,
            false,
            format!(
                "The server stopped {times} times while this job ran, so it is not restarted automatically. Look for the reason in the server's log, then launch it manually."
            ),
        )
    }

    /// Classifies the end of a run; `None` if it succeeded.
    #[must_use]
    pub fn from_outcome(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Completed(_) => None,
            Outcome::Failed(failure) => Some(Self::from_failure(failure)),
            Outcome::Aborted(ending) => Some(Self::from_ending(ending)),
        }
    }

    /// Classifies the end of a run that could not write a file because of `file_quota`; `None` if it succeeded. Most
    /// programs learn of this only as an I/O error, so an error without a code of its own is not called a bug.
    #[must_use]
    pub fn from_outcome_with_quota(outcome: &Outcome, file_quota: Option<QuotaKind>) -> Option<Self> {
        let failure = Self::from_outcome(outcome)?;
        let Some(quota) = file_quota else { return Some(failure) };
        let (cause, detail) = match outcome {
            Outcome::Failed(Failure::Bug(detail)) => {
                (format!("A file could not be written: {quota}."), detail.as_str())
            }
            Outcome::Failed(Failure::Custom { error, .. }) if matches!(reported_meaning(error), Failure::Bug(_)) => {
                (format!("A file could not be written: {quota}."), error.as_str())
            }
            Outcome::Aborted(AbortReason::Trap(_)) => {
                (format!("A file could not be written before: {quota}."), failure.message.as_str())
            }
            _ => return Some(failure),
        };
        let (retry, advice) = match quota {
            QuotaKind::Storage => {
                (Retry::WhenSpaceAvailable, "Free some space, or ask the operator for more.".to_owned())
            }
            QuotaKind::Limit { limit, .. } => (
                Retry::Fault,
                format!(
                    "The konnector's author can request a higher limit in the manifest (\"limits\": {{ \"{limit}\": … }}), up to the maximum that the operator allows."
                ),
            ),
            QuotaKind::Secrets | QuotaKind::Questions => return Some(failure),
        };
        let message = prepend_detail(detail, &format!("{cause} {advice}"));
        let code = match (&failure.code, quota) {
            (JobErrorCode::UnknownError, QuotaKind::Storage) => JobErrorCode::DiskQuotaExceeded,
            (code, _) => code.clone(),
        };
        let retry = if failure.retry == Retry::Never { Retry::Never } else { retry };
        Some(Self { code, message, retry, ..failure })
    }

    /// Classifies a run that the konnector considers successful: a konnector that uses plain files does not learn of
    /// failures after it closed them.
    pub fn from_lost_files(receipt: &Receipt) -> Option<Self> {
        let lost = receipt.files_not_saved;
        let nothing_saved = receipt.documents.up_to_date() + receipt.files.up_to_date() == 0;
        (lost > 0 && nothing_saved).then(|| {
            let message =
                format!("None of the {lost} files that the konnector wrote could be saved; see the job's log.");
            Self::new(JobErrorCode::UnknownError, Retry::Once, false, message)
        })
    }

    fn from_failure(failure: &Failure) -> Self {
        let back_off =
            |seconds: Option<u32>| Retry::BackOff { at_least: Duration::from_secs(seconds.unwrap_or_default().into()) };
        match failure {
            Failure::BadCredentials(detail) => Self::new(
                JobErrorCode::LoginFailed,
                Retry::Never,
                true,
                prepend_detail(detail, "The vendor rejected the login or the password. Correct them in the account."),
            ),
            Failure::MissingCredentials(detail) => Self::new(
                JobErrorCode::LoginFailedNeedsSecret,
                Retry::Never,
                true,
                prepend_detail(detail, "The login needs a field that the account lacks. Add it."),
            ),
            Failure::TooManyAttempts(detail) => Self::new(
                JobErrorCode::LoginFailedTooManyAttempts,
                Retry::Never,
                true,
                prepend_detail(
                    detail,
                    "The vendor temporarily locked the account after too many attempts. Wait, then sign in at the vendor's site.",
                ),
            ),
            Failure::UserAction(action, detail) => Self::from_action(*action, detail),
            Failure::CodeMissing(detail) => Self::new(
                JobErrorCode::UserActionNeededTwoFactorExpired,
                Retry::Never,
                true,
                prepend_detail(
                    detail,
                    "The vendor asked for a one-time code, but none was entered in time. Launch the konnector manually and have the code ready.",
                ),
            ),
            Failure::CodeRejected(detail) => Self::new(
                JobErrorCode::UserActionNeededWrongTwoFactorCode,
                Retry::Never,
                true,
                prepend_detail(
                    detail,
                    "The vendor rejected the one-time code. Launch the konnector manually to get another one.",
                ),
            ),
            Failure::ChallengeUnsupported(detail) => Self::new(
                JobErrorCode::ChallengeAsked,
                Retry::Never,
                true,
                prepend_detail(
                    detail,
                    "The vendor requires a verification that the konnector does not support. Sign in at the vendor's site, then launch the konnector; if this happens again, tell the konnector's author.",
                ),
            ),
            Failure::CaptchaFailed(detail) => Self::new(
                JobErrorCode::CaptchaResolutionFailed,
                Retry::Once,
                false,
                prepend_detail(detail, "The vendor's site asked for a captcha, which was not solved."),
            ),
            Failure::VendorDown(detail) => Self::new(
                JobErrorCode::VendorDown,
                back_off(None),
                false,
                prepend_detail(detail, "The vendor's site does not respond. This is usually temporary."),
            ),
            Failure::VendorMaintenance(detail) => Self::new(
                JobErrorCode::Maintenance,
                back_off(None),
                false,
                prepend_detail(detail, "The vendor's site is under maintenance. This is usually temporary."),
            ),
            Failure::RateLimited(seconds) => Self::new(
                JobErrorCode::VendorDownRateLimited,
                back_off(*seconds),
                false,
                "The vendor's site limits the number of requests. This is usually temporary.",
            ),
            Failure::VendorChanged(detail) => Self::new(
                JobErrorCode::UnknownErrorVendorChanged,
                Retry::Fault,
                false,
                prepend_detail(
                    detail,
                    "The vendor's site differs from what the konnector expects. The konnector's author must adapt the konnector.",
                ),
            ),
            Failure::Denied(detail) => Self::new(
                JobErrorCode::UnknownErrorPermissionDenied,
                Retry::Never,
                true,
                prepend_detail(
                    detail,
                    "The konnector requested something that is not permitted. Unless the operator can allow it, its author must add the rule to the manifest.",
                ),
            ),
            Failure::StorageFull(detail) => Self::new(
                JobErrorCode::DiskQuotaExceeded,
                Retry::WhenSpaceAvailable,
                false,
                prepend_detail(detail, "Your storage space is used up. Free some space, or ask the operator for more."),
            ),
            Failure::LimitReached(detail) => Self::new(
                JobErrorCode::UnknownErrorPartialSync,
                Retry::Never,
                false,
                prepend_detail(
                    detail,
                    "The data fetched so far is saved. You need not do anything: the next run continues with the rest.",
                ),
            ),
            Failure::Cancelled => {
                Self::new(JobErrorCode::UnknownErrorCancelled, Retry::Never, false, "The run was cancelled.")
            }
            Failure::HostFailed(detail) => Self::new(
                JobErrorCode::UnknownError,
                Retry::Once,
                false,
                prepend_detail(
                    detail,
                    "The server failed while the konnector ran. If this happens again, tell the operator.",
                ),
            ),
            Failure::Bug(detail) => Self::new(
                JobErrorCode::UnknownError,
                Retry::Fault,
                false,
                prepend_detail(detail, "The konnector has a bug. If this happens again, tell its author."),
            ),
            Failure::Custom { error, no_retry } => Self::from_reported_error(error, *no_retry),
        }
    }

    /// Classifies a command component's own code or text. Its effect on the schedule is that of the same failure of a
    /// typed konnector; a text that is not a code of the vocabulary is a fault (Cozy API, konnector worker policy and
    /// run-time contract, §5.7 and §6.3).
    fn from_reported_error(error: &str, no_retry: bool) -> Self {
        let verdict = Self::from_failure(&reported_meaning(error));
        let retry = if no_retry { Retry::Never } else { verdict.retry };
        Self { code: JobErrorCode::Custom(error.to_owned()), retry, ..verdict }
    }

    fn from_action(action: UserAction, detail: &str) -> Self {
        let (code, sentence, pause) = match action {
            // Cozy does not pause the schedule for this one: accepting the terms is often optional.
            UserAction::AcceptTerms => {
                (JobErrorCode::UserActionNeededTerms, "The vendor requires you to accept its new terms.", false)
            }
            UserAction::ChangePassword => {
                (JobErrorCode::UserActionNeededChangePassword, "The vendor requires a new password.", true)
            }
            UserAction::StrongAuthentication => {
                (JobErrorCode::UserActionNeededStrongAuthentication, "The vendor requires strong authentication.", true)
            }
            UserAction::WebAuthentication => {
                (JobErrorCode::UserActionNeededWebAuthentication, "The vendor requires a login on its own page.", true)
            }
            UserAction::Reconnect => {
                (JobErrorCode::UserActionNeededReconnect, "The vendor no longer accepts the connection.", true)
            }
            UserAction::AccountRemoved => {
                (JobErrorCode::UserActionNeededAccountRemoved, "The account no longer exists at the vendor.", true)
            }
            UserAction::PermissionsChanged => {
                (JobErrorCode::UserActionNeededPermissionsChanged, "The permissions at the vendor have changed.", true)
            }
            UserAction::Unspecified => {
                (JobErrorCode::UserActionNeeded, "The vendor requires an action from you.", true)
            }
        };
        Self::new(
            code,
            Retry::Never,
            pause,
            prepend_detail(detail, &format!("{sentence} Sign in at the vendor's site, then launch the konnector.")),
        )
    }

    fn from_ending(ending: &AbortReason) -> Self {
        let message = format!("The run was stopped: {ending}.");
        match ending {
            AbortReason::Deadline(_) | AbortReason::CpuLimit(_) => {
                Self::new(JobErrorCode::UnknownErrorTimeout, Retry::Fault, false, message)
            }
            AbortReason::MemoryLimit(_) => Self::new(JobErrorCode::UnknownErrorMemory, Retry::Fault, false, message),
            AbortReason::Cancelled => Self::new(JobErrorCode::UnknownErrorCancelled, Retry::Never, false, message),
            AbortReason::HostFault(_) => Self::new(JobErrorCode::UnknownError, Retry::Once, false, message),
            _ => Self::new(JobErrorCode::UnknownError, Retry::Fault, false, message),
        }
    }
}

/// Returns the failure of a typed konnector that a command component's own code or text stands for.
fn reported_meaning(error: &str) -> Failure {
    let action = |action| Failure::UserAction(action, String::new());
    match error {
        "LOGIN_FAILED.NEEDS_SECRET" => Failure::MissingCredentials(String::new()),
        "LOGIN_FAILED.TOO_MANY_ATTEMPTS" => Failure::TooManyAttempts(String::new()),
        "USER_ACTION_NEEDED.CGU_FORM" => action(UserAction::AcceptTerms),
        "USER_ACTION_NEEDED.CHANGE_PASSWORD" => action(UserAction::ChangePassword),
        "USER_ACTION_NEEDED.SCA_REQUIRED" => action(UserAction::StrongAuthentication),
        "USER_ACTION_NEEDED.WEBAUTH_REQUIRED" => action(UserAction::WebAuthentication),
        "USER_ACTION_NEEDED.OAUTH_OUTDATED" => action(UserAction::Reconnect),
        "USER_ACTION_NEEDED.ACCOUNT_REMOVED" => action(UserAction::AccountRemoved),
        "USER_ACTION_NEEDED.PERMISSIONS_CHANGED" => action(UserAction::PermissionsChanged),
        "USER_ACTION_NEEDED.TWOFA_EXPIRED" => Failure::CodeMissing(String::new()),
        "USER_ACTION_NEEDED.WRONG_TWOFA_CODE" => Failure::CodeRejected(String::new()),
        "CHALLENGE_ASKED" => Failure::ChallengeUnsupported(String::new()),
        "UNKNOWN_ERROR.PARTIAL_SYNC" => Failure::LimitReached(String::new()),
        "MAINTENANCE" | "VENDOR_DOWN.MAINTENANCE" => Failure::VendorMaintenance(String::new()),
        "DISK_QUOTA_EXCEEDED" => Failure::StorageFull(String::new()),
        _ if error.starts_with("LOGIN_FAILED") => Failure::BadCredentials(String::new()),
        _ if error.starts_with("CAPTCHA_RESOLUTION_FAILED") => Failure::CaptchaFailed(String::new()),
        _ if error.starts_with("USER_ACTION_NEEDED") => action(UserAction::Unspecified),
        _ if error.starts_with("VENDOR_DOWN") => Failure::VendorDown(String::new()),
        _ => Failure::Bug(error.to_owned()),
    }
}

/// Ends a message as a sentence, because others may follow; errors end without a full stop.
fn with_full_stop(mut message: String) -> String {
    if !message.ends_with(['.', '!', '?', '…']) {
        message.push('.');
    }
    message
}

/// Prepends a detail to the sentence.
fn prepend_detail(detail: &str, sentence: &str) -> String {
    let detail = detail.trim();
    if detail.is_empty() { sentence.to_owned() } else { format!("{}. {sentence}", detail.trim_end_matches('.')) }
}

#[cfg(test)]
mod tests;
