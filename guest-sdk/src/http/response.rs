use serde::de::DeserializeOwned;
use url::Url;

use super::{status, status_error};
use crate::bindings::konnector::host::http::{Body, Header, Response as Wire};
use crate::html::Page;
use crate::{Error, Result};

/// A response whose body has been read and decoded.
#[derive(Debug, Clone)]
pub struct Response {
    method: String,
    status: u16,
    url: Url,
    headers: Vec<Header>,
    body: Body,
    charset: Option<String>,
}

impl Response {
    pub(super) fn new(method: &str, wire: Wire) -> Result<Self> {
        let url = super::parse_url(None, &wire.url)?;
        let Wire { status, headers, body, charset, .. } = wire;
        Ok(Self { method: method.to_owned(), status, url, headers, body, charset })
    }

    /// Returns the status, for example 200.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the URL of the response, after redirects.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the first header of this name, ignoring case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.as_str())
    }

    /// Returns the original encoding of its text, for example `windows-1252`.
    #[must_use]
    pub fn charset(&self) -> Option<&str> {
        self.charset.as_deref()
    }

    /// Returns the response, unless its status is 400 or higher.
    ///
    /// # Errors
    ///
    /// If the status is 400 or higher: 401 is [`Error::BadCredentials`], 429 [`Error::RateLimited`], 503 with
    /// `Retry-After` [`Error::VendorMaintenance`], another 5xx [`Error::VendorDown`], any other status
    /// [`Error::VendorChanged`]. If a vendor uses a status differently, check [`Self::status`] first.
    pub fn error_for_status(self) -> Result<Self> {
        if self.status < 400 {
            return Ok(self);
        }
        let after = self.header("retry-after").and_then(|value| status::retry_after(value, self.header("date")));
        Err(status_error(self.status, after, &format!("{} {}", self.method, self.url)))
    }

    /// Returns the body as text.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if it is not text.
    pub fn text(self) -> Result<String> {
        match self.body {
            Body::Text(text) => Ok(text),
            Body::Bytes(bytes) => String::from_utf8(bytes).map_err(|_not_text| {
                Error::vendor_changed(format!("the response to {} {} is not text", self.method, self.url))
            }),
        }
    }

    /// Returns the body as bytes; text is in UTF-8.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        match self.body {
            Body::Text(text) => text.into_bytes(),
            Body::Bytes(bytes) => bytes,
        }
    }

    /// Deserialises the JSON body.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] with the position of the unexpected JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        let subject = format!("{} {}", self.method, self.url);
        serde_json::from_slice(&self.bytes()).map_err(|error| Error::from(error).context(subject))
    }

    /// Parses the body as a page.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if it is not text.
    pub fn html(self) -> Result<Page> {
        let (url, charset) = (self.url.clone(), self.charset.clone());
        let page = Page::new(&self.text()?, url);
        Ok(match charset {
            Some(charset) => page.with_charset(&charset),
            None => page,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::http::Client;
    use crate::testing::{MockHost, MockResponse};

    #[test]
    fn a_failure_names_the_request() {
        let _host = MockHost::new()
            .respond("https://a.example/down", MockResponse::status(503, "").header("Retry-After", "60"))
            .respond("https://a.example/page", "<p>no JSON</p>")
            .respond("https://a.example/image", MockResponse::bytes(&[0xff, 0xfe]));
        let client = Client::new("https://a.example").unwrap();
        let error = client.get("/down").text().unwrap_err();
        insta::assert_snapshot!(error, @"the vendor is down for maintenance: GET https://a.example/down returned 503 Service Unavailable");
        let error = client.get("/page").json_response::<Vec<u8>>().unwrap_err();
        insta::assert_snapshot!(error, @"the vendor's site changed: GET https://a.example/page: expected value at line 1 column 1");
        let error = client.post("/image").text().unwrap_err();
        insta::assert_snapshot!(error, @"the vendor's site changed: the response to POST https://a.example/image is not text");
        assert_eq!(client.get("/image").bytes().unwrap(), [0xff, 0xfe]);
    }
}
