use std::fmt::Display;
use std::time::Duration;

use base64::Engine as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::{Client, Response};
use crate::bindings::konnector::host::http::{BodyFormat, Header, Request as Wire};
use crate::html::Page;
use crate::{Error, Result};

/// Headers that the host accepts only once.
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

/// A request that has not been sent yet, on its own: [`crate::http::FileSource`] stores it for later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    method: String,
    url: Url,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    form_charset: Option<String>,
    as_bytes: bool,
    follow_redirects: bool,
    timeout: Option<Duration>,
}

impl Request {
    /// Creates a request without headers or a body.
    #[must_use]
    pub fn new(method: &str, url: Url) -> Self {
        Self {
            method: method.to_owned(),
            url,
            headers: Vec::new(),
            body: None,
            form_charset: None,
            as_bytes: false,
            follow_redirects: true,
            timeout: None,
        }
    }

    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Converts the request to the contract's form; `defaults` are the headers that it does not set itself.
    pub(super) fn to_wire<'a>(&'a self, defaults: impl Iterator<Item = &'a (String, String)>) -> Wire {
        let is_set = |name: &str| self.headers.iter().any(|(set, _)| set.eq_ignore_ascii_case(name));
        let defaults = defaults.filter(|(name, _)| !is_set(name));
        let headers = defaults.chain(&self.headers);
        Wire {
            method: self.method.clone(),
            url: self.url.to_string(),
            headers: headers.map(|(name, value)| Header { name: name.clone(), value: value.clone() }).collect(),
            body: self.body.clone(),
            form_charset: self.form_charset.clone(),
            response_format: if self.as_bytes { BodyFormat::Bytes } else { BodyFormat::ByMediaType },
            follow_redirects: self.follow_redirects,
            timeout_ms: self.timeout.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
        }
    }
}

/// Builds a request. Errors in it (a URL, a body) are reported when it is sent.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder<'a> {
    client: &'a Client,
    request: Result<Request>,
}

impl<'a> RequestBuilder<'a> {
    pub(super) fn new(client: &'a Client, request: Result<Request>) -> Self {
        Self { client, request }
    }

    fn change(mut self, change: impl FnOnce(&mut Request)) -> Self {
        if let Ok(request) = &mut self.request {
            change(request);
        }
        self
    }

    fn with_body(self, kind: &str, body: Result<Vec<u8>>) -> Self {
        match body {
            Ok(body) => self.header("content-type", kind).change(|request| request.body = Some(body)),
            Err(error) => Self { client: self.client, request: self.request.and(Err(error)) },
        }
    }

    /// Adds a pair to the URL's query.
    pub fn query(self, name: &str, value: impl Display) -> Self {
        self.change(|request| {
            request.url.query_pairs_mut().append_pair(name, &value.to_string());
        })
    }

    /// Sets a header, replacing the client's header of that name. If it is set again, a header that may occur only
    /// once (`Content-Type`, `Authorization` and the like) is replaced; other headers are sent twice.
    pub fn header(self, name: &str, value: impl Display) -> Self {
        self.change(|request| {
            if SINGLE_VALUE_HEADERS.iter().any(|single| single.eq_ignore_ascii_case(name)) {
                request.headers.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
            }
            request.headers.push((name.to_owned(), value.to_string()));
        })
    }

    /// Sets a name and a password (RFC 7617). The password may be a [`crate::Secret`].
    pub fn basic_auth(self, user: &str, password: impl Display) -> Self {
        self.header("authorization", basic_credentials(user, &password))
    }

    /// Sets a token (RFC 6750).
    pub fn bearer(self, token: impl Display) -> Self {
        self.header("authorization", format_args!("Bearer {token}"))
    }

    /// Sets a form body as a browser sends it: `&[("name", "value")]`, `json!({…})` or a structure.
    pub fn form<T: Serialize + ?Sized>(self, fields: &T) -> Self {
        let body =
            serde_urlencoded::to_string(fields).map_err(|error| Error::bug(format!("cannot encode the form: {error}")));
        self.with_body("application/x-www-form-urlencoded", body.map(String::into_bytes))
    }

    /// Sends the form (or, without a body, the URL's query) in an encoding other than UTF-8, for example
    /// `windows-1252`. The forms of pages ([`Page::form`]) do this automatically.
    pub fn form_charset(self, label: &str) -> Self {
        self.change(|request| request.form_charset = Some(label.to_owned()))
    }

