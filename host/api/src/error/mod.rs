//! Errors of the API. Each error of the platform is converted to an [`ApiError`] in one place. The format of the body
//! depends on the route and on the media types that the client accepts: [`jsonapi`] by default, [`couch`] below
//! `/data`, [`plain_text`] for authentication and authorization (Cozy API: error shapes), [`oauth`] for OAuth clients.

pub mod couch;
pub mod jsonapi;
pub mod oauth;
pub mod plain_text;

use std::fmt;

use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use konnector_manifest::untrusted::{to_printable_lines, truncate_middle};
use konnector_platform::Error;
use konnector_platform::account::AccountLocation;
use konnector_query::QueryError;

/// Error response of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Status of the response.
    pub status: StatusCode,
    /// Part of the request that is wrong; decides the format of the body.
    pub subject: ErrorSubject,
    /// What is wrong and what to do.
    pub message: String,
    /// Machine-readable error code, which only JSON:API bodies contain.
    pub code: Option<&'static str>,
    /// Value of `WWW-Authenticate`.
    challenge: Option<&'static str>,
    /// Value of `Retry-After`.
    retry_after: Option<RetryAfter>,
}

/// Maximum size of a message in bytes. A message may quote a client or a manifest, whose strings may have any length.
const MAX_MESSAGE_SIZE: usize = 2_000;

/// Truncates a message and replaces unprintable characters, because clients may display it in a terminal.
fn sanitize_message(message: String) -> String {
    to_printable_lines(&truncate_middle(message, MAX_MESSAGE_SIZE)).into_owned()
}

/// Seconds after which a client may retry if the server is busy: longer than most requests take.
const BUSY_RETRY_AFTER_SECONDS: u32 = 2;

/// Time at which a client may retry (RFC 9110 §10.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryAfter {
    /// At this time or later.
    At(DateTime<Utc>),
    /// After this number of seconds.
    After(u32),
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => time.format("%a, %d %b %Y %H:%M:%S GMT").fmt(f),
            Self::After(seconds) => seconds.fmt(f),
        }
    }
}

