//! Records responses in the network usage, and measures requests and headers.

use http::{HeaderMap, StatusCode, header};

use super::SessionState;
use crate::error::HttpError;
use crate::network_usage::DenialReason;
use crate::origin_pool::MAX_RESPONSE_HEADERS;
use crate::request::RequestTemplate;

impl SessionState {
    /// Records the status of a response, and rejects a response that two parsers could interpret differently.
    pub(crate) fn record_response(
        &self,
        origin: &str,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<(), HttpError> {
        self.record_usage(|usage| usage.host(origin).record_response(status.as_u16()));
        check_framing(headers, origin)
    }

    /// Records the headers of a response, and rejects those that are too large. `bytes` is their size as the guest sees
    /// them. With any other size, the budget or the error would reveal the length of a secret.
    pub(crate) fn record_headers(&self, origin: &str, headers: &HeaderMap, bytes: u64) -> Result<(), HttpError> {
        self.record_usage(|usage| usage.host(origin).bytes_down += bytes);
        self.meter.count_received(bytes)?;
        let (max_bytes, max_headers) = MAX_RESPONSE_HEADERS;
        if bytes > u64::from(max_bytes) || headers.len() > max_headers {
            return Err(HttpError::Protocol(format!(
                "the response from {origin} has {} headers with {bytes} bytes, but the limits are {max_headers} \
                 headers and {max_bytes} bytes",
                headers.len()
            )));
        }
        Ok(())
    }

    /// Records that a name or an address may not be contacted.
    pub(crate) fn record_prohibited_address<T>(&self, origin: &str, result: &Result<T, HttpError>) {
        if matches!(result, Err(HttpError::AddressProhibited(_))) {
            self.record_usage(|usage| usage.host(origin).record_denied(DenialReason::AddressProhibited));
        }
    }
}

/// Rejects a response that two parsers could interpret differently (RFC 9112 §6.3).
fn check_framing(headers: &HeaderMap, origin: &str) -> Result<(), HttpError> {
    let encoding = headers.get(header::TRANSFER_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(HttpError::Protocol(format!("the response from {origin} has an unsupported Transfer-Encoding")));
    }
    if encoding.is_some() && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(HttpError::Protocol(format!(
            "the response from {origin} has both a Content-Length and a Transfer-Encoding"
        )));
    }
    Ok(())
}

/// Returns the size in bytes of headers as HTTP/1.1 writes them.
pub(crate) fn headers_size(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| line_size(name.as_str().len(), value.len())).sum()
}

/// Returns the size in bytes of one header with a name and a value of these sizes.
pub(crate) const fn line_size(name: usize, value: usize) -> u64 {
    (name + value + 4) as u64
}

/// Returns the size in bytes of a request as the guest wrote it.
pub(crate) fn request_size(template: &RequestTemplate) -> u64 {
    template.body.as_ref().map_or(0, |body| body.len() as u64) + head_size(template, &template.headers)
}

/// Returns the size in bytes of the request line and of these headers.
pub(crate) fn head_size(template: &RequestTemplate, headers: &HeaderMap) -> u64 {
    (template.method.as_str().len() + template.url.as_str().len() + 12) as u64 + headers_size(headers)
}
