//! Requests and responses of guests, and the checks that a request must pass first.

use std::time::Duration;

use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::Url;

pub(super) use super::charset::ContentType;
use super::charset::decode;
use super::content_coding::ACCEPT_ENCODING;
use super::error::HttpError;
use super::form;

/// Maximum length of a URL in bytes.
const MAX_URL_LENGTH: usize = 8 << 10;

/// Maximum total size of a request's header names and values in bytes, and their maximum number.
const MAX_REQUEST_HEADERS: (usize, usize) = (64 << 10, 100);

/// The media type of a form.
const FORM_MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// Maximum size in bytes of the labels of a form's encodings. All labels of one encoding in the Encoding Standard take
/// less.
const MAX_CHARSET_LABELS_BYTES: usize = 1 << 10;

/// Maximum length of a method.
pub const MAX_METHOD_LENGTH: usize = 32;

/// Headers that belong to the connection or the gate (RFC 9110 §7.6.1; RFC 9112 §6), in addition to all names that
/// begin with `proxy-`.
const RESERVED_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "cookie2",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that may occur only once, because some servers would read the first and others the second (RFC 9110 §5.3).
/// The gate sets the other headers of this kind itself.
const SINGLE_VALUE_HEADERS: [&str; 9] = [
    "authorization",
    "content-encoding",
    "content-location",
    "content-range",
    "content-type",
    "from",
    "origin",
    "referer",
    "user-agent",
];

/// Requested form of the response body (WIT enum `http.body-format`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BodyFormat {
    /// Text for textual media types, bytes for others.
    #[default]
    Auto,
    /// Always decode the body as text.
    Text,
    /// Never decode the body.
    Bytes,
}

/// A request of a guest (WIT record `http.request`). It contains placeholders instead of secrets.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Any method except CONNECT and TRACE, in upper or lower case.
    pub method: String,
    /// Absolute `http` or `https` URL.
    pub url: String,
    /// Names and values. `Accept-Encoding` is ignored because the gate sets it.
    pub headers: Vec<(String, String)>,
    /// Body of the request.
    pub body: Option<Bytes>,
    /// Labels of the encoding of a form, which is the body if there is one, otherwise the query.
    pub form_charset: Option<String>,
    /// Requested form of the response body.
    pub body_format: BodyFormat,
    /// Whether the gate follows redirects.
    pub follow_redirects: bool,
    /// Timeout of the whole exchange; [`Timeouts`](super::Timeouts) has the default and the limits.
    pub timeout: Option<Duration>,
}

impl Request {
    /// Creates a GET request that follows redirects.
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: "GET".to_owned(), url: url.into(), follow_redirects: true, ..Self::default() }
    }

    /// Creates a POST request that follows redirects.
    pub fn post(url: impl Into<String>, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { method: "POST".to_owned(), body: Some(body.into()), ..Self::get(url) }
            .header("content-type", content_type)
    }

    /// Adds a header, even if the request already has one of this name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A decoded body (WIT variant `http.body`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodedBody {
    /// Decoded text.
    Text(String),
    /// Bytes as received, after decompression.
    Bytes(Bytes),
}

impl DecodedBody {
    /// Returns the decoded body and the name of its text encoding.
    pub(super) fn decode(bytes: Bytes, expect: BodyFormat, headers: &HeaderMap) -> (Self, Option<&'static str>) {
        let content_type = content_type(headers);
        let text = match expect {
            BodyFormat::Auto => content_type.is_textual(),
            BodyFormat::Text => true,
            BodyFormat::Bytes => false,
        };
        if !text {
            return (Self::Bytes(bytes), None);
        }
        let (text, encoding) = decode(&bytes, &content_type);
        (Self::Text(text), Some(encoding.name()))
    }
}

/// A response (WIT record `http.response`).
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// URL of the response, after redirects.
    pub url: String,
    /// Names in lower case, and values, in the order of the response.
    pub headers: Vec<(String, String)>,
    /// Body of the response.
    pub body: DecodedBody,
    /// Encoding of the original text (Encoding Standard).
    pub charset: Option<&'static str>,
}

/// A request that passed the checks of its form. It still contains placeholders.
#[derive(Debug, Clone)]
pub(super) struct RequestTemplate {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// Encoding of a form in `body`, which is also used for the values of secrets.
    pub(super) form_charset: &'static Encoding,
}

