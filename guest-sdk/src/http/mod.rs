//! HTTP to the hosts that the manifest names. The host handles redirects, the account's cookies, decompression and
//! charsets.

mod client;
mod pages;
mod request;
mod response;
mod source;
mod status;

pub use client::Client;
pub use pages::Pages;
pub use request::{Request, RequestBuilder};
pub use response::Response;
pub use source::FileSource;
pub(crate) use status::status_error;

use crate::bindings::konnector::host::http::{DownloadError, HttpError};
use crate::{Error, Result, host};

/// Deletes the account's cookies, so that the next request starts a new session at the vendor.
pub fn clear_cookies() {
    host::http::clear_cookies();
}

/// Converts the failure of one exchange, including the URL.
fn exchange_error(method: &str, url: &str, error: HttpError) -> Error {
    match error {
        // A denial by the host already names the rule.
        HttpError::Denied(_) | HttpError::AddressProhibited(_) => error.into(),
        other => Error::from(other).context(format_args!("{method} {url}")),
    }
}

/// Converts the failure of one download, including the URL.
fn download_error(method: &str, url: &str, error: DownloadError) -> Error {
    match error {
        DownloadError::Http(error) => exchange_error(method, url, error),
        DownloadError::Status(status) => status_error(status, None, &format!("{method} {url}")),
        DownloadError::UnexpectedContent(_) => Error::from(error).context(format_args!("{method} {url}")),
        // A file error concerns the user's files.
        DownloadError::File(_) => error.into(),
    }
}

fn parse_url(base: Option<&url::Url>, text: &str) -> Result<url::Url> {
    let parsed = match base {
        Some(base) => base.join(text),
        None => url::Url::parse(text),
    };
    parsed.map_err(|error| Error::bug(format!("`{text}` is not a valid URL: {error}")))
}
