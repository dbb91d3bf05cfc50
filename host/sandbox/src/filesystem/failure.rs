//! What a function of the file system answers instead of a result: an error code of WASI, which a guest's standard library turns into an
//! `std::io::Error`, or the end of the run.

use super::bindings::wasi::filesystem::types::ErrorCode;
use super::path::PathError;
use crate::capability::{Quota, TreeError};
use crate::host::Halt;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The guest is told this code.
    #[error("{0}")]
    Code(ErrorCode),
    /// The run ends.
    #[error("the run ends: {0}")]
    End(wasmtime::Error),
}

/// Answer of a function of the file system.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        Self::End(halt.into())
    }
}

impl From<wasmtime::component::ResourceTableError> for Failure {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::End(error.into())
    }
}

impl From<PathError> for ErrorCode {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Empty => Self::NoEntry,
            PathError::Absolute | PathError::Escapes => Self::NotPermitted,
            PathError::TooLong => Self::NameTooLong,
            PathError::Nul => Self::Invalid,
        }
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        Self::Code(error.into())
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        Self::Code(match error {
            TreeError::LeaseLost => return Halt::LeaseLost.into(),
            TreeError::NotFound => ErrorCode::NoEntry,
            TreeError::Exists => ErrorCode::Exist,
            TreeError::NotDirectory => ErrorCode::NotDirectory,
            TreeError::IsDirectory => ErrorCode::IsDirectory,
            TreeError::NotEmpty => ErrorCode::NotEmpty,
            TreeError::Denied(_) => ErrorCode::Access,
            TreeError::Name(_) | TreeError::Invalid => ErrorCode::Invalid,
            TreeError::TooLong => ErrorCode::NameTooLong,
            TreeError::Changed => ErrorCode::Busy,
            TreeError::Full(Quota::Storage) => ErrorCode::InsufficientSpace,
            TreeError::Full(_) => ErrorCode::Quota,
            // Not `interrupted`: standard libraries try that again, for ever.
            TreeError::Cancelled | TreeError::Other(_) => ErrorCode::Io,
        })
    }
}

/// What a stream answers.
impl From<Failure> for wasmtime_wasi::p2::StreamError {
    fn from(failure: Failure) -> Self {
        match failure {
            // `filesystem-error-code` finds the code in it again.
            Failure::Code(code) => Self::LastOperationFailed(code.into()),
            Failure::End(error) => Self::Trap(error),
        }
    }
}
