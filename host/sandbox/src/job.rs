//! What a run is started with, and what it answers: the WIT interface `run` in the host's own types.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why a run is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunCause {
    /// Somebody asked for it.
    Manual,
    /// Its time came.
    Schedule,
    /// A document changed.
    Event,
    /// A webhook was called.
    Webhook,
    /// The run before failed in a way that is worth another try.
    Retry,
    /// The user deleted the account: what the vendor keeps for it is to be undone.
    AccountDeleted,
}

/// One execution of a konnector.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInput {
    /// Id of the job, the same for all its executions.
    pub id: String,
    /// 1 for the first execution.
    pub attempt: u32,
    /// Why it is started.
    pub cause: RunCause,
    /// When the last run of the account began that was a success, in milliseconds since 1970.
    pub last_success: Option<i64>,
    /// The manifest's `parameters`.
    pub parameters: Map<String, Value>,
    /// What a webhook was sent.
    pub payload: Option<Value>,
    /// The user's language, for example `fr`.
    pub locale: String,
    /// IANA name of the user's time zone.
    pub time_zone: String,
    /// The job's message as it was pushed, unknown members included. Only command components read it, and what follows.
    pub message: Value,
    /// The trigger that pushed it.
    pub trigger: Option<String>,
    /// The manifest's `language`.
    pub language: String,
}

/// One item that could not be saved while the rest was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which item.
    pub item: String,
    /// What is wrong.
    pub message: String,
}

/// What a run that came to its end tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Items that were left out, with a last one in place of those beyond the limit.
    pub problems: Vec<Problem>,
    /// How many items were left out in all.
    pub problem_count: u64,
}

/// What the user must do at the vendor.
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
    /// The account is no longer there.
    AccountRemoved,
    /// The vendor asks for other permissions.
    PermissionsChanged,
    /// Something else; the text says what.
    Unspecified,
}

/// Why a konnector says that it failed. Each case has one error code, one retry rule and one sentence for the user; texts are the
/// konnector's own, masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
pub enum Failure {
    /// The vendor refused the credentials.
    BadCredentials(String),
    /// The account lacks a field that this login needs.
    MissingCredentials(String),
    /// The vendor locked the account for a while.
    TooManyAttempts(String),
    /// The user must do something at the vendor.
    UserAction(UserAction, String),
    /// A one-time code was not given in time.
    CodeMissing(String),
    /// A one-time code was refused.
    #[serde(rename = "code_refused")]
    CodeRejected(String),
    /// The vendor asks for a proof that the konnector cannot give.
    ChallengeUnsupported(String),
    /// A captcha could not be solved.
    CaptchaFailed(String),
    /// The vendor does not answer.
    VendorDown(String),
    /// The vendor says that it cannot answer.
    VendorMaintenance(String),
    /// Seconds after which the vendor may be asked again.
    RateLimited(Option<u32>),
    /// The site is not as the konnector expects it.
    VendorChanged(String),
    /// A permission is missing from the manifest.
    Denied(String),
    /// The user's space is used up.
    StorageFull(String),
    /// A limit of the run was reached before everything was done.
    LimitReached(String),
    /// The konnector ended because it was told to.
    Cancelled,
    /// The host failed.
    HostFailed(String),
    /// The konnector found itself to be wrong.
    Bug(String),
    /// A command component's own words: an error code of Cozy's vocabulary, or any text (Cozy API, konnector run-time contract, §6.3).
    #[serde(rename = "told")]
    Custom {
        /// What it said.
        error: String,
        /// It said that trying again is of no use.
        no_retry: bool,
    },
}
