use serde_json::Value;

use crate::bindings::konnector::host::http::{Body, Header, HttpError, Response};

/// Response of the vendor in a test.
#[derive(Debug, Clone)]
#[must_use]
pub struct MockResponse(Result<Response, HttpError>);

impl MockResponse {
    /// Creates a response with this status and text.
    pub fn status(status: u16, text: &str) -> Self {
        Self(Ok(Response {
            status,
            url: String::new(),
            headers: Vec::new(),
            body: Body::Text(text.to_owned()),
            charset: None,
        }))
    }

    /// Creates a response with a file.
    pub fn bytes(content: &[u8]) -> Self {
        Self(Ok(Response {
            status: 200,
            url: String::new(),
            headers: Vec::new(),
            body: Body::Bytes(content.to_vec()),
            charset: None,
        }))
    }

    /// Creates a failed exchange without a response.
    pub fn failure(error: HttpError) -> Self {
        Self(Err(error))
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Ok(response) = &mut self.0 {
            response.headers.push(Header { name: name.to_owned(), value: value.to_owned() });
        }
        self
    }

    /// Sets the encoding of the text, for example `windows-1252`.
    pub fn charset(mut self, label: &str) -> Self {
        if let Ok(response) = &mut self.0 {
            response.charset = Some(label.to_owned());
        }
        self
    }

    /// Sets the final URL, as after a redirect.
    pub fn with_final_url(mut self, url: &str) -> Self {
        if let Ok(response) = &mut self.0 {
            url.clone_into(&mut response.url);
        }
        self
    }

    pub(super) fn into_result(self, requested: &str) -> Result<Response, HttpError> {
        self.0.map(|mut response| {
            if response.url.is_empty() {
                requested.clone_into(&mut response.url);
            }
            response
        })
    }
}

/// A page or another text, status 200.
impl From<&str> for MockResponse {
    fn from(text: &str) -> Self {
        Self::status(200, text)
    }
}

/// A JSON response, status 200.
impl From<Value> for MockResponse {
    fn from(value: Value) -> Self {
        Self::status(200, &value.to_string()).header("content-type", "application/json")
    }
}
