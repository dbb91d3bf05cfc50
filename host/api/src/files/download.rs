//! Downloads of files: ranges (RFC 9110 §14), conditional requests (§13), and headers that keep browsers from running
//! the content.

use std::io::SeekFrom;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt as _;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use konnector_manifest::Verb;
use konnector_platform::file::File;
use konnector_platform::{Error, Platform};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::access;
use crate::error::ApiError;
use crate::extract::{Caller, Params};

/// Size of the chunks of a streamed download in bytes.
const CHUNK_SIZE: usize = 64 << 10;
/// Maximum size in bytes of a file whose checksum is verified before the response begins, even for a range. Larger
/// files are verified while they are sent; the connection is aborted before the last bytes of a damaged file. For a
/// range of a larger file, only the size of the whole file is verified.
const MAX_PREVERIFIED_SIZE: u64 = 1 << 20;

pub async fn by_id(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = access::find_readable(&platform, &caller, &id)?;
    access::check_content(&platform, &caller, &file).await?;
    content_response(&platform, &file, params.flag("Dl", false), &headers).await
}

pub async fn version(
    State(platform): State<Platform>,
    caller: Caller,
    Path((id, rev)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = access::find_readable(&platform, &caller, &format!("{id}/{rev}"))?;
    content_response(&platform, &file, params.flag("Dl", false), &headers).await
}

pub async fn by_path(
    State(platform): State<Platform>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = access::find_by_path_parameter(&platform, &caller, Verb::Get, &params)?;
    access::check_content(&platform, &caller, &file).await?;
    content_response(&platform, &file, params.flag("Dl", false), &headers).await
}

/// Returns the error for a link of the wrong kind.
pub fn invalid_link() -> ApiError {
    ApiError::request(StatusCode::NOT_FOUND, "the link does not match this route; request a new one")
}

/// The part of a file that the response contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestedRange {
    Whole,
    Part { first: u64, last: u64 },
    Unsatisfiable,
}

impl RequestedRange {
    /// Parses the range. A single range selects that part. Several ranges and invalid ranges select the whole content,
    /// as RFC 9110 §14.2 allows; so does a range of an outdated version (`If-Range`).
    fn parse(headers: &HeaderMap, etag: &str, size: u64) -> Self {
        let Some(range) = headers.get(RANGE).and_then(|range| range.to_str().ok()) else { return Self::Whole };
        if headers.get(IF_RANGE).is_some_and(|version| version.as_bytes() != etag.as_bytes()) {
            return Self::Whole;
        }
        let Ok(ranges) = http_range_header::parse_range_header(range) else { return Self::Whole };
        if ranges.ranges.len() != 1 {
            return Self::Whole;
        }
        match ranges.validate(size).as_deref() {
            // An empty file has no ranges.
            Ok([range]) if size > 0 => Self::Part { first: *range.start(), last: *range.end() },
            _ => Self::Unsatisfiable,
        }
    }
}

pub async fn content_response(
    platform: &Platform,
    file: &File,
    attachment: bool,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let Some(stored) = &file.content else {
        return Err(ApiError::bad_request(format!("'{}' is a directory and has no content", file.name)));
    };
    let etag = format!("\"{}\"", stored.sha256);
    if headers.get_all(IF_NONE_MATCH).iter().any(|tags| etag_matches(tags, &etag)) {
        return Ok((StatusCode::NOT_MODIFIED, content_headers(file, &etag, attachment)?).into_response());
    }
    let size = file.len();
    let mut response_headers = content_headers(file, &etag, attachment)?;
    let (status, first, length) = match RequestedRange::parse(headers, &etag, size) {
        RequestedRange::Whole => (StatusCode::OK, 0, size),
        RequestedRange::Part { first, last } => {
            response_headers.insert(CONTENT_RANGE, header_value(format!("bytes {first}-{last}/{size}"))?);
            (StatusCode::PARTIAL_CONTENT, first, (last - first).saturating_add(1))
        }
        RequestedRange::Unsatisfiable => {
            let message = format!("Range: the range is outside the content, which is {size} bytes long");
            let mut response = ApiError::request(StatusCode::RANGE_NOT_SATISFIABLE, message).into_response();
            response.headers_mut().insert(CONTENT_RANGE, header_value(format!("bytes */{size}"))?);
            return Ok(response);
        }
    };
    response_headers.insert(CONTENT_LENGTH, length.into());
    if size <= MAX_PREVERIFIED_SIZE {
        let content = Bytes::from(platform.files().read_content(file).await?);
        let end = first.saturating_add(length);
        let range = usize::try_from(first).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        let part = if range.end <= content.len() { content.slice(range) } else { content };
        return Ok((status, response_headers, part).into_response());
    }
    let mut reader = platform.files().open_content(file).await?;
    if first > 0 {
        reader.seek(SeekFrom::Start(first)).await.map_err(Error::io("reading the content of a file"))?;
    }
    let id = file.id.clone();
    let stream = ReaderStream::with_capacity(reader.take(length), CHUNK_SIZE)
        .inspect_err(move |error| tracing::error!(%error, file = id, "a download failed"));
    Ok((status, response_headers, Body::from_stream(stream)).into_response())
}

