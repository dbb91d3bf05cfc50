//! Translates errors of the HTTP client.

use std::error::Error;
use std::io;

use hyper_util::client::legacy;
use tower::timeout::error::Elapsed;

use super::error::{HttpError, Phase};
use super::resolve::ResolveError;

/// Returns why an exchange with `origin` failed.
pub(super) fn to_http_error(error: &(dyn Error + 'static), origin: &str) -> HttpError {
    // The body of a request fails with an `HttpError`.
    if let Some(error) = find::<HttpError>(error) {
        return error.clone();
    }
    if let Some(cause) = find::<ResolveError>(error) {
        let text = cause.to_string();
        return match cause {
            ResolveError::Prohibited { .. } => HttpError::AddressProhibited(text),
            ResolveError::Unknown { .. } => HttpError::Unreachable(text),
        };
    }
    let connecting = find::<legacy::Error>(error).is_some_and(legacy::Error::is_connect);
    let io =
        |kind| error_chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|io| io.kind() == kind);
    if find::<Elapsed>(error).is_some() || (connecting && io(io::ErrorKind::TimedOut)) {
        return HttpError::Timeout(Phase::Connect);
    }
    if let Some(cause) = find::<rustls::Error>(error) {
        return HttpError::Tls(format!("cannot establish a secure connection to {origin}: {cause}"));
    }
    let cause = root_cause(error);
    if connecting {
        return if io(io::ErrorKind::UnexpectedEof) {
            HttpError::Tls(format!(
                "cannot establish a secure connection to {origin}: the server closed the connection during the \
                 handshake"
            ))
        } else {
            HttpError::Unreachable(format!("{origin} cannot be reached: {cause}"))
        };
    }
    HttpError::Protocol(format!("the exchange with {origin} failed: {cause}"))
}

/// Returns the first error of a type in the chain of causes.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    error_chain(error).find_map(|cause| cause.downcast_ref())
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    error_chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// Iterates over the error and its chain of causes. `source` of an [`io::Error`] returns the cause of
/// the wrapped error and would skip the wrapped error itself.
fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    })
}
