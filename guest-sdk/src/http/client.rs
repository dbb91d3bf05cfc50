use std::fmt::Display;

use url::Url;

use super::{Pages, Request, RequestBuilder, Response, download_error, exchange_error, parse_url};
use crate::bindings::konnector::host::files::{SavedFile, Target};
use crate::bindings::konnector::host::http::Request as Wire;
use crate::{Result, host};

/// The base URL of requests and their common headers.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    headers: Vec<(String, String)>,
}

impl Client {
    /// Creates a client for one site. URLs are relative to `base` as in a page's links: `/x` from the root of the
    /// host, `x` below the path of `base`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Bug`] if `base` is not an absolute URL.
    pub fn new(base: impl AsRef<str>) -> Result<Self> {
        let mut base = parse_url(None, base.as_ref())?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { base, headers: Vec::new() })
    }

    /// Adds a header to every request. `Authorization` is sent only to the host of `base`.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Authenticates every request with a name and a password (RFC 7617).
    #[must_use]
    pub fn basic_auth(self, user: &str, password: impl Display) -> Self {
        let value = super::request::basic_credentials(user, &password);
        self.header("authorization", value)
    }

    /// Authenticates every request with a token (RFC 6750).
    #[must_use]
    pub fn bearer(self, token: impl Display) -> Self {
        self.header("authorization", format_args!("Bearer {token}"))
    }

    /// Returns the URL that other URLs are relative to.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.base
    }

    /// Creates a GET request.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder<'_> {
        self.request("GET", url)
    }

    /// Creates a POST request.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder<'_> {
        self.request("POST", url)
    }

    /// Creates a request with any method. An invalid URL is reported when the request is sent.
    pub fn request(&self, method: &str, url: impl AsRef<str>) -> RequestBuilder<'_> {
        let request = parse_url(Some(&self.base), url.as_ref()).map(|url| Request::new(method, url));
        RequestBuilder::new(self, request)
    }

    /// Iterates over the pages of a list, starting with `first`. The element that `next` selects on each page links to
    /// the following page.
    ///
    /// ```no_run
    /// # use konnector_sdk::prelude::*;
    /// # fn run(client: &Client) -> Result<()> {
    /// for page in client.pages("/bills", "a[rel=next]") {
    ///     for row in page?.select("table.bills tbody tr")? {}
    /// }
    /// # Ok(()) }
    /// ```
    pub fn pages(&self, first: impl AsRef<str>, next: &str) -> Pages<'_> {
        Pages::new(self, first.as_ref(), next)
    }

    /// Returns the value of a cookie that a request to this client's base URL would carry, for example a token that
    /// the site expects in a header.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Denied`] if no rule of the manifest names the host.
    pub fn cookie(&self, name: &str) -> Result<Option<String>> {
        let cookies = host::http::cookies(self.base.as_str())?;
        Ok(cookies.into_iter().find(|cookie| cookie.name == name).map(|cookie| cookie.value))
    }

    /// Stores a cookie as if the site had set it: `consent=yes; Path=/`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Bug`] if no site may set the cookie, [`crate::Error::Denied`] if no rule of the manifest
    /// names the host.
    pub fn set_cookie(&self, cookie: &str) -> Result<()> {
        Ok(host::http::set_cookie(self.base.as_str(), cookie)?)
    }

    /// Sends a request as it is, with this client's headers. Any status is a response; see
    /// [`Response::error_for_status`].
    ///
    /// # Errors
    ///
    /// If there is no response: [`crate::Error::VendorDown`], or [`crate::Error::Denied`] by the manifest's rules.
    pub fn send(&self, request: &Request) -> Result<Response> {
        let wire = self.wire(request);
        let response = host::http::send(&wire).map_err(|error| exchange_error(&wire.method, &wire.url, error))?;
        Response::new(&wire.method, response)
    }

    /// Stores the response body as a file, without passing it through the konnector.
    pub(crate) fn download(&self, request: &Request, target: &Target) -> Result<SavedFile> {
        let wire = self.wire(request);
        host::http::download(&wire, target).map_err(|error| download_error(&wire.method, &wire.url, error))
    }

    fn wire(&self, request: &Request) -> Wire {
        let is_home = request.url().origin() == self.base.origin();
        let headers = self.headers.iter().filter(|(name, _)| is_home || !name.eq_ignore_ascii_case("authorization"));
        request.to_wire(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MockHost;

    #[test]
    fn credentials_stay_with_the_clients_own_host() {
        let host = MockHost::new().respond("https://a.example/x", "a").respond("https://b.example/x", "b");
        let client = Client::new("https://a.example").unwrap().bearer("token").header("accept", "*/*");
        client.get("/x").text().unwrap();
        client.get("https://b.example/x").text().unwrap();
        let sent: Vec<_> = host.requests().into_iter().map(|request| request.headers.len()).collect();
        assert_eq!(sent, [2, 1]);
    }
}
