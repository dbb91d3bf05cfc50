//! The interface `http`.

use std::sync::Arc;
use std::time::Duration;

use super::download::{self, DownloadFailure};
use super::{Host, LeaseLost, to_guest_error, truncate_error};
use crate::bindings::konnector::host::files::{SavedFile, Target};
use crate::bindings::konnector::host::http as wit;
use konnector_egress::{BodyFormat, DecodedBody, HttpError, Phase, Request};

/// Maximum size of a cookie with its attributes in bytes. Browsers accept 4,096 for name and value, and 1,024 for each
/// attribute (RFC 6265bis §5.6).
const MAX_COOKIE: usize = 8 << 10;

impl wit::Host for Host {
    async fn send(&mut self, request: wit::Request) -> wasmtime::Result<Result<wit::Response, wit::HttpError>> {
        let session = Arc::clone(&self.context.capabilities.http);
        let response = Box::pin(async move { session.send(request.into()).await });
        Ok(match self.context.run_side_task(response).await {
            None => Err(wit::HttpError::Cancelled),
            Some(Ok(response)) => Ok(wit::Response {
                status: response.status,
                url: response.url,
                charset: response.charset.map(str::to_owned),
                headers: response.headers.into_iter().map(|(name, value)| wit::Header { name, value }).collect(),
                body: match response.body {
                    DecodedBody::Text(text) => wit::Body::Text(text),
                    DecodedBody::Bytes(bytes) => wit::Body::Bytes(bytes.into()),
                },
            }),
            Some(Err(error)) => Err(error.into()),
        })
    }

    async fn download(
        &mut self,
        request: wit::Request,
        target: Target,
    ) -> wasmtime::Result<Result<SavedFile, wit::DownloadError>> {
        let context = Arc::clone(&self.context);
        let stored = Box::pin(async move { download::download(&context, request.into(), target).await });
        Ok(match self.context.run_side_task(stored).await {
            None => Err(wit::DownloadError::Http(wit::HttpError::Cancelled)),
            Some(Ok(stored)) => {
                self.context.meter.files.record(stored.outcome);
                Ok(stored.into())
            }
            Some(Err(reason)) => Err(to_download_error(reason)?),
        })
    }

    fn cookies(&mut self, url: String) -> wasmtime::Result<Result<Vec<wit::Cookie>, wit::HttpError>> {
        let cookies = self.context.capabilities.http.cookies_for(&url);
        let cookie = |(name, value)| wit::Cookie { name, value };
        Ok(cookies.map(|cookies| cookies.into_iter().map(cookie).collect()).map_err(wit::HttpError::from))
    }

    fn set_cookie(&mut self, url: String, cookie: String) -> wasmtime::Result<Result<(), wit::HttpError>> {
        if cookie.len() > MAX_COOKIE {
            let text = format!("cookie: got {} bytes, but at most {MAX_COOKIE} are allowed", cookie.len());
            return Ok(Err(wit::HttpError::Invalid(text)));
        }
        Ok(self.context.capabilities.http.set_cookie(&url, &cookie).map_err(wit::HttpError::from))
    }

    fn clear_cookies(&mut self) -> wasmtime::Result<()> {
        self.context.capabilities.http.clear_cookies();
        Ok(())
    }
}

fn to_download_error(reason: DownloadFailure) -> Result<wit::DownloadError, LeaseLost> {
    Ok(match reason {
        DownloadFailure::Http(error) => wit::DownloadError::Http(error.into()),
        DownloadFailure::Status(status) => wit::DownloadError::Status(status),
        DownloadFailure::UnexpectedContent(text) => wit::DownloadError::UnexpectedContent(text),
        DownloadFailure::File(error) => wit::DownloadError::File(to_guest_error(error)?),
    })
}

impl From<wit::Request> for Request {
    fn from(request: wit::Request) -> Self {
        Self {
            method: request.method,
            url: request.url,
            headers: request.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            body: request.body.map(Into::into),
            form_charset: request.form_charset,
            body_format: match request.response_format {
                wit::BodyFormat::ByMediaType => BodyFormat::Auto,
                wit::BodyFormat::Text => BodyFormat::Text,
                wit::BodyFormat::Bytes => BodyFormat::Bytes,
            },
            follow_redirects: request.follow_redirects,
            timeout: request.timeout_ms.map(|milliseconds| Duration::from_millis(u64::from(milliseconds))),
        }
    }
}

impl From<HttpError> for wit::HttpError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Denied(text) => Self::Denied(truncate_error(text)),
            HttpError::AddressProhibited(text) => Self::AddressProhibited(truncate_error(text)),
            HttpError::Unreachable(text) => Self::Unreachable(truncate_error(text)),
            HttpError::Tls(text) => Self::Tls(truncate_error(text)),
            HttpError::Timeout(phase) => Self::Timeout(match phase {
                Phase::Connect => wit::Phase::Connect,
                Phase::Headers => wit::Phase::Headers,
                Phase::Body => wit::Phase::Body,
                Phase::Total => wit::Phase::Total,
            }),
            HttpError::TooManyRedirects => Self::TooManyRedirects,
            HttpError::TooLarge(limit) => Self::TooLarge(limit),
            HttpError::QuotaExceeded(text) => Self::LimitReached(text),
            HttpError::Invalid(text) => Self::Invalid(truncate_error(text)),
            HttpError::Protocol(text) => Self::Protocol(truncate_error(text)),
            HttpError::Other(text) => Self::Internal(text),
        }
    }
}
