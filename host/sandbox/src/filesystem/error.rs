//! What a function of the file system answers instead of a result: an error code of WASI, which a guest's standard library turns into an
//! `std::io::CapabilityError`, or the end of the run.

use super::bindings::wasi::filesystem::types::ErrorCode;
use super::path::PathError;
use crate::capability::{QuotaKind, TreeError};
use crate::host::LeaseLost;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum FilesystemError {
    /// The guest is told this code.
    #[error("{0}")]
    Code(ErrorCode),
    /// The run ends.
    #[error("the run ends: {0}")]
    Trap(wasmtime::Error),
}

/// Answer of a function of the file system.
pub(crate) type Result<T, E = FilesystemError> = std::result::Result<T, E>;

impl From<ErrorCode> for FilesystemError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<LeaseLost> for FilesystemError {
    fn from(halt: LeaseLost) -> Self {
        Self::Trap(halt.into())
    }
}

impl From<wasmtime::component::ResourceTableError> for FilesystemError {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Trap(error.into())
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

impl From<PathError> for FilesystemError {
    fn from(error: PathError) -> Self {
        Self::Code(error.into())
    }
}

impl From<TreeError> for FilesystemError {
    fn from(error: TreeError) -> Self {
        Self::Code(match error {
            TreeError::LeaseLost => return LeaseLost::LeaseLost.into(),
            TreeError::NotFound => ErrorCode::NoEntry,
            TreeError::AlreadyExists => ErrorCode::Exist,
            TreeError::NotDirectory => ErrorCode::NotDirectory,
            TreeError::IsDirectory => ErrorCode::IsDirectory,
            TreeError::NotEmpty => ErrorCode::NotEmpty,
            TreeError::Denied(_) => ErrorCode::Access,
            TreeError::InvalidName(_) | TreeError::MoveIntoItself => ErrorCode::Invalid,
            TreeError::TooLong => ErrorCode::NameTooLong,
            TreeError::Conflict => ErrorCode::Busy,
            TreeError::QuotaExceeded(QuotaKind::Storage) => ErrorCode::InsufficientSpace,
            TreeError::QuotaExceeded(_) => ErrorCode::Quota,
            // Not `interrupted`: standard libraries try that again, for ever.
            TreeError::Cancelled | TreeError::Other(_) => ErrorCode::Io,
        })
    }
}

/// What a stream answers.
impl From<FilesystemError> for wasmtime_wasi::p2::StreamError {
    fn from(failure: FilesystemError) -> Self {
        match failure {
            // `filesystem-error-code` finds the code in it again.
            FilesystemError::Code(code) => Self::LastOperationFailed(code.into()),
            FilesystemError::Trap(error) => Self::Trap(error),
        }
    }
}
