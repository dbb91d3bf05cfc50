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
    /// Whether the node is a directory.
    pub is_directory: bool,
    /// Whether a rule allows GET on the node; otherwise only its existence may be revealed.
    pub is_readable: bool,
    /// Size of the content in bytes; 0 for a directory.
    pub size: u64,
    /// Time of the last change.
    pub modified: SystemTime,
}

/// A directory and a name in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildRef<'a> {
    /// Id of the directory.
    pub directory: &'a str,
    /// Name of the child.
    pub name: &'a str,
}

/// Destination of written content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file to be created.
    New {
        /// Id of the directory.
        directory: String,
        /// Name of the new file.
        name: String,
    },
    /// The file with this id, even if it has been moved in the meantime.
    Existing(String),
}

/// Why an operation failed. Each variant maps to one WASI error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The path does not exist, or no rule covers it.
    #[error("file or directory not found")]
    NotFound,
    /// The name is taken.
    #[error("the name is already taken")]
    AlreadyExists,
    /// A directory is required, but the path is a file.
    #[error("the path is a file, not a directory")]
    NotDirectory,
    /// A file is required, but the path is a directory.
    #[error("the path is a directory, not a file")]
    IsDirectory,
    /// The directory still has children.
    #[error("the directory is not empty")]
    NotEmpty,
    /// No rule of the manifest allows the operation; the message names the rule to add.
    #[error("{0}")]
    Denied(String),
    /// A directory cannot be moved into itself.
    #[error("a directory cannot be moved into itself")]
    MoveIntoItself,
    /// Not a valid file name; holds a valid alternative.
    #[error("the file name is not valid; use '{0}' instead")]
    InvalidName(String),
    /// The name is too long, or the directory too deep.
    #[error("the name is too long, or the directory is nested too deeply")]
    TooLong,
    /// A concurrent modification is in progress.
    #[error("a concurrent modification is in progress")]
    Conflict,
    /// A quota of the user or a limit of the run is exhausted.
    #[error("{0}")]
    QuotaExceeded(QuotaKind),
    /// The run is being cancelled.
    #[error("the run is being cancelled")]
    Cancelled,
    /// The run no longer holds its lease, so it must end without another write.
    #[error("the run was abandoned because another worker restarted the job")]
    LeaseLost,
    /// Any other failure; the message describes it.
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
    async fn child(&self, child: ChildRef<'_>) -> Result<Node, TreeError>;
    /// Returns the next children of a directory after the name `after`, sorted by name; empty at the end.
    async fn children(&self, directory: &str, after: Option<&str>) -> Result<Vec<(String, Node)>, TreeError>;
    /// Opens a snapshot of the current content of a file.
    async fn open(&self, id: &str) -> Result<Box<dyn ContentReader>, TreeError>;
    /// Rejects writes that [`Draft::commit`] would reject later, as far as that is known now.
    async fn check_write(&self, to: &Destination) -> Result<(), TreeError>;
    /// Begins a draft, which does not belong to a file yet.
    async fn create_draft(&self) -> Result<Box<dyn Draft>, TreeError>;
    /// Creates an empty directory and returns it.
    async fn create_directory(&self, child: ChildRef<'_>) -> Result<Node, TreeError>;
    /// Moves a file or directory. An existing file at the destination receives the content and keeps its own id; an
    /// empty directory there is removed.
    async fn rename(&self, from: ChildRef<'_>, to: ChildRef<'_>) -> Result<(), TreeError>;
    /// Moves a file, or with `directory` an empty directory, to the trash.
    async fn remove(&self, child: ChildRef<'_>, directory: bool) -> Result<(), TreeError>;
}

/// Snapshot of a file's content.
#[async_trait]
pub trait ContentReader: Send {
    /// Returns the size in bytes.
    fn size(&self) -> u64;
    /// Reads at most `max` bytes from `offset`; returns none at the end.
    async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, TreeError>;
}

/// Content to be written to a file. Dropping the draft discards the content.
#[async_trait]
pub trait Draft: Send {
    /// Appends a chunk.
    async fn write(&mut self, chunk: Bytes) -> Result<(), TreeError>;
    /// Returns all bytes written, instead of committing them.
    async fn into_bytes(self: Box<Self>) -> Result<Bytes, TreeError>;
    /// Makes the content visible as a whole; durable when it returns.
    async fn commit(self: Box<Self>, to: &Destination) -> Result<(Node, SaveOutcome), TreeError>;
}
