//! Capabilities of a run. The sandbox defines the interfaces and the platform implements them. A guest can affect the
//! outside world only through the interfaces in this file.

mod documents;
mod files;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};

pub use documents::{Change, Document, Documents, Item, Order, Page, Query, Range, SavedDocument};
pub use files::{Details, Entry, File, Files, Folder, Listing, OpenFile, Reference, SavedFile, Target, Upload};
pub use tree::{ChildRef, ContentReader, Destination, Draft, Node, Tree, TreeError};

pub use crate::clock::CpuExhausted;
use crate::limits::Limits;
pub use crate::request_cpu::RequestCpuMeter;
pub use konnector_egress::{InternalApi, InternalBody, MayContainSecrets};
use konnector_egress::{Session, text};
use konnector_manifest::{Limit, Unit};

/// A JSON object.
pub type Object = Map<String, Value>;

/// All capabilities of one run.
#[derive(Clone)]
pub struct Capabilities {
    /// The account for which the run works.
    pub account: Arc<dyn Account>,
    /// Secrets of the account.
    pub secrets: Arc<dyn Secrets>,
    /// The user's documents, within the manifest's rules.
    pub documents: Arc<dyn Documents>,
    /// The user's files, within the manifest's rules.
    pub files: Arc<dyn Files>,
    /// The same files as the directory `/files`. `None` if no rule covers any file; the directory does not exist then.
    pub tree: Option<Arc<dyn Tree>>,
    /// Receives the progress of the run.
    pub progress: Arc<dyn Progress>,
    /// Receives log lines, with secrets already masked and the budget already applied.
    pub log: Arc<dyn Log>,
    /// HTTP session, the only access to the network.
    pub http: Arc<Session>,
    /// The internal API, for a command component.
    pub api: Option<Arc<dyn InternalApi>>,
    /// Limits of the run.
    pub limits: Limits,
}

/// Why a capability rejected a call or failed (the WIT variant `types.error`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// No rule of the manifest allows the call; the message names the rule to add.
    #[error("{0}")]
    Denied(String),
    /// The document, file or secret does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// The target was changed concurrently, or the name is taken.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The value is too large; holds the limit in bytes.
    #[error("the value is larger than the limit of {0} bytes")]
    TooLarge(u64),
    /// A quota of the user or a limit of the run is exhausted.
    #[error("{0}")]
    QuotaExceeded(QuotaKind),
    /// An argument is not valid; the message names it.
    #[error("{0}")]
    Invalid(String),
    /// The run is unattended, so no user can answer a question.
    #[error("the run is unattended; it cannot ask the user")]
    Unattended,
    /// The run is being cancelled.
    #[error("the run is being cancelled")]
    Cancelled,
    /// The run no longer holds its lease, so it must end without another write.
    #[error("the run was abandoned because another worker restarted the job")]
    LeaseLost,
    /// The host failed for a reason that has no variant here.
    #[error("{0}")]
    Internal(String),
}

/// Kind of the exhausted quota. Displayed as a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// Number of bytes in the user's files, limited by the quota of the user, not of the run.
    Storage,
    /// A limit of the run that a manifest can raise.
    Limit {
        /// The limit.
        limit: Limit,
        /// Its value for this run, in bytes or items.
        value: u64,
    },
    /// Number of secrets that a run may know, and the number of their bytes.
    Secrets,
    /// Number of questions to the user, and the time spent waiting for answers, in this run.
    Questions,
}

impl std::fmt::Display for QuotaKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Storage => f.write_str("no storage space is left"),
            Self::Limit { limit, value } => match limit.unit() {
                Unit::Count | Unit::Seconds => write!(f, "the run's limit {limit} of {value} has been reached"),
                Unit::KiB | Unit::MiB => {
                    write!(f, "the run's limit {limit} of {} has been reached", text::ByteSize(*value))
                }
            },
            Self::Secrets => f.write_str("the limit on secrets has been reached"),
            Self::Questions => f.write_str("the limit on questions to the user has been reached"),
        }
    }
}

