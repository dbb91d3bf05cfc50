//! Errors of commands, with advice for the user.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use konnector_manifest::untrusted::truncate_middle;

use crate::output::{Mark, eprint_marked, escape_json};

/// Maximum size of a message in bytes; limited, because messages may quote names of any length that others chose.
const MAX_MESSAGE_SIZE: usize = 4_000;

/// Result with this program's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failure of a command. The message says what happened; `advice` says what to do, unless the message says it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong or incomplete.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        advice: String,
    },
    /// The command failed.
    #[error("{message}")]
    Failed {
        /// What happened.
        message: String,
        /// What to do; empty if the message says it.
        advice: String,
    },
    /// The master key does not match the data. The server must not start, and must not be restarted in a loop either.
    #[error("{0}")]
    KeyMismatch(String),
}

/// Exit code of usage errors, by the convention of shells and clap.
pub const EXIT_USAGE: u8 = 2;
/// `EX_CONFIG` of sysexits(3).
const EXIT_KEY_MISMATCH: u8 = 78;

impl Error {
    /// Creates a usage error.
    pub fn usage(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Usage {
            message: truncate_middle(message.into(), MAX_MESSAGE_SIZE),
            advice: truncate_middle(advice.into(), MAX_MESSAGE_SIZE),
        }
    }

    /// Creates a failure with advice.
    pub fn failed(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Failed {
            message: truncate_middle(message.into(), MAX_MESSAGE_SIZE),
            advice: truncate_middle(advice.into(), MAX_MESSAGE_SIZE),
        }
    }

    /// Creates a failure whose message says what to do.
    pub fn message(message: impl ToString) -> Self {
        Self::failed(message.to_string(), "")
    }

    /// Returns the exit code of the program.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed { .. } => 1,
            Self::Usage { .. } => EXIT_USAGE,
            Self::KeyMismatch(_) => EXIT_KEY_MISMATCH,
        })
    }

    /// Prints the error as JSON on standard error.
    pub fn print_json(&self) {
        let advice = match self {
            Self::Usage { advice, .. } | Self::Failed { advice, .. } => advice.as_str(),
            Self::KeyMismatch(_) => "",
        };
        let kind = match self {
            Self::Usage { .. } => "usage",
            Self::Failed { .. } => "failed",
            Self::KeyMismatch(_) => "key",
        };
        let error = serde_json::json!({ "error": { "kind": kind, "message": self.to_string(), "advice": advice } });
        eprintln!("{}", escape_json(&format!("{error:#}")));
    }

    /// Prints the error and its advice for people.
    pub fn print(&self) {
        eprint_marked(Mark::Error, &self.to_string());
        if let Self::Usage { advice, .. } | Self::Failed { advice, .. } = self
            && !advice.is_empty()
        {
            crate::output::advice(advice);
        }
    }
}

/// Converts an operating system error of an operation without a file. `action` is a gerund, as in "reading the code".
pub fn io(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::failed(format!("{action} failed: {error}"), "")
}

/// Converts an operating system error on a file. `action` is an infinitive, as in "read".
pub fn file<'a>(action: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("run the command as the owner of {}, or choose another path", nearest_existing(path).display())
            }
            io::ErrorKind::NotFound => "check the path".to_owned(),
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                "choose another path: something else has this name".to_owned()
            }
            io::ErrorKind::StorageFull => "free some disk space".to_owned(),
            _ => String::new(),
        };
        Error::failed(format!("cannot {action} {}: {error}", path.display()), advice)
    }
}

/// Returns the file, or its nearest existing ancestor folder.
fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

impl From<konnector_platform::Error> for Error {
    fn from(error: konnector_platform::Error) -> Self {
        match error {
            konnector_platform::Error::KeyMismatch(message) => Self::KeyMismatch(message),
            other => Self::message(other),
        }
    }
}

impl From<konnector_store::Error> for Error {
    fn from(error: konnector_store::Error) -> Self {
        match error {
            konnector_store::Error::KeyFile { .. } => Self::KeyMismatch(error.to_string()),
            other => Self::message(other),
        }
    }
}

impl From<konnector_sandbox::Error> for Error {
    fn from(error: konnector_sandbox::Error) -> Self {
        Self::message(error)
    }
}

impl From<konnector_egress::SetupError> for Error {
    fn from(error: konnector_egress::SetupError) -> Self {
        Self::message(error)
    }
}

impl From<konnector_manifest::Error> for Error {
    fn from(error: konnector_manifest::Error) -> Self {
        Self::message(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_place_of_a_folder_is_explained() {
        let found = tempfile::NamedTempFile::new().unwrap();
        for path in [found.path().to_owned(), found.path().join("below")] {
            let error = std::fs::create_dir_all(&path).unwrap_err();
            let Error::Failed { advice, .. } = file("create", &path)(error) else { panic!("a failure") };
            assert_eq!(advice, "choose another path: something else has this name");
        }
    }
}
