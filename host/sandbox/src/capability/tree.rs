//! The user's files as directories, for programs that use their language's ordinary file functions below `/files`.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::{QuotaKind, SaveOutcome};

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Id, which a rename does not change.
    pub id: String,
    /// Absolute path in the user's files.
    pub path: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether a rule allows GET on it; otherwise only its existence may be revealed.
    pub is_readable: bool,
    /// Bytes of the content; 0 for a directory.
    pub size: u64,
    /// Time of the last change.
    pub modified: SystemTime,
}

/// A directory and a name in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildRef<'a> {
    /// Id of the directory.
    pub directory: &'a str,
    /// Name.
    pub name: &'a str,
}

/// Destination of written content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A new file.
    New {
        /// Id of the directory.
        directory: String,
        /// Name.
        name: String,
    },
    /// The file with this id, even if it has been moved meanwhile.
    Existing(String),
}

/// Why an operation failed. Each variant maps to one WASI error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// It does not exist, or no rule covers it.
    #[error("it is not there")]
    NotFound,
    /// The name is taken.
    #[error("something else has that name")]
    AlreadyExists,
    /// It is a file where a directory is required.
    #[error("it is a file, not a directory")]
    NotDirectory,
    /// It is a directory where a file is required.
    #[error("it is a directory, not a file")]
    IsDirectory,
    /// The directory still has children.
    #[error("the directory is not empty")]
    NotEmpty,
    /// No rule of the manifest allows it; the message names the rule to add.
    #[error("{0}")]
    Denied(String),
    /// A directory cannot be moved into itself.
    #[error("a directory cannot be moved into itself")]
    MoveIntoItself,
    /// Not a valid file name; holds a valid alternative.
    #[error("a file cannot have that name; call it '{0}'")]
    InvalidName(String),
    /// The name is too long, or the directory too deep.
    #[error("the name is too long, or the directories are nested too deeply")]
    TooLong,
    /// A concurrent modification is in progress.
    #[error("somebody else is changing it at the same time")]
    Conflict,
    /// A quota of the user or a limit of the run is used up.
    #[error("the limit on {0} is used up")]
    QuotaExceeded(QuotaKind),
    /// The run is being ended.
    #[error("the run is being ended")]
    Cancelled,
    /// The run no longer holds its lease: it must end without another write.
    #[error("this run was given up and started again elsewhere")]
    LeaseLost,
    /// Any other failure.
    #[error("{0}")]
    Other(String),
}

/// The part of the user's files that the manifest's rules cover: GET reads and lists, POST creates, PUT and PATCH write
/// and rename, DELETE removes. Paths not covered by a rule are invisible, except for the directories above a covered
/// path, which can be traversed.
///
/// Every change is durable when its method returns. No method is called with an empty name, `.` or `..`.
#[async_trait]
pub trait Tree: Send + Sync {
    /// Returns the root directory.
    async fn root(&self) -> Result<Node, TreeError>;
    /// Returns a file or directory by its id.
    async fn node(&self, id: &str) -> Result<Node, TreeError>;
    /// Returns a child of a directory.
    async fn child(&self, at: ChildRef<'_>) -> Result<Node, TreeError>;
    /// Returns the next children of a directory after the name `after`, sorted by name; empty at the end.
    async fn children(&self, directory: &str, after: Option<&str>) -> Result<Vec<(String, Node)>, TreeError>;
    /// Opens a snapshot of the current content of a file.
    async fn open(&self, id: &str) -> Result<Box<dyn ContentReader>, TreeError>;
    /// Rejects writes that [`Draft::commit`] would reject later, as far as that is known now.
    async fn check_write(&self, to: &Destination) -> Result<(), TreeError>;
    /// Begins a draft, which does not belong to a file yet.
    async fn create_draft(&self) -> Result<Box<dyn Draft>, TreeError>;
    /// Creates a directory.
    async fn create_directory(&self, at: ChildRef<'_>) -> Result<Node, TreeError>;
    /// Moves a file or directory. An existing file at the destination receives the content and keeps its own id; an
    /// empty directory there is removed.
    async fn rename(&self, from: ChildRef<'_>, to: ChildRef<'_>) -> Result<(), TreeError>;
    /// Moves a file, or with `directory` an empty directory, to the trash.
    async fn remove(&self, at: ChildRef<'_>, directory: bool) -> Result<(), TreeError>;
}

/// Content that can be read.
#[async_trait]
pub trait ContentReader: Send {
    /// Bytes.
    fn size(&self) -> u64;
    /// Reads at most `max` bytes from `offset`; returns none at the end.
    async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, TreeError>;
}

/// Content to be written to a file; dropping it discards it.
#[async_trait]
pub trait Draft: Send {
    /// Appends a chunk.
    async fn write(&mut self, chunk: Bytes) -> Result<(), TreeError>;
    /// Returns all bytes written, instead of committing them.
    async fn into_bytes(self: Box<Self>) -> Result<Bytes, TreeError>;
    /// Makes the content visible as a whole; durable when it returns.
    async fn commit(self: Box<Self>, to: &Destination) -> Result<(Node, SaveOutcome), TreeError>;
}