/// Account data that the account interface exposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// Id of the account's document.
    pub id: String,
    /// Slug of the konnector that runs.
    pub konnector: String,
    /// Name that the user sees.
    pub name: Option<String>,
    /// Identifier of the account at the vendor.
    pub identifier: Option<String>,
}

/// The WIT interface `account`.
#[async_trait]
pub trait Account: Send + Sync {
    /// Returns the account; `None` for a konnector without one.
    fn describe(&self) -> Option<AccountInfo>;
    /// Returns the fields without the secrets.
    fn fields(&self) -> Object;
    /// Returns the state that an earlier run saved.
    async fn load_state(&self) -> Result<Option<Value>, CapabilityError>;
    /// Replaces the saved state as a whole. Durable when it returns.
    async fn save_state(&self, state: Value) -> Result<(), CapabilityError>;
    /// Saves the sealed cookie jar of the session; called once at the end of each run, even if it failed.
    async fn save_session(&self, cookies: Option<Vec<u8>>) -> Result<(), CapabilityError>;
}

/// The WIT interfaces `secrets` and `reveal`. The sandbox masks every value from these interfaces in all output of a
/// run.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// Returns the secret fields with their values.
    fn values(&self) -> Vec<(String, String)>;
    /// Checks whether the konnector may put a value under this name.
    ///
    /// # Errors
    ///
    /// [`CapabilityError::Denied`] for a field that the user entered; the message says what to declare.
    fn check_put(&self, name: &str) -> Result<(), CapabilityError>;
    /// Saves a rotated credential. Durable when it returns.
    async fn put(&self, name: &str, value: &str) -> Result<(), CapabilityError>;
}

/// Identifies one document or file (the WIT variant `types.locator`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Locator {
    /// By its id.
    Id(String),
    /// By the natural key under which the item was saved.
    Key(String),
}

/// Effect of a save on one document or file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveOutcome {
    /// The item did not exist before.
    Created,
    /// The item existed and was changed.
    Updated,
    /// The item existed and was identical, so nothing was written.
    Unchanged,
}

/// How a one-time code reaches the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeChannel {
    /// Text message.
    Sms,
    /// Electronic mail.
    Email,
    /// A phone call in which a voice reads the code.
    PhoneCall,
    /// An app that shows the code.
    App,
    /// The vendor does not state a channel, or the question asks for an answer that is not a code.
    Unspecified,
}

/// A question for a one-time code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// How the code reaches the user.
    pub channel: CodeChannel,
    /// Where the user finds the code, or what the question is.
    pub hint: String,
    /// Whether the vendor rejected the previous code.
    pub is_retry: bool,
}

/// The WIT interface `progress`, except for the run's clock, which the sandbox implements itself.
#[async_trait]
pub trait Progress: Send + Sync {
    /// Reports the progress of the run. May be lost.
    fn report(&self, done: u64, total: Option<u64>, label: &str);
    /// Reports that the vendor accepted the credentials.
    fn login_succeeded(&self);
    /// Reports a message of a command component, with an arbitrary type and a text. May be lost.
    fn message(&self, kind: &str, message: &str);
    /// Asks for a one-time code; the sandbox stops the wall clock in the meantime. Fails with
    /// [`CapabilityError::Unattended`] if the user does not answer within the time `within`.
    async fn ask_code(&self, question: Question, within: Duration) -> Result<String, CapabilityError>;
    /// Asks the user to approve the login in the vendor's app, and does not wait.
    async fn request_approval(&self, hint: &str) -> Result<(), CapabilityError>;
}

/// Severity of a log line. The level does not affect the outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Detail for the konnector's author.
    Debug,
    /// An expected event.
    Info,
    /// Something was not as expected; the run continues.
    Warn,
    /// A failure.
    Error,
}

/// One line, masked, without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Time since the start of the run.
    pub elapsed: Duration,
    /// Severity of the line.
    pub level: Level,
    /// Text, at most 8 KiB.
    pub message: String,
    /// Names and values of the structured fields.
    pub fields: Vec<(String, String)>,
}

/// Receives log lines. Must neither block nor fail.
pub trait Log: Send + Sync {
    /// Receives one line, in the order in which the run wrote it.
    fn write_line(&self, line: LogLine);
}