    /// Sets a JSON body.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        let body = serde_json::to_vec(value).map_err(|error| Error::bug(format!("cannot serialise the body: {error}")));
        self.with_body("application/json", body)
    }

    /// Sets any other body, with its media type.
    pub fn body(self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.with_body(media_type, Ok(body.into()))
    }

    /// Returns a redirect as it is, instead of following it.
    pub fn no_redirects(self) -> Self {
        self.change(|request| request.follow_redirects = false)
    }

    /// Sets the timeout of the whole exchange; the host has a default and a maximum.
    pub fn timeout(self, time: Duration) -> Self {
        self.change(|request| request.timeout = Some(time))
    }

    /// Returns the request on its own, for later.
    ///
    /// # Errors
    ///
    /// [`Error::Bug`] if the URL or the body is invalid.
    pub fn build(self) -> Result<Request> {
        self.request
    }

    /// Sends the request. Any status is a response.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub fn send(self) -> Result<Response> {
        self.client.send(&self.request?)
    }

    /// Sends the request and parses the response as a page.
    ///
    /// # Errors
    ///
    /// As [`Client::send`] and [`Response::error_for_status`].
    pub fn html(self) -> Result<Page> {
        self.send()?.error_for_status()?.html()
    }

    /// Sends the request and parses the response as JSON.
    ///
    /// # Errors
    ///
    /// As [`Client::send`], [`Response::error_for_status`] and [`Response::json`].
    pub fn json_response<T: DeserializeOwned>(self) -> Result<T> {
        self.send()?.error_for_status()?.json()
    }

    /// Sends the request and returns the text of the response.
    ///
    /// # Errors
    ///
    /// As [`Client::send`] and [`Response::error_for_status`].
    pub fn text(self) -> Result<String> {
        self.send()?.error_for_status()?.text()
    }

    /// Sends the request and returns the bytes of the response. For files, prefer `save_bills` or `save_files`.
    ///
    /// # Errors
    ///
    /// As [`Client::send`] and [`Response::error_for_status`].
    pub fn bytes(self) -> Result<Vec<u8>> {
        Ok(self.change(|request| request.as_bytes = true).send()?.error_for_status()?.bytes())
    }
}

pub(super) fn basic_credentials(user: &str, password: &dyn Display) -> String {
    let pair = format!("{user}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MockHost;
    use serde_json::json;

    #[test]
    fn addresses_are_relative_to_the_clients() {
        let client = Client::new("https://a.example/api/v1").unwrap();
        let address = |url: &str| client.get(url).query("q", "é &").build().unwrap().url().to_string();
        assert_eq!(address("bills"), "https://a.example/api/v1/bills?q=%C3%A9+%26");
        assert_eq!(address("/bills?page=2"), "https://a.example/bills?page=2&q=%C3%A9+%26");
        assert_eq!(address("https://b.example/"), "https://b.example/?q=%C3%A9+%26");
        insta::assert_snapshot!(Client::new("a.example").unwrap_err(), @"`a.example` is not a valid URL: relative URL without a base");
        assert!(matches!(client.get("https://[").form(&[("a", "b")]).send(), Err(Error::Bug(_))));
    }

    #[test]
    fn a_requests_header_replaces_the_clients() {
        let host = MockHost::new().respond("https://a.example/x", "fine");
        let client = Client::new("https://a.example").unwrap().header("Accept", "text/html").header("dnt", 1);
        let text = client.post("x").header("accept", "application/json").form(&json!({ "a b": "é", "n": 1 })).text();
        assert_eq!(text.unwrap(), "fine");
        let sent = &host.requests()[0];
        assert_eq!(sent.body, "a+b=%C3%A9&n=1");
        let names: Vec<_> = sent.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(names, ["dnt: 1", "accept: application/json", "content-type: application/x-www-form-urlencoded"]);
    }

    #[test]
    fn the_last_content_type_counts() {
        let client = Client::new("https://a.example").unwrap();
        let request =
            client.post("x").form(&[("a", "b")]).header("Content-Type", "text/plain").header("x", 1).header("x", 2);
        let headers = request.build().unwrap().headers;
        let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(headers, ["Content-Type: text/plain", "x: 1", "x: 2"]);
    }

    #[test]
    fn basic_authentication_encodes_the_placeholder() {
        let _host = MockHost::new().secret("password");
        let secret = crate::Secret::load("password").unwrap();
        assert_eq!(basic_credentials("me", &secret), "Basic bWU6c2VjcmV0LXBhc3N3b3JkLXBsYWNlaG9sZGVy");
    }
}
