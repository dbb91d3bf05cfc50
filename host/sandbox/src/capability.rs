//! What a run may reach. The sandbox defines the interfaces, the platform implements them: whatever a guest can do that is not in
//! this file, it cannot do.

mod tree;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value};

pub use tree::{Content, Destination, Draft, Node, Place, Tree, TreeError};

use crate::http::Session;
pub use crate::http::{OwnApi, OwnBody, SecretsShown};
use crate::limits::Limits;

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
    pub api: Option<Arc<dyn OwnApi>>,
    /// What the run may use up.
    pub limits: Limits,
}

/// Why a capability did not do what it was asked: the WIT variant `types.error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
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
    QuotaExceeded(Quota),
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
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What ran out: the WIT enum `types.quota`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Bytes in the user's files.
    Storage,
    /// Number of files in this run.
    Files,
    /// Number of documents in this run.
    Documents,
    /// Number of requests in this run.
    Requests,
    /// Bytes over the network in this run.
    Traffic,
    /// Unfinished uploads at one time.
    Uploads,
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Storage => "storage",
            Self::Files => "files",
            Self::Documents => "documents",
            Self::Requests => "requests",
            Self::Traffic => "traffic",
            Self::Uploads => "unfinished uploads",
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
    async fn load_state(&self) -> Result<Option<Value>, Error>;
    /// Replaces the saved state as a whole. Durable when it returns.
    async fn save_state(&self, state: Value) -> Result<(), Error>;
    /// Keeps the cookie jar of the session, sealed; called once at the end of a run, however it ended.
    async fn save_session(&self, cookies: Option<Vec<u8>>) -> Result<(), Error>;
}

/// The WIT interfaces `secrets` and `reveal`. The sandbox masks every value it has seen here in all that leaves a run.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The secret fields with their values.
    fn all(&self) -> Vec<(String, String)>;
    /// Keeps a rotated credential. Durable when it returns.
    async fn put(&self, name: &str, value: &str) -> Result<(), Error>;
}

/// A document as the guest sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Document id.
    pub id: String,
    /// Revision.
    pub rev: String,
    /// Members, `_id` and `_rev` left out.
    pub body: Object,
}

/// A document to save under its natural key.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Natural key, unique for konnector, account and doctype.
    pub key: String,
    /// Members to set.
    pub body: Object,
}

/// What a keyed write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was not there before.
    Created,
    /// It was there and is different now.
    Updated,
    /// It was there and the same.
    Unchanged,
}

/// Answer to one saved item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Document id.
    pub id: String,
    /// Revision after the write.
    pub rev: String,
    /// What happened.
    pub written: Written,
}

/// One page of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The documents.
    pub items: Vec<Document>,
    /// Where the next page starts.
    pub next: Option<String>,
}

/// The WIT interface `documents`. Every method checks the manifest's rules.
#[async_trait]
pub trait Documents: Send + Sync {
    /// One document.
    async fn get(&self, doctype: &str, id: &str) -> Result<Document, Error>;
    /// Documents whose top-level members equal the selector's.
    async fn query(&self, doctype: &str, selector: Object, limit: u32, cursor: Option<String>) -> Result<Page, Error>;
    /// Creates or updates by key; all or nothing, durable when it returns.
    async fn save(&self, doctype: &str, items: Vec<Item>) -> Result<Vec<Saved>, Error>;
    /// Deletes by key.
    async fn delete(&self, doctype: &str, keys: Vec<String>) -> Result<u32, Error>;
}

/// Where a file goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Folder below the account's folder.
    pub folder: String,
    /// Name, not yet sanitised.
    pub name: String,
    /// Natural key.
    pub key: Option<String>,
    /// Media type.
    pub mime: Option<String>,
    /// Creation date in milliseconds since 1970.
    pub created_at: Option<u64>,
    /// The file's `metadata`.
    pub metadata: Object,
}

/// A stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// File id.
    pub id: String,
    /// Path in the user's files.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Media type.
    pub mime: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// What happened.
    pub written: Written,
}

/// The WIT interface `files`. Every method checks the manifest's rules.
#[async_trait]
pub trait Files: Send + Sync {
    /// The files with these keys, in the same order.
    async fn lookup(&self, keys: Vec<String>) -> Result<Vec<Option<Stored>>, Error>;
    /// Begins an upload. Refuses at once what the rules or the name forbid.
    async fn create(&self, target: Target) -> Result<Box<dyn Upload>, Error>;
    /// A part of a file's content.
    async fn read(&self, id: &str, offset: u64, max: u32) -> Result<Bytes, Error>;
    /// Moves files to the trash by key.
    async fn remove(&self, keys: Vec<String>) -> Result<u32, Error>;
}

/// An unfinished upload; dropping it forgets it.
#[async_trait]
pub trait Upload: Send {
    /// Appends.
    async fn write(&mut self, chunk: Bytes) -> Result<(), Error>;
    /// Makes the content visible as a whole; durable when it returns.
    async fn commit(self: Box<Self>) -> Result<Stored, Error>;
}

/// How a one-time code reaches the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Text message.
    Sms,
    /// Electronic mail.
    Email,
    /// A code that an application shows.
    AppCode,
    /// A confirmation inside the vendor's application; there is no code to type.
    AppApproval,
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
    /// Asks for a one-time code; the sandbox stops the wall clock meanwhile.
    async fn ask_code(&self, medium: Medium, hint: &str) -> Result<String, Error>;
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
    pub after: Duration,
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
    fn line(&self, line: LogLine);
}
