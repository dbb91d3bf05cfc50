//! Errors of the domain. The API maps each variant to one status and one error body.

use konnector_manifest::PermissionDenied;

use crate::ForeignAccount;

/// Result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error type of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A resource does not exist. The message is a complete sentence.
    #[error("{0}")]
    NotFound(String),
    /// A resource already exists, or was changed concurrently.
    #[error("{0}")]
    Conflict(String),
    /// A parameter of the query string is invalid.
    #[error("{message}")]
    InvalidParameter {
        /// Name in the query string or path.
        name: &'static str,
        /// The problem, and how to fix it.
        message: String,
    },
    /// A field of the body's attributes is invalid.
    #[error("{message}")]
    InvalidAttribute {
        /// Name below `/data/attributes/`.
        name: &'static str,
        /// The problem, and how to fix it.
        message: String,
    },
    /// A konnector tried to use an account that is neither its own nor shared with it.
    #[error("{0}")]
    ForeignAccount(#[from] ForeignAccount),
    /// A precondition of the client does not hold.
    #[error("{message}")]
    PreconditionFailed {
        /// Name of the header or parameter with the precondition.
        name: &'static str,
        /// The condition that does not hold.
        message: String,
    },
    /// The request as a whole is invalid.
    #[error("{0}")]
    BadRequest(String),
    /// A query cannot be executed.
    #[error("{0}")]
    Query(#[from] konnector_query::QueryError),
    /// The manifest cannot be processed.
    #[error("the manifest cannot be used: {0}")]
    Manifest(#[from] konnector_manifest::Error),
    /// The sandbox cannot use the component.
    #[error("the component cannot be used: {0}")]
    Component(String),
    /// The manifest or the source of a konnector is unavailable.
    #[error("{0}")]
    Unreachable(String),
    /// The caller lacks a permission.
    #[error("{0}")]
    Forbidden(String),
    /// The token is not valid: malformed, forged, or of another instance.
    #[error("Invalid JWT token")]
    InvalidToken,
    /// The token is older than its audience allows.
    #[error("Expired token")]
    ExpiredToken,
    /// The token of a run was used outside the run, or after the run ended.
    #[error("the token of a run is valid only inside that run and until the run ends")]
    WrongRunToken,
    /// The request of an OAuth client is rejected.
    #[error("{description}")]
    OAuth {
        /// A code of RFC 6749 §5.2, RFC 7591 §3.2.2 or RFC 6750 §3.1.
        error: &'static str,
        /// The problem, for the developer of the client.
        description: String,
    },
    /// The provider of an account no longer accepts its refresh token, so the user has to connect again (Cozy API,
    /// accounts, §7.4).
    #[error("OAuth refresh token is invalid or expired; reconnect account.")]
    ReconnectRequired,
    /// The OAuth provider of an account is unreachable or sends an invalid response.
    #[error("{0}")]
    Provider(String),
    /// The content exceeds a size limit.
    #[error("{0}")]
    TooLarge(String),
    /// A limit was reached; the request may be repeated later.
    #[error("{message}")]
    RetryLater {
        /// Time from which the request may be repeated.
        until: chrono::DateTime<chrono::Utc>,
        /// The reason, and what the caller can do.
        message: String,
    },
    /// The server is temporarily overloaded.
    #[error("{0}")]
    Busy(String),
    /// The service is unavailable for an unknown time.
    #[error("{0}")]
    Unavailable(String),
    /// The run lost its lease and must no longer write.
    #[error("this run lost its lease and was restarted elsewhere")]
    StaleLease,
    /// An operation of the store failed, other than by a conflict or a lost lease.
    #[error("the store failed: {0}")]
    Store(konnector_store::Error),
    /// The HTTP gate cannot be initialised.
    #[error("cannot initialise the HTTP gate: {0}")]
    Gate(String),
    /// A stored document is not in the format of this version.
    #[error("the stored document {document} cannot be read: {message}")]
    CorruptDocument {
        /// Doctype and id.
        document: String,
        /// Why it cannot be read.
        message: String,
    },
    /// An operating system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// The operation that failed.
        doing: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The key file does not match the data. The server must not start.
    #[error("{0}")]
    KeyMismatch(String),
}

impl Error {
    /// Wraps an I/O error with the operation that failed.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// Returns whether another attempt with fresh data may succeed.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }
}

impl From<konnector_store::Error> for Error {
    fn from(error: konnector_store::Error) -> Self {
        if error.is_conflict() {
            Self::Conflict(error.to_string())
        } else if matches!(error, konnector_store::Error::StaleLease { .. }) {
            Self::StaleLease
        } else {
            Self::Store(error)
        }
    }
}

impl From<PermissionDenied> for Error {
    fn from(denied: PermissionDenied) -> Self {
        Self::Forbidden(denied.message)
    }
}
