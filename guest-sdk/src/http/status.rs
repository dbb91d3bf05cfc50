//! What a status means for the run (RFC 9110 §15).

use std::time::Duration;

use crate::Error;

/// Maps a status to a failure. `retry_after` is the value of the header of that name, in seconds.
pub(crate) fn status_error(status: u16, retry_after: Option<Duration>, subject: &str) -> Error {
    let text = format!("{subject} returned {}", status_text(status));
    match status {
        401 => Error::BadCredentials(text),
        429 => Error::RateLimited(retry_after),
        503 if retry_after.is_some() => Error::VendorMaintenance(text),
        // With 202 the resource is still being produced, and a retry may return it.
        202 | 408 | 425 | 500..=599 => Error::VendorDown(text),
        _ => Error::VendorChanged(text),
    }
}

fn status_text(status: u16) -> String {
    let reason = match status {
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => return status.to_string(),
    };
    format!("{status} {reason}")
}

/// Parses `Retry-After`: seconds, or a date (RFC 9110 §10.2.3), which is relative to the response's own `Date`.
pub(super) fn retry_after(value: &str, answered_at: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| chrono::DateTime::parse_from_rfc2822(text.trim()).ok();
    let wait = date(value)?.signed_duration_since(date(answered_at?)?);
    Some(wait.to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides_who_acts() {
        assert!(matches!(status_error(401, None, "x"), Error::BadCredentials(_)));
        assert!(matches!(status_error(403, None, "x"), Error::VendorChanged(_)));
        assert!(matches!(status_error(500, None, "x"), Error::VendorDown(_)));
        assert!(matches!(status_error(503, None, "x"), Error::VendorDown(_)));
        let hour = Some(Duration::from_secs(3600));
        assert!(matches!(status_error(503, hour, "x"), Error::VendorMaintenance(_)));
        assert_eq!(status_error(429, hour, "x"), Error::RateLimited(hour));
        insta::assert_snapshot!(status_error(410, None, "GET https://a.example/x"), @"the vendor's site changed: GET https://a.example/x returned 410 Gone");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 120 ", None), Some(Duration::from_secs(120)));
        let answered_at = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:30:00 GMT", answered_at), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:00:00 GMT", answered_at), Some(Duration::ZERO));
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:30:00 GMT", None), None);
        assert_eq!(retry_after("soon", answered_at), None);
    }
}