/// Part of a request that an error concerns; decides the format of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorSubject {
    /// Authentication and authorization.
    Access,
    /// A parameter of the query string or path.
    Parameter(&'static str),
    /// A field of the body's attributes.
    Attribute(&'static str),
    /// The request as a whole.
    Request,
    /// A document operation, with `CouchDB`'s name of the error.
    Document(&'static str),
    /// An OAuth client, with OAuth's name of the error.
    OAuth(&'static str),
    /// The server itself. The message is only logged; the client receives a generic one.
    Server,
}

impl ApiError {
    fn new(status: StatusCode, subject: ErrorSubject, message: impl Into<String>) -> Self {
        Self {
            status,
            subject,
            message: sanitize_message(message.into()),
            code: None,
            challenge: None,
            retry_after: None,
        }
    }

    /// Creates an error that its status and message describe completely.
    pub fn request(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, ErrorSubject::Request, message)
    }

    /// Creates a 400: the request as a whole is malformed.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::request(StatusCode::BAD_REQUEST, message)
    }

    /// Creates a 422: a parameter is invalid.
    pub fn parameter(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorSubject::Parameter(name), message)
    }

    /// Creates a 412: a precondition in a parameter or header failed.
    pub fn precondition(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, ErrorSubject::Parameter(name), message)
    }

    /// Creates a 422: a field of the body's attributes is invalid.
    pub fn attribute(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorSubject::Attribute(name), message)
    }

    /// Creates a 403: the caller lacks a permission.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorSubject::Access, message)
    }

    /// Creates a 401: credentials are missing or not valid here.
    pub fn unauthenticated(message: impl Into<String>, challenge: &'static str) -> Self {
        Self { challenge: Some(challenge), ..Self::new(StatusCode::UNAUTHORIZED, ErrorSubject::Access, message) }
    }

    /// Creates an error of a document operation, with `CouchDB`'s name of the error.
    pub fn document(status: StatusCode, name: &'static str, reason: impl Into<String>) -> Self {
        Self::new(status, ErrorSubject::Document(name), reason)
    }

    /// Creates a 500: an internal error.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorSubject::Server, message)
    }

    /// Creates a 502: another server returned an invalid response.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::request(StatusCode::BAD_GATEWAY, message)
    }

    /// Creates a 503: an internal error that is probably temporary.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorSubject::Server, message)
    }

    /// Returns the message for the client, without details of internal errors.
    pub fn client_message(&self) -> &str {
        match self.subject {
            ErrorSubject::Server => "internal server error; see the log of the server",
            _ => &self.message,
        }
    }

    /// Builds the response; the error is attached as an extension, so that an outer layer can rewrite the body.
    fn respond(self, content_type: &'static str, body: String) -> Response {
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(retry) = self.retry_after.and_then(|retry| HeaderValue::from_str(&retry.to_string()).ok()) {
            headers.insert(RETRY_AFTER, retry);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Maps each error of the platform to its status; no other code does so.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        const INVALID: &str = r#"Bearer error="invalid_token""#;
        const EXPIRED: &str = r#"Bearer error="invalid_token" error_description="The access token expired""#;
        let message = error.to_string();
        let invalid_token = |challenge| Self {
            challenge: Some(challenge),
            ..Self::new(StatusCode::BAD_REQUEST, ErrorSubject::Access, message.clone())
        };
        match error {
            Error::NotFound(_) | Error::Unreachable(_) => Self::request(StatusCode::NOT_FOUND, message),
            Error::Conflict(_) | Error::StaleLease => Self::request(StatusCode::CONFLICT, message),
            Error::InvalidParameter { name, .. } => Self::parameter(name, message),
            Error::ForeignAccount(foreign) => match foreign.location {
                AccountLocation::Arguments => Self::attribute("arguments/account", message),
                AccountLocation::Message => Self::attribute("message/account", message),
                AccountLocation::Parameter => Self::parameter("AccountID", message),
            },
            Error::PreconditionFailed { name, .. } => Self::precondition(name, message),
            Error::InvalidAttribute { name, .. } => Self::attribute(name, message),
            Error::BadRequest(_) => Self::bad_request(message),
            Error::Query(query) => Self::document(StatusCode::BAD_REQUEST, query_error_name(&query), message),
            // Like Cozy, reject a manifest with a rule on an illegal doctype with the same status as a missing
            // permission.
            Error::Manifest(manifest) if manifest.is_doctype() => Self::forbidden(message),
            Error::Manifest(_) => Self::bad_request(message),
            Error::Component(_) => Self::parameter("Source", message),
            Error::Forbidden(_) => Self::forbidden(message),
            Error::InvalidToken => invalid_token(INVALID),
            Error::ExpiredToken => invalid_token(EXPIRED),
            Error::WrongRunToken => Self::unauthenticated(message, INVALID),
            Error::Busy(_) => Self {
                retry_after: Some(RetryAfter::After(BUSY_RETRY_AFTER_SECONDS)),
                ..Self::request(StatusCode::SERVICE_UNAVAILABLE, message)
            },
            Error::Unavailable(_) => Self::request(StatusCode::SERVICE_UNAVAILABLE, message),
            Error::RetryLater { until, .. } => Self {
                retry_after: Some(RetryAfter::At(until)),
                ..Self::request(StatusCode::TOO_MANY_REQUESTS, message)
            },
            Error::OAuth { error: error @ "invalid_token", .. } => {
                let failure = Self::new(StatusCode::UNAUTHORIZED, ErrorSubject::OAuth(error), message);
                Self { challenge: Some(INVALID), ..failure }
            }
            Error::OAuth { error, .. } => Self::new(StatusCode::BAD_REQUEST, ErrorSubject::OAuth(error), message),
            Error::ReconnectRequired => {
                let code = Some("oauth_refresh_invalid_token");
                Self { code, ..Self::request(StatusCode::UNAUTHORIZED, message) }
            }
            Error::Provider(_) => Self::request(StatusCode::BAD_GATEWAY, message),
            Error::TooLarge(_) => Self::request(StatusCode::PAYLOAD_TOO_LARGE, message),
            Error::Store(store) => Self::from_store(&store, message),
            Error::Gate(_) | Error::CorruptDocument { .. } | Error::Io { .. } | Error::KeyMismatch(_) => {
                Self::server(message)
            }
        }
    }
}

/// Returns CouchDB's name of an error in a query.
const fn query_error_name(error: &QueryError) -> &'static str {
    match error {
        QueryError::Selector(_) => "invalid_selector",
        QueryError::Sort(_) => "unsupported_mixed_sort",
        QueryError::Field { .. } | QueryError::TooExpensive => "bad_request",
        QueryError::UnknownField(_) => "invalid_key",
        QueryError::NoIndex { .. } => "no_index",
    }
}