/// Returns whether one of the tags in an `If-None-Match` matches the content; a weak tag counts (RFC 9110 §13.1.2).
fn etag_matches(tags: &HeaderValue, etag: &str) -> bool {
    let candidates = tags.to_str().unwrap_or_default().split(',').map(str::trim);
    candidates.into_iter().any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn header_value(text: impl TryInto<HeaderValue>) -> Result<HeaderValue, ApiError> {
    text.try_into().map_err(|_| ApiError::server("cannot encode a header of a download"))
}

fn content_headers(file: &File, etag: &str, attachment: bool) -> Result<HeaderMap, ApiError> {
    let mime = file.mime.as_deref().and_then(|mime| HeaderValue::from_str(mime).ok());
    let headers: [(HeaderName, HeaderValue); 6] = [
        (CONTENT_TYPE, mime.unwrap_or(HeaderValue::from_static("application/octet-stream"))),
        (CONTENT_DISPOSITION, header_value(content_disposition(&file.name, attachment))?),
        // Files are untrusted; in a sandbox they have no origin, scripts or forms.
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'; style-src 'unsafe-inline'")),
        (ETAG, header_value(etag)?),
        (ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    Ok(headers.into_iter().collect())
}

/// Returns `Content-Disposition` (RFC 6266). A name that is not plain ASCII is given twice, for old and new clients.
pub fn content_disposition(name: &str, attachment: bool) -> String {
    /// `attr-char` of RFC 8187 §3.2.1.
    const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'!')
        .remove(b'#')
        .remove(b'$')
        .remove(b'&')
        .remove(b'+')
        .remove(b'-')
        .remove(b'.')
        .remove(b'^')
        .remove(b'_')
        .remove(b'`')
        .remove(b'|')
        .remove(b'~');
    let kind = if attachment { "attachment" } else { "inline" };
    let is_plain = |c: char| (c == ' ' || c.is_ascii_graphic()) && !matches!(c, '"' | '\\' | '%');
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    if plain == name {
        return format!("{kind}; filename=\"{plain}\"");
    }
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, ATTR_CHAR))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn portion(range: &str, size: u64) -> RequestedRange {
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_str(range).expect("a header"))]);
        RequestedRange::parse(&headers, "\"tag\"", size)
    }

    #[test]
    fn ranges() {
        let table = [
            ("bytes=0-4", 10, RequestedRange::Part { first: 0, last: 4 }),
            ("bytes=5-", 10, RequestedRange::Part { first: 5, last: 9 }),
            ("bytes=-3", 10, RequestedRange::Part { first: 7, last: 9 }),
            ("bytes=5-100", 10, RequestedRange::Part { first: 5, last: 9 }),
            ("bytes=10-", 10, RequestedRange::Unsatisfiable),
            ("bytes=0-", 0, RequestedRange::Unsatisfiable),
            ("bytes=0-1,4-5", 10, RequestedRange::Whole),
            ("lines=1-2", 10, RequestedRange::Whole),
            ("bytes=x-y", 10, RequestedRange::Whole),
        ];
        for (range, size, expected) in table {
            assert_eq!(portion(range, size), expected, "{range} of {size}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_answered_with_the_whole() {
        let parse = |version: &'static str| {
            let range = (RANGE, HeaderValue::from_static("bytes=0-1"));
            let headers = HeaderMap::from_iter([range, (IF_RANGE, HeaderValue::from_static(version))]);
            RequestedRange::parse(&headers, "\"tag\"", 10)
        };
        assert_eq!(parse("\"tag\""), RequestedRange::Part { first: 0, last: 1 });
        assert_eq!(parse("\"other\""), RequestedRange::Whole);
    }

    #[test]
    fn names_in_headers() {
        assert_eq!(content_disposition("bill.pdf", false), r#"inline; filename="bill.pdf""#);
        assert_eq!(
            content_disposition("Facture n°12 \"x\".pdf", true),
            r#"attachment; filename="Facture n_12 _x_.pdf"; filename*=UTF-8''Facture%20n%C2%B012%20%22x%22.pdf"#
        );
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_content(range in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in 0_u64..1_000) {
            if let RequestedRange::Part { first, last } = portion(&range, size) {
                prop_assert!(first <= last && last < size);
            }
        }

        #[test]
        fn any_name_makes_a_header(name in "\\PC{0,80}|[\"\\\\\r\n;= a-z]{0,40}") {
            prop_assert!(HeaderValue::from_str(&content_disposition(&name, true)).is_ok());
        }
    }
}
