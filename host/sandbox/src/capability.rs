//! What a run may reach. The sandbox defines the interfaces, the platform implements them: whatever a guest can do that is not in
//! this file, it cannot do.

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
use konnector_egress::Session;
pub use konnector_egress::{InternalApi, InternalBody, MayContainSecrets};

/// A JSON object.
pub type Object = Map<String, Value>;

/// Everything that one run is given.
#[derive(Clone)]
pub struct Capabilities {
    /// The account the run works for.
    pub account: Arc<dyn Account>,
    /// The account's secrets.
    pub secrets: Arc<dyn Secrets>,
    /// The user's documents, within the manifest's rules.
    pub documents: Arc<dyn Documents>,
    /// The user's files, within the manifest's rules.
    pub files: Arc<dyn Files>,
    /// The same files as the directory `/files`. `None` where no rule reaches any: then there is no such directory.
    pub tree: Option<Arc<dyn Tree>>,
    /// Who watches the run.
    pub progress: Arc<dyn Progress>,
    /// Where log lines go, secrets already masked and the budget already applied.
    pub log: Arc<dyn Log>,
    /// The only way out to the network.
    pub http: Arc<Session>,
    /// Our own API, for a command component.
    pub api: Option<Arc<dyn InternalApi>>,
    /// What the run may use up.
    pub limits: Limits,
}

/// Why a capability did not do what it was asked: the WIT variant `types.error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// No rule of the manifest allows it; the text names the rule to add.
    #[error("{0}")]
    Denied(String),
    /// It does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// Somebody else changed it, or the name is taken.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Larger than accepted; the limit in bytes.
    #[error("larger than the limit of {0} bytes")]
    TooLarge(u64),
    /// A quota of the user or a limit of the run is used up.
    #[error("the limit on {0} is used up")]
    QuotaExceeded(QuotaKind),
    /// An argument is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Nobody can answer a question.
    #[error("nobody is there to answer")]
    Unattended,
    /// The run is being ended.
    #[error("the run is being ended")]
    Cancelled,
    /// The run no longer holds its lease: it must end without another write.
    #[error("this run was given up and started again elsewhere")]
    LeaseLost,
    /// The host failed, for a reason that has no case here.
    #[error("{0}")]
    Internal(String),
}

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// Bytes in the user's files: their space, not the run's.
    Storage,
    /// Bytes written to files in this run.
    FileBytes,
    /// Number of files in this run.
    Files,
    /// Number of documents in this run.
    Documents,
    /// Unfinished uploads at one time.
    Uploads,
    /// Files open at one time.
    OpenFiles,
    /// Memory of the run, which unfinished uploads take with their metadata.
    Memory,
    /// Secrets, and their bytes, that a run may know.
    Secrets,
    /// Questions to the user, and the time that is waited for answers, in this run.
    Questions,
}

impl std::fmt::Display for QuotaKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Storage => "storage",
            Self::Files => "files",
            Self::Documents => "documents",
            Self::FileBytes => "bytes written to files",
            Self::Uploads => "unfinished uploads",
            Self::OpenFiles => "open files",
            Self::Memory => "memory",
            Self::Secrets => "secrets",
            Self::Questions => "questions to the user",
        })
    }
}

/// What the account interface tells of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// Document id.
    pub id: String,
    /// Slug of the konnector that runs.
    pub konnector: String,
    /// Name the user sees.
    pub name: Option<String>,
    /// What identifies the account at the vendor.
    pub identifier: Option<String>,
}

/// The WIT interface `account`.
#[async_trait]
pub trait Account: Send + Sync {
    /// `None` for a konnector without account.
    fn describe(&self) -> Option<AccountInfo>;
    /// The fields without the secrets.
    fn fields(&self) -> Object;
    /// What an earlier run saved.
    async fn load_state(&self) -> Result<Option<Value>, CapabilityError>;
    /// Replaces the saved state as a whole. Durable when it returns.
    async fn save_state(&self, state: Value) -> Result<(), CapabilityError>;
    /// Keeps the cookie jar of the session, sealed; called once at the end of a run, however it ended.
    async fn save_session(&self, cookies: Option<Vec<u8>>) -> Result<(), CapabilityError>;
}

/// The WIT interfaces `secrets` and `reveal`. The sandbox masks every value it has seen here in all that leaves a run.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The secret fields with their values.
    fn values(&self) -> Vec<(String, String)>;
    /// Whether the konnector may put a value under this name.
    ///
    /// # Errors
    ///
    /// [`CapabilityError::Denied`] for what the user typed; the sentence says what to declare.
    fn check_put(&self, name: &str) -> Result<(), CapabilityError>;
    /// Keeps a rotated credential. Durable when it returns.
    async fn put(&self, name: &str, value: &str) -> Result<(), CapabilityError>;
}

/// Names one document or file: the WIT variant `types.locator`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Locator {
    /// By its id.
    Id(String),
    /// By the natural key that it was saved under.
    Key(String),
}

/// What a keyed write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveOutcome {
    /// It was not there before.
    Created,
    /// It was there and is different now.
    Updated,
    /// It was there and the same.
    Unchanged,
}

/// How a one-time code reaches the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeChannel {
    /// Text message.
    Sms,
    /// Electronic mail.
    Email,
    /// A voice that says it.
    PhoneCall,
    /// An application that shows it.
    App,
    /// The vendor does not say, or it is no code but an answer.
    Unspecified,
}

/// A question for a one-time code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// How the code reaches the user.
    pub channel: CodeChannel,
    /// Where to look, or what is asked.
    pub hint: String,
    /// The vendor refused the code that was given before.
    pub is_retry: bool,
}

/// The WIT interface `progress`, except for the run's clock, which the sandbox keeps itself.
#[async_trait]
pub trait Progress: Send + Sync {
    /// How far the run is. May be lost.
    fn report(&self, done: u64, total: Option<u64>, label: &str);
    /// The vendor accepted the credentials.
    fn login_succeeded(&self);
    /// A command component wrote a message: a type of any name, and a text. May be lost.
    fn message(&self, kind: &str, message: &str);
    /// Asks for a one-time code; the sandbox stops the wall clock meanwhile. [`CapabilityError::Unattended`] once nobody has answered `within` this time.
    async fn ask_code(&self, question: Question, within: Duration) -> Result<String, CapabilityError>;
    /// Tells the user to approve the login in the vendor's application, and does not wait.
    async fn request_approval(&self, hint: &str) -> Result<(), CapabilityError>;
}

/// How much a log line matters. No level decides how a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For the author.
    Debug,
    /// Normal course.
    Info,
    /// Something was not as expected; the run goes on.
    Warn,
    /// Something failed.
    Error,
}

/// One line, masked, without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Since the start of the run.
    pub elapsed: Duration,
    /// Level.
    pub level: Level,
    /// Text, at most 8 KiB.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

/// Where log lines go. Must neither block nor fail.
pub trait Log: Send + Sync {
    /// Takes a line.
    fn write_line(&self, line: LogLine);
}
