//! Just enough HTTP for one request at a time.

#[cfg(not(target_os = "wasi"))]
mod native;
#[cfg(target_os = "wasi")]
mod wasi;

#[cfg(not(target_os = "wasi"))]
pub use native::send;
use url::Url;
#[cfg(target_os = "wasi")]
pub use wasi::send;

/// A request.
pub struct Request {
    /// HTTP method, such as `GET`.
    pub method: &'static str,
    /// Target URL.
    pub url: Url,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// Empty if there is no body.
    pub body: Vec<u8>,
}

/// A response.
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Request {
    /// Creates a request without headers and body.
    pub fn new(method: &'static str, url: &str) -> Result<Self, String> {
        let url = url.parse().map_err(|error| format!("{url} is not a valid URL: {error}"))?;
        Ok(Self { method, url, headers: Vec::new(), body: Vec::new() })
    }
}

impl Response {
    /// Returns the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}
