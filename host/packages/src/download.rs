//! The server's own requests for bundles. They pass the same gate as those of konnectors; private addresses are
//! contacted only if the operator allows them. Redirects may lead to other hosts, since archives are often served
//! through redirects.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use konnector_egress::{
    BodyFormat, DecodedBody, HttpBudget, HttpError, MAX_REDIRECTS, Request, Response, SecretTable, Session,
    SessionOptions,
};
use konnector_manifest::HttpRules;
use url::Url;

use crate::Konnectors;
use crate::{Error, Result};

/// Maximum size of an archive or a layer, in bytes.
pub(super) const MAX_ARCHIVE_SIZE: u64 = 64 << 20;
/// Maximum size in bytes of a description: a version document, a list, an icon.
pub(super) const MAX_TEXT_SIZE: u64 = 8 << 20;
/// Timeout for one file.
pub(super) const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a header of a response; `name` in lower case.
pub(super) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

/// Returns the bytes of a body.
pub(super) fn into_bytes(body: DecodedBody) -> Bytes {
    match body {
        DecodedBody::Bytes(bytes) => bytes,
        DecodedBody::Text(text) => text.into(),
    }
}

impl Konnectors {
    /// Creates a session that may contact any host, for at most `max_size` bytes in total.
    pub(super) fn http_session(&self, max_size: u64) -> Session {
        self.context.state.gate.session(SessionOptions {
            rules: HttpRules::allow_all(),
            cookies: None,
            budget: HttpBudget {
                requests: 4 + MAX_REDIRECTS as u64,
                bytes_up: 1 << 20,
                bytes_down: max_size,
                body_limit: max_size,
            },
            secrets: Arc::new(SecretTable::default()),
            account: None,
        })
    }

    /// Fetches a file, regardless of the status of the response. Cancel-safe.
    pub(super) async fn fetch_url(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        max_size: u64,
        timeout: Duration,
    ) -> Result<Response, HttpError> {
        self.http_session(max_size).send(get_request(url, headers, timeout)).await
    }

    /// Fetches a file that must exist.
    pub(super) async fn download(&self, url: &Url) -> Result<Bytes> {
        let unreachable = |error: HttpError| Error::Unreachable(format!("the source {url} cannot be reached: {error}"));
        let response = self.fetch_url(url, &[], MAX_ARCHIVE_SIZE, DOWNLOAD_TIMEOUT).await.map_err(unreachable)?;
        if response.status != 200 {
            return Err(Error::Unreachable(format!("the source {url} responded with status {}", response.status)));
        }
        Ok(into_bytes(response.body))
    }
}

/// Builds a request that follows redirects.
pub(super) fn get_request(url: &Url, headers: &[(&str, &str)], timeout: Duration) -> Request {
    Request {
        method: "GET".to_owned(),
        url: url.to_string(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: None,
        form_charset: None,
        body_format: BodyFormat::Bytes,
        follow_redirects: true,
        timeout: Some(timeout),
    }
}