impl RequestTemplate {
    pub(super) fn new(request: Request) -> Result<Self, HttpError> {
        let url = parse_url(&request.url)?;
        let body_length = request.body.as_ref().map_or(0, Bytes::len);
        let mut headers = parse_headers(&request.headers, &url, body_length)?;
        headers.insert(header::ACCEPT_ENCODING, ACCEPT_ENCODING);
        let template =
            Self { method: parse_method(&request.method)?, headers, body: request.body, url, form_charset: UTF_8 };
        match request.form_charset {
            Some(labels) if labels.len() > MAX_CHARSET_LABELS_BYTES => Err(invalid(format!(
                "form-charset: the value is {} bytes long, but the limit is {MAX_CHARSET_LABELS_BYTES} bytes",
                labels.len()
            ))),
            Some(labels) => template.with_charset(form::choose_encoding(&labels)),
            None => Ok(template),
        }
    }

    /// Transcodes the form to an encoding.
    fn with_charset(mut self, charset: &'static Encoding) -> Result<Self, HttpError> {
        let form = self.body.as_deref().unwrap_or_else(|| self.url.query().unwrap_or_default().as_bytes());
        if form.len() > form::MAX_FORM_BYTES {
            return Err(invalid(format!(
                "form-charset: the form is {} bytes long, but the limit is {} bytes",
                form.len(),
                form::MAX_FORM_BYTES
            )));
        }
        let transcoded = form::transcode(form, charset);
        if self.body.is_none() {
            if self.url.query().is_some() {
                self.url.set_query(Some(&transcoded));
            }
            if self.url.as_str().len() > MAX_URL_LENGTH {
                return Err(invalid(format!(
                    "url: the URL is {} bytes long, but the limit is {MAX_URL_LENGTH} bytes",
                    self.url.as_str().len()
                )));
            }
        } else if content_type(&self.headers).essence == FORM_MEDIA_TYPE {
            self.body = Some(transcoded.into());
        } else {
            return Err(invalid(format!("form-charset: the Content-Type of the body is not {FORM_MEDIA_TYPE}")));
        }
        self.form_charset = charset;
        Ok(self)
    }
}

/// A request of an HTTP client inside a guest, and the number of bytes that its `Content-Length` declares.
#[derive(Debug, Clone)]
pub(super) struct StreamingRequest {
    pub(super) template: RequestTemplate,
    pub(super) content_length: Option<u64>,
}

impl StreamingRequest {
    /// Accepts only requests that every hop interprets alike, which means a URL with scheme, authority and a path that
    /// begins with `/`; a `Host` that repeats the authority; one `Content-Length` of digits.
    pub(super) fn new(parts: http::request::Parts) -> Result<Self, HttpError> {
        let (Some(_), Some(authority)) = (parts.uri.scheme(), parts.uri.authority()) else {
            return Err(invalid("url: the scheme or the host is missing".to_owned()));
        };
        if parts.uri.path_and_query().is_some_and(|path| !path.as_str().starts_with(['/', '?'])) {
            return Err(invalid("url: the path must begin with /".to_owned()));
        }
        let (number, size) =
            (parts.headers.len(), parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum());
        check_sizes(number, size)?;
        let mut headers = HeaderMap::with_capacity(number);
        let mut length = None;
        for (name, value) in &parts.headers {
            match *name {
                header::HOST if value.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {}
                header::HOST => {
                    return Err(invalid(format!(
                        "headers: the host header differs from the URL's authority {authority}; leave it out"
                    )));
                }
                header::CONTENT_LENGTH => match (length, parse_digits(value)) {
                    (None, Some(bytes)) => length = Some(bytes),
                    _ => return Err(invalid("headers: content-length must be a single number".to_owned())),
                },
                _ if is_reserved(name) => {
                    return Err(invalid(format!("headers: {name} is set by the host; leave it out")));
                }
                _ => append(&mut headers, name.clone(), value.clone())?,
            }
        }
        let template = RequestTemplate {
            method: parse_method(parts.method.as_str())?,
            url: parse_url(&parts.uri.to_string())?,
            headers,
            body: None,
            form_charset: UTF_8,
        };
        Ok(Self { template, content_length: length })
    }
}