impl ApiError {
    fn from_store(error: &konnector_store::Error, message: String) -> Self {
        use konnector_store::Error as Store;
        match error {
            Store::TooLarge { .. } => Self::request(StatusCode::PAYLOAD_TOO_LARGE, message),
            Store::DiskFull { .. } => Self::request(StatusCode::INSUFFICIENT_STORAGE, message),
            Store::Invalid { field, reason } => Self::bad_request(format!("{field} is not valid: {reason}")),
            Store::Poisoned | Store::Closed => Self::unavailable(message),
            _ => Self::server(message),
        }
    }
}

impl From<konnector_store::Error> for ApiError {
    fn from(error: konnector_store::Error) -> Self {
        Error::from(error).into()
    }
}

/// Renders errors of authentication and authorization as plain text, others as JSON:API. [`couch::with_couch_errors`]
/// rewrites them below `/data`, [`plain_text::render`] for clients that accept JSON.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.subject == ErrorSubject::Server {
            tracing::error!(status = self.status.as_u16(), "{}", self.message);
        }
        match self.subject {
            ErrorSubject::Access => plain_text::text(self),
            ErrorSubject::OAuth(error) => oauth::body(error, self),
            _ => jsonapi::body(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_the_platform_has_its_status() {
        let syntax = konnector_manifest::Manifest::parse(b"{").expect_err("no JSON");
        let web_app = konnector_manifest::Manifest::parse(br#"{"name": "x", "version": "1.0.0", "type": "webapp"}"#)
            .expect_err("a web app");
        let doctype = "IO.COZY.FILES".parse::<konnector_manifest::Doctype>().expect_err("upper case");
        let store = |error: konnector_store::Error| Error::from(error);
        let foreign = konnector_platform::account::ForeignAccount {
            location: AccountLocation::Message,
            account: "1".to_owned(),
            konnector: "thief".to_owned(),
            owning_konnector: Some("bank".to_owned()),
        };
        let table = [
            (Error::NotFound("x".to_owned()), 404),
            (Error::Unreachable("x".to_owned()), 404),
            (Error::Conflict("x".to_owned()), 409),
            (Error::StaleLease, 409),
            (Error::InvalidParameter { name: "slug", message: "x".to_owned() }, 422),
            (Error::InvalidAttribute { name: "Type", message: "x".to_owned() }, 422),
            (foreign.into(), 422),
            (Error::PreconditionFailed { name: "If-Match", message: "x".to_owned() }, 412),
            (Error::BadRequest("x".to_owned()), 400),
            (QueryError::NoIndex { fields: Vec::new() }.into(), 400),
            (Error::Manifest(syntax), 400),
            (Error::Manifest(web_app), 400),
            (Error::Manifest(doctype), 403),
            (Error::Forbidden("x".to_owned()), 403),
            (Error::InvalidToken, 400),
            (Error::ExpiredToken, 400),
            (
                Error::RetryLater { until: "2026-11-20T12:00:00Z".parse().expect("a date"), message: "x".to_owned() },
                429,
            ),
            (Error::Unavailable("x".to_owned()), 503),
            (Error::Busy("x".to_owned()), 503),
            (Error::OAuth { error: "invalid_grant", description: "x".to_owned() }, 400),
            (Error::OAuth { error: "invalid_token", description: "x".to_owned() }, 401),
            (Error::ReconnectRequired, 401),
            (Error::Provider("x".to_owned()), 502),
            (Error::TooLarge("x".to_owned()), 413),
            (Error::KeyMismatch("x".to_owned()), 500),
            (store(konnector_store::Error::Poisoned), 503),
            (store(konnector_store::Error::DiskFull { path: "/data".into(), free: 1, reserve: 2 }), 507),
            (store(konnector_store::Error::Invalid { field: "id", reason: "x".to_owned() }), 400),
        ];
        for (error, status) in table {
            let text = error.to_string();
            assert_eq!(ApiError::from(error).status.as_u16(), status, "{text}");
        }
    }

    #[test]
    fn server_errors_reveal_no_details() {
        let failure = ApiError::from(Error::CorruptDocument {
            document: "io.cozy.jobs/1".to_owned(),
            message: "a secret".to_owned(),
        });
        assert!(!failure.client_message().contains("secret"));
    }
}
