//! `http.download`, by which a response body becomes a file without passing through the guest.

use bytes::{Bytes, BytesMut};

use super::Context;
use super::content_type_check::{ContentTail, ContentTypeCheck, HEAD_BYTES};
use super::files::{append, parse_target};
use crate::bindings::konnector::host::files as wit;
use crate::capability::{CapabilityError, SavedFile};
use konnector_egress::{HttpError, Request};

/// Why a download produced no file.
pub(super) enum DownloadFailure {
    Http(HttpError),
    Status(u16),
    UnexpectedContent(String),
    File(CapabilityError),
}

impl From<HttpError> for DownloadFailure {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<CapabilityError> for DownloadFailure {
    fn from(error: CapabilityError) -> Self {
        Self::File(error)
    }
}

/// Downloads a file. The upload is begun first, so a file that the manifest or a limit forbids is rejected before the
/// request to the vendor. Dropping the future at any point leaves no file.
pub(super) async fn download(
    context: &Context,
    request: Request,
    target: wit::Target,
) -> Result<SavedFile, DownloadFailure> {
    let target = parse_target(target)?;
    let type_check = ContentTypeCheck::for_target(&target);
    let mut upload = context.begin_upload(target).await?;
    let mut stream = context.capabilities.http.open(request).await?;
    if !is_complete_response(stream.status(), &stream.headers()) {
        return Err(DownloadFailure::Status(stream.status()));
    }
    let mut beginning = BytesMut::new();
    let mut chunk = stream.chunk().await?;
    while let Some(part) = chunk.take() {
        beginning.extend_from_slice(&part);
        if beginning.len() >= HEAD_BYTES {
            break;
        }
        chunk = stream.chunk().await?;
    }
    type_check.check(&beginning).map_err(DownloadFailure::UnexpectedContent)?;
    let limit = context.capabilities.limits.file_bytes;
    let mut next = Some(beginning.freeze()).filter(|beginning: &Bytes| !beginning.is_empty());
    let mut end = ContentTail::default();
    while let Some(part) = next {
        end.push(&part);
        append(upload.as_mut(), part, &context.meter, limit).await?;
        next = stream.chunk().await?;
    }
    if !type_check.is_complete(&end) {
        // As after a broken connection, a retry may get the rest.
        let text = "the PDF is truncated; its last 1 KiB contains no %%EOF".to_owned();
        return Err(DownloadFailure::Http(HttpError::Protocol(text)));
    }
    Ok(upload.commit().await?)
}

/// Returns whether the body of a response is the whole file. An accepted request (202) has no file yet, and a partial
/// response (206) does not contain the whole file, even if the konnector requested a part.
fn is_complete_response(status: u16, headers: &[(String, String)]) -> bool {
    let mut ranges = headers.iter().filter(|(name, _)| name == "content-range");
    match status {
        200 | 201 | 203 => true,
        206 => ranges.next().filter(|_| ranges.next().is_none()).is_some_and(|(_, range)| is_full_range(range)),
        _ => false,
    }
}

/// Returns whether a `Content-Range` (RFC 9110 §14.4) covers all bytes.
fn is_full_range(range: &str) -> bool {
    let numbers = || {
        let (unit, range) = range.trim().split_once(' ')?;
        let (first, rest) = range.split_once('-')?;
        let (last, length) = rest.split_once('/')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        unit.eq_ignore_ascii_case("bytes").then_some((number(first)?, number(last)?, number(length)?))
    };
    numbers().is_some_and(|(first, last, length)| first == 0 && last.checked_add(1) == Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_response_is_not_a_file() {
        let is_complete = |status: u16, ranges: &[&str]| {
            let headers: Vec<_> =
                ranges.iter().map(|range| ("content-range".to_owned(), (*range).to_owned())).collect();
            is_complete_response(status, &headers)
        };
        for status in [200, 201, 203] {
            assert!(is_complete(status, &[]), "{status}");
        }
        for status in [199, 202, 204, 205, 206, 207, 226, 300, 304, 404, 503] {
            assert!(!is_complete(status, &[]), "{status}");
        }
        for range in ["bytes 0-98/99", "Bytes 0-0/1"] {
            assert!(is_complete(206, &[range]), "{range}");
            assert!(!is_complete(202, &[range]), "{range}");
        }
        for range in [
            "bytes 0-4/99",
            "bytes 1-98/99",
            "bytes 0-98/*",
            "bytes */99",
            "bytes 0-98/98",
            "bytes 0-+98/99",
            "bytes 0--1/0",
            "bytes -98/99",
            "bytes 0-18446744073709551615/18446744073709551616",
            "items 0-98/99",
            "bytes=0-98/99",
            "0-98/99",
            "",
        ] {
            assert!(!is_complete(206, &[range]), "{range}");
        }
        assert!(!is_complete(206, &["bytes 0-98/99", "bytes 0-4/99"]));
    }
}
