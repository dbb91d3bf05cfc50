//! The user's files as directories, for programs that use their language's ordinary file functions below `/files`.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::{QuotaKind, SaveOutcome};

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Id, which stays when it is renamed.
    pub id: String,
    /// Absolute path in the user's files.
    pub path: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether a rule allows GET on it: otherwise only that it is there may be known.
    pub is_readable: bool,
    /// Bytes of the content; 0 for a directory.
    pub size: u64,
    /// When it last changed.
    pub modified: SystemTime,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildRef<'a> {
    /// Id of the directory.
    pub directory: &'a str,
    /// Name.
    pub name: &'a str,
}

/// Where content goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file that is not there yet.
    New {
        /// Id of the directory.
        directory: String,
        /// Name.
        name: String,
    },
    /// The file with this id, wherever it was moved meanwhile.
    Existing(String),
}

/// Why it was not done. Each is one error code of WASI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// It does not exist, or no rule shows it.
    #[error("it is not there")]
    NotFound,
    /// The name is taken.
    #[error("something else has that name")]
    AlreadyExists,
    /// It is a file.
    #[error("it is a file, not a directory")]
    NotDirectory,
    /// It is a directory.
    #[error("it is a directory, not a file")]
    IsDirectory,
    /// The directory still has children.
    #[error("the directory is not empty")]
    NotEmpty,
    /// No rule of the manifest allows it; the text names the rule to add.
    #[error("{0}")]
    Denied(String),
    /// A directory cannot be moved into itself.
    #[error("a directory cannot be moved into itself")]
    MoveIntoItself,
    /// Not a name that a file may have; the text is one that it could have instead.
    #[error("a file cannot have that name; call it '{0}'")]
    InvalidName(String),
    /// The name is too long, or the directory too deep.
    #[error("the name is too long, or the directories are nested too deeply")]
    TooLong,
    /// Somebody else is changing it.
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
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The part of the user's files that the manifest's rules reach: GET reads and lists, POST creates, PUT and PATCH write and rename, DELETE
/// removes. What no rule reaches is not there; directories above something that a rule reaches are, to walk through.
///
/// Every change is durable when its method returns. No method is called with an empty name, `.` or `..`.
#[async_trait]
pub trait Tree: Send + Sync {
    /// The topmost directory.
    async fn root(&self) -> Result<Node, TreeError>;
    /// A file or directory by its id.
    async fn node(&self, id: &str) -> Result<Node, TreeError>;
    /// A child of a directory.
    async fn child(&self, at: ChildRef<'_>) -> Result<Node, TreeError>;
    /// The next children of a directory, in the order of their names, after `after`; empty at the end.
    async fn children(&self, directory: &str, after: Option<&str>) -> Result<Vec<(String, Node)>, TreeError>;
    /// The content of a file, as it is now and stays for this reader.
    async fn open(&self, id: &str) -> Result<Box<dyn ContentReader>, TreeError>;
    /// Refuses what [`Draft::commit`] would refuse later, as far as it can be known now.
    async fn check_write(&self, to: &Destination) -> Result<(), TreeError>;
    /// Begins content, which belongs to no file yet.
    async fn create_draft(&self) -> Result<Box<dyn Draft>, TreeError>;
    /// Makes a directory.
    async fn create_directory(&self, at: ChildRef<'_>) -> Result<Node, TreeError>;
    /// Moves a file or directory. A file in its new place gets the content and keeps its own id; an empty directory there goes.
    async fn rename(&self, from: ChildRef<'_>, to: ChildRef<'_>) -> Result<(), TreeError>;
    /// Moves a file, or with `directory` an empty directory, to the trash.
    async fn remove(&self, at: ChildRef<'_>, directory: bool) -> Result<(), TreeError>;
}

/// Content that can be read.
#[async_trait]
pub trait ContentReader: Send {
    /// Bytes.
    fn size(&self) -> u64;
    /// At most `max` bytes from `offset`; nothing at the end.
    async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, TreeError>;
}

/// Content on its way to a file; dropping it forgets it.
#[async_trait]
pub trait Draft: Send {
    /// Appends.
    async fn write(&mut self, chunk: Bytes) -> Result<(), TreeError>;
    /// All that was written, instead of committing it.
    async fn into_bytes(self: Box<Self>) -> Result<Bytes, TreeError>;
    /// Makes the content visible as a whole; durable when it returns.
    async fn commit(self: Box<Self>, to: &Destination) -> Result<(Node, SaveOutcome), TreeError>;
}
