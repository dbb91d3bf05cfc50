//! Errors of file system functions: a WASI error code, which a guest's standard library converts to a `std::io::Error`,
//! or the end of the run.

use super::bindings::wasi::filesystem::types::ErrorCode;
use super::path::PathError;
use crate::capability::{QuotaKind, TreeError};
use crate::host::LeaseLost;

/// Why a file system operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FilesystemError {
    /// The guest receives this code.
    #[error("{0}")]
    Code(ErrorCode),
    /// The run must end, for example because its lease was lost.
    #[error("the run was stopped: {0}")]
    Trap(wasmtime::Error),
}

/// Result of a file system function.
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
            // Not `interrupted`, because standard libraries retry that forever.
            TreeError::Cancelled | TreeError::Other(_) => ErrorCode::Io,
        })
    }
}

/// Error of a stream.
impl From<FilesystemError> for wasmtime_wasi::p2::StreamError {
    fn from(failure: FilesystemError) -> Self {
        match failure {
            // `filesystem-error-code` extracts the code from it again.
            FilesystemError::Code(code) => Self::LastOperationFailed(code.into()),
            FilesystemError::Trap(error) => Self::Trap(error),
        }
    }
}
