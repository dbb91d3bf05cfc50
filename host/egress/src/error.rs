//! Errors of the gate.

use std::borrow::Cow;

/// Phase of an exchange that timed out (WIT enum `http.phase`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Resolving, connecting and the TLS handshake.
    Connect,
    /// From the start of the request to the end of the response headers.
    Headers,
    /// The wait for the next part of the response body, or for a thousand bytes of it.
    Body,
    /// The whole exchange, including redirects and the wait for a free connection.
    Total,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connection attempt timed out",
            Self::Headers => "the response headers did not arrive in time",
            Self::Body => "the response body stalled or arrived too slowly",
            Self::Total => "the whole exchange timed out",
        })
    }
}

/// Why a request has no response (WIT variant `http.http-error`), as far as the gate decides it. Callers add
/// `cancelled`, because the gate is cancelled by dropping its futures.
///
/// Messages repeat text from the guest unchanged. If they repeat the vendor's response to a request with a secret, that
/// secret is redacted. Mask them before they leave the process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No rule of the manifest allows the request. The message names the rule to add.
    #[error("{0}")]
    Denied(String),
    /// The name resolves to no address that may be contacted.
    #[error("{0}")]
    AddressProhibited(String),
    /// The name does not exist, or nothing listens at its addresses.
    #[error("{0}")]
    Unreachable(String),
    /// The certificate is not valid for the name, or the two sides have no cipher in common.
    #[error("{0}")]
    Tls(String),
    /// A timeout was reached.
    #[error("{0}")]
    Timeout(Phase),
    /// More redirects than the gate follows.
    #[error("there were more than {} redirects", super::redirect::MAX_REDIRECTS)]
    TooManyRedirects,
    /// The decoded body is larger than this number of bytes.
    #[error("the body is larger than {0} bytes; use download")]
    TooLarge(u64),
    /// A budget of the run is exhausted.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The request is malformed. The message says where.
    #[error("{0}")]
    Invalid(String),
    /// The response is not valid HTTP, or was truncated.
    #[error("{0}")]
    Protocol(String),
    /// Any other failure.
    #[error("{0}")]
    Other(String),
}

impl HttpError {
    /// Returns the same error with its message changed by `mask`.
    pub(super) fn map_text(self, mask: impl Fn(&str) -> Cow<'_, str>) -> Self {
        let apply = |text: String| mask(&text).into_owned();
        match self {
            Self::Denied(text) => Self::Denied(apply(text)),
            Self::AddressProhibited(text) => Self::AddressProhibited(apply(text)),
            Self::Unreachable(text) => Self::Unreachable(apply(text)),
            Self::Tls(text) => Self::Tls(apply(text)),
            Self::QuotaExceeded(text) => Self::QuotaExceeded(apply(text)),
            Self::Invalid(text) => Self::Invalid(apply(text)),
            Self::Protocol(text) => Self::Protocol(apply(text)),
            Self::Other(text) => Self::Other(apply(text)),
            same @ (Self::Timeout(_) | Self::TooManyRedirects | Self::TooLarge(_)) => same,
        }
    }
}

/// Why a gate or a table of secrets could not be created.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An entry of the operator's list of private addresses is not a valid address.
    #[error(
        "`{entry}` is not a valid address rule: expected an IP address or a network, optionally with a port: \
         192.168.1.5, 192.168.0.0/16, 127.0.0.1:8081, [fd00::/8]:443"
    )]
    AddressRule {
        /// The entry as written.
        entry: String,
    },
    /// An additional root certificate cannot be read.
    #[error(
        "additional root certificate {position} is not valid ({reason}): expected one X.509 certificate in DER form"
    )]
    RootCertificate {
        /// Position of the certificate in the settings, counted from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library rejects its configuration.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The operating system provides no random numbers.
    #[error("the operating system provides no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// The operator's `User-Agent` is not a valid header value.
    #[error("the user agent {0:?} is not a valid header value: expected printable ASCII")]
    UserAgent(String),
}
