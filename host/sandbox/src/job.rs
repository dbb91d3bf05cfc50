//! Input and result of a run, as in the WIT interface `run`, but in the host's own types.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why a run is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunCause {
    /// A user started it.
    Manual,
    /// A tick of its schedule was due.
    Schedule,
    /// A document that the trigger watches changed.
    Event,
    /// A webhook was called.
    Webhook,
    /// The previous run failed with an error that is worth retrying.
    Retry,
    /// The user deleted the account, so the state that the vendor holds for it must be undone.
    AccountDeleted,
}

/// Input of one run of a konnector.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInput {
    /// Id of the job, the same for all its runs.
    pub id: String,
    /// Number of the run, 1 for the first run of the job.
    pub attempt: u32,
    /// Why the run is started.
    pub cause: RunCause,
    /// Start of the account's last successful run, in milliseconds since 1970.
    pub last_success: Option<i64>,
    /// The manifest's `parameters`.
    pub parameters: Map<String, Value>,
    /// Payload that the webhook received.
    pub payload: Option<Value>,
    /// The user's language, for example `fr`.
    pub locale: String,
    /// IANA name of the user's time zone.
    pub time_zone: String,
    /// The job's message as it was pushed, including unknown fields. Only command components read it and the fields
    /// below.
    pub message: Value,
    /// The trigger that pushed it.
    pub trigger: Option<String>,
    /// The manifest's `language`.
    pub language: String,
}

/// One item that could not be saved while the rest was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The item, as the konnector names it.
    pub item: String,
    /// Description of the problem.
    pub message: String,
}

/// Report of a run that completed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Items that could not be saved, with a last entry in place of those beyond the limit.
    pub problems: Vec<Problem>,
    /// Total number of items that could not be saved.
    pub problem_count: u64,
}

/// Action that the user must take at the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserAction {
    /// Accept new terms of service.
    AcceptTerms,
    /// Choose a new password.
    ChangePassword,
    /// Set up a second factor.
    StrongAuthentication,
    /// Sign in once in a browser.
    WebAuthentication,
    /// Give the konnector access again.
    Reconnect,
    /// The account no longer exists.
    AccountRemoved,
    /// The vendor asks for other permissions.
    PermissionsChanged,
    /// Something else; the message says what.
    Unspecified,
}

/// Failure that a konnector reports. Each variant has one error code, one retry rule and one sentence for the user; the
/// strings are the konnector's own, masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
pub enum Failure {
    /// The vendor rejected the credentials.
    BadCredentials(String),
    /// The account lacks a field that this login needs.
    MissingCredentials(String),
    /// The vendor locked the account for a while.
    TooManyAttempts(String),
    /// The user must do something at the vendor.
    UserAction(UserAction, String),
    /// The user did not enter a one-time code in time.
    CodeMissing(String),
    /// The vendor rejected a one-time code.
    #[serde(rename = "code_refused")]
    CodeRejected(String),
    /// The vendor asks for a proof that the konnector cannot give.
    ChallengeUnsupported(String),
    /// A captcha could not be solved.
    CaptchaFailed(String),
    /// The vendor does not respond.
    VendorDown(String),
    /// The vendor reports that it is unavailable.
    VendorMaintenance(String),
    /// The vendor limits requests; holds the seconds after which a retry is allowed.
    RateLimited(Option<u32>),
    /// The vendor's site differs from what the konnector expects.
    VendorChanged(String),
    /// A permission is missing from the manifest.
    Denied(String),
    /// The user's storage quota is exhausted.
    StorageFull(String),
    /// A limit of the run was reached before everything was done.
    LimitReached(String),
    /// The konnector ended because of a cancellation.
    Cancelled,
    /// The host failed.
    HostFailed(String),
    /// The konnector detected a bug in itself.
    Bug(String),
    /// A command component's own error: an error code of Cozy's vocabulary, or any other string (Cozy API, konnector
    /// run-time contract, §6.3).
    #[serde(rename = "told")]
    Custom {
        /// The error as reported.
        error: String,
        /// Whether the component reported that a retry is pointless.
        no_retry: bool,
    },
}
