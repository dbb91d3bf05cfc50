//! HTTP to the hosts that the manifest names. Redirects, the account's cookies, decompression and charsets are the host's work.

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

use crate::bindings::konnector::host::http::HttpError;
use crate::{Error, Result, host};

/// Forgets the account's cookies, so that the next request starts a new session at the vendor.
pub fn forget_session() {
    host::http::forget_session();
}

/// The failure of one exchange, with the address in it.
fn exchange_error(method: &str, url: &str, error: HttpError) -> Error {
    match error {
        HttpError::Status(status) => status_error(status, None, &format!("{method} {url}")),
        // What the host refuses already names the rule, and a file's failure is about the user's files.
        HttpError::Denied(_) | HttpError::AddressProhibited(_) | HttpError::File(_) => error.into(),
        other => Error::from(other).during(format_args!("{method} {url}")),
    }
}

fn parse_url(base: Option<&url::Url>, text: &str) -> Result<url::Url> {
    let parsed = match base {
        Some(base) => base.join(text),
        None => url::Url::parse(text),
    };
    parsed.map_err(|error| Error::bug(format!("the address `{text}`: {error}")))
}