fn parse_digits(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

fn invalid(text: String) -> HttpError {
    HttpError::Invalid(text)
}

fn parse_method(text: &str) -> Result<Method, HttpError> {
    let short = Some(text).filter(|text| text.len() <= MAX_METHOD_LENGTH);
    let method = short.and_then(|text| Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok());
    let method = method.ok_or_else(|| {
        invalid("method: the value is not a valid HTTP method; use for example GET or POST".to_owned())
    })?;
    match method.as_str() {
        "CONNECT" | "TRACE" | "TRACK" => Err(invalid(format!("method: {method} is not available to konnectors"))),
        _ => Ok(method),
    }
}

/// Parses an absolute URL and normalises it: without user, fragment and trailing dot, and with its host in the form
/// that every later check and the connection itself use.
pub(super) fn parse_url(text: &str) -> Result<Url, HttpError> {
    if text.len() > MAX_URL_LENGTH {
        return Err(invalid(format!(
            "url: the URL is {} bytes long, but the limit is {MAX_URL_LENGTH} bytes",
            text.len()
        )));
    }
    let url =
        Url::parse(text).map_err(|error| invalid(format!("url: {error}; expected an absolute http or https URL")))?;
    normalize_url(url)
}

/// Like [`parse_url`] for a URL that is already parsed.
pub(super) fn normalize_url(mut url: Url) -> Result<Url, HttpError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!("url: the scheme is {}; expected http or https", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "url: the URL contains a user name or a password; send an Authorization header instead".to_owned(),
        ));
    }
    url.set_fragment(None);
    if let Some(host) = url.domain().and_then(|host| host.strip_suffix('.')).map(str::to_owned) {
        url.set_host(Some(&host)).map_err(|error| invalid(format!("url: {error}")))?;
    }
    if url.domain().is_some_and(|host| host.split('.').any(str::is_empty)) {
        return Err(invalid("url: the host has an empty label (two dots in a row)".to_owned()));
    }
    if url.as_str().len() > MAX_URL_LENGTH {
        return Err(invalid(format!(
            "url: the URL is {} bytes long, but the limit is {MAX_URL_LENGTH} bytes",
            url.as_str().len()
        )));
    }
    Ok(url)
}

fn parse_headers(headers: &[(String, String)], url: &Url, body_length: usize) -> Result<HeaderMap, HttpError> {
    let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    check_sizes(headers.len(), size)?;
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("headers: {name:?} is not a valid header name (RFC 9110 §5.1)")))?;
        if is_reserved(&parsed) {
            if is_redundant(&parsed, value, url, body_length) {
                continue;
            }
            return Err(invalid(format!("headers: {parsed} is set by the host; leave it out")));
        }
        if parsed == header::ACCEPT_ENCODING {
            continue;
        }
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| {
            invalid(format!("headers: the value of {parsed} contains a line break or another control character"))
        })?;
        append(&mut map, parsed, value)?;
    }
    Ok(map)
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> Result<(), HttpError> {
    if SINGLE_VALUE_HEADERS.contains(&name.as_str()) && headers.contains_key(&name) {
        return Err(invalid(format!("headers: {name} occurs twice; send it once")));
    }
    headers.append(name, value);
    Ok(())
}

fn check_sizes(number: usize, size: usize) -> Result<(), HttpError> {
    let (max_bytes, max_headers) = MAX_REQUEST_HEADERS;
    if size > max_bytes || number > max_headers {
        let text = format!(
            "headers: there are {number} headers with {size} bytes, but the limits are {max_headers} headers and \
             {max_bytes} bytes"
        );
        return Err(invalid(text));
    }
    Ok(())
}

fn is_reserved(name: &HeaderName) -> bool {
    RESERVED_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("proxy-")
}

/// Returns whether a header only repeats the host or the length. Ported programs often set them, which is harmless if
/// the values are correct.
fn is_redundant(name: &HeaderName, value: &str, url: &Url, body_length: usize) -> bool {
    match name.as_str() {
        "host" => url.host_str().is_some_and(|host| {
            let with_port = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            value.eq_ignore_ascii_case(&with_port)
        }),
        "content-length" => value.parse() == Ok(body_length),
        "connection" => value.eq_ignore_ascii_case("keep-alive") || value.eq_ignore_ascii_case("close"),
        _ => false,
    }
}

pub(super) fn content_type(headers: &HeaderMap) -> ContentType {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    ContentType::parse(value.unwrap_or_default())
}

/// Decodes headers for a guest. A value that is not UTF-8 is read as ISO 8859-1, which HTTP once prescribed.
pub(super) fn decode_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding_rs::mem::decode_latin1(value.as_bytes()).into_owned(),
    };
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(request: Request) -> String {
        RequestTemplate::new(request).unwrap_err().to_string()
    }

    #[test]
    fn urls_take_one_form() {
        for (text, expected) in [
            ("HTTPS://WWW.Bank.Example:443/a#top", "https://www.bank.example/a"),
            ("https://bank.example./", "https://bank.example/"),
            ("https://b\u{fc}cher.example/", "https://xn--bcher-kva.example/"),
            ("https:\\\\bank.example\\x", "https://bank.example/x"),
            ("http://0x7f.1/", "http://127.0.0.1/"),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("https://bank.example/%2e%2e/x", "https://bank.example/x"),
        ] {
            assert_eq!(parse_url(text).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_header_with_one_meaning_is_sent_once() {
        let twice =
            |name: &str| Request::get("https://bank.example/").header(name, "a").header(&name.to_uppercase(), "b");
        insta::assert_snapshot!(refused(twice("content-type")), @"headers: content-type occurs twice; send it once");
        SINGLE_VALUE_HEADERS.iter().for_each(|name| drop(refused(twice(name))));
        let template = RequestTemplate::new(twice("accept-language")).unwrap();
        assert_eq!(template.headers.get_all("accept-language").iter().count(), 2);
        let (mut parts, ()) = http::Request::get("https://bank.example/").body(()).unwrap().into_parts();
        for value in ["Bearer a", "Bearer b"] {
            parts.headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        assert!(StreamingRequest::new(parts).is_err());
    }

    #[test]
    fn other_urls_are_rejected() {
        for text in [
            "",
            "/path",
            "bank.example/x",
            "ftp://bank.example/",
            "file:///etc/passwd",
            "https://",
            "https://ok@evil.example/",
            "https://:x@evil.example/",
            "https://a b/",
            "https://a.example../",
            "https://..",
            "https://.a.example/",
            "data:,x",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
        assert!(parse_url(&format!("https://a.example/{}", "x".repeat(MAX_URL_LENGTH))).is_err());
        assert!(parse_url(&format!("https://a.example/{}", "\u{e9}".repeat(MAX_URL_LENGTH / 3))).is_err());
    }

    #[test]
    fn headers_of_the_connection_are_rejected() {
        for (name, value) in [
            ("Host", "evil.example"),
            ("content-length", "4"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "upgrade"),
            ("Proxy-Authorization", "x"),
            ("Cookie2", "x"),
            ("TE", "trailers"),
            ("Upgrade", "websocket"),
            ("Expect", "100-continue"),
        ] {
            let text = refused(Request::post("https://a.example/", "text/plain", "abc").header(name, value));
            assert_eq!(text, format!("headers: {} is set by the host; leave it out", name.to_ascii_lowercase()));
        }
        let harmless = Request::post("https://a.example:8443/", "text/plain", "abc")
            .header("Host", "A.example:8443")
            .header("Content-Length", "3")
            .header("Connection", "keep-alive")
            .header("Accept-Encoding", "br");
        let headers = RequestTemplate::new(harmless).unwrap().headers;
        assert_eq!((headers.len(), &headers["accept-encoding"]), (2, &ACCEPT_ENCODING));
    }

    #[test]
    fn errors_name_the_field() {
        let get = || Request::get("https://a.example/");
        let labels = Request { form_charset: Some("x ".repeat(1_000)), ..get() };
        insta::assert_snapshot!(refused(labels), @"form-charset: the value is 2000 bytes long, but the limit is 1024 bytes");
        insta::assert_snapshot!(refused(Request::get("bank.example")), @"url: relative URL without a base; expected an absolute http or https URL");
        insta::assert_snapshot!(refused(Request::get("https://me:pw@bank.example")), @"url: the URL contains a user name or a password; send an Authorization header instead");
        insta::assert_snapshot!(refused(get().header("x y", "1")), @r#"headers: "x y" is not a valid header name (RFC 9110 §5.1)"#);
        insta::assert_snapshot!(refused(get().header("x", "a\r\nb: c")), @"headers: the value of x contains a line break or another control character");
        insta::assert_snapshot!(refused(Request { method: "GE T".into(), ..get() }), @"method: the value is not a valid HTTP method; use for example GET or POST");
        insta::assert_snapshot!(refused(Request { method: "trace".into(), ..get() }), @"method: TRACE is not available to konnectors");
        insta::assert_snapshot!(refused(get().header("x", &"y".repeat(70_000))), @"headers: there are 1 headers with 70001 bytes, but the limits are 100 headers and 65536 bytes");
    }

    proptest! {
        #[test]
        fn no_line_break_gets_through(name in "[a-zA-Z]{1,8}", value in "(\\PC|\r|\n|\0){0,20}") {
            if let Ok(template) = RequestTemplate::new(Request::get("https://a.example/").header(&name, &value)) {
                for value in template.headers.values() {
                    prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                }
            }
        }

        #[test]
        fn a_url_that_passes_passes_unchanged(text in "https?://[a-zA-Z0-9.:@%/\\\\#?\\[\\]-]{1,30}") {
            if let Ok(url) = parse_url(&text) {
                prop_assert_eq!(parse_url(url.as_str()).unwrap(), url.clone());
                prop_assert!(url.username().is_empty() && url.fragment().is_none() && url.host().is_some());
            }
        }
    }
}
