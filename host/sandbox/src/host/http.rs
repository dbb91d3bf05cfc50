//! The interface `http`.

use std::sync::Arc;
use std::time::Duration;

use super::download::{self, NotStored};
use super::{Halt, Host, error_for_guest};
use crate::bindings::konnector::host::files::Target;
use crate::bindings::konnector::host::http as wit;
use crate::http::{Body, Expect, HttpError, Phase, Request};

impl wit::Host for Host {
    async fn send(&mut self, request: wit::Request) -> wasmtime::Result<Result<wit::Response, wit::HttpError>> {
        let session = Arc::clone(&self.context.capabilities.http);
        let answer = Box::pin(async move { session.send(request.into()).await });
        Ok(match self.context.beside_guest(answer).await {
            None => Err(wit::HttpError::Cancelled),
            Some(Ok(response)) => Ok(wit::Response {
                status: response.status,
                url: response.url,
                headers: response.headers.into_iter().map(|(name, value)| wit::Header { name, value }).collect(),
                body: match response.body {
                    Body::Text(text) => wit::Body::Text(text),
                    Body::Bytes(bytes) => wit::Body::Bytes(bytes.into()),
                },
            }),
            Some(Err(error)) => Err(error.into()),
        })
    }

    async fn download(
        &mut self,
        request: wit::Request,
        to: Target,
    ) -> wasmtime::Result<Result<crate::bindings::konnector::host::files::Stored, wit::HttpError>> {
        let context = Arc::clone(&self.context);
        let stored = Box::pin(async move { download::download(&context, request.into(), to).await });
        Ok(match self.context.beside_guest(stored).await {
            None => Err(wit::HttpError::Cancelled),
            Some(Ok(stored)) => {
                self.context.meter.files.count(stored.written);
                Ok(stored.into())
            }
            Some(Err(reason)) => Err(not_stored(reason)?),
        })
    }

    fn forget_session(&mut self) -> wasmtime::Result<()> {
        self.context.capabilities.http.forget_cookies();
        Ok(())
    }
}

fn not_stored(reason: NotStored) -> Result<wit::HttpError, Halt> {
    Ok(match reason {
        NotStored::Http(error) => error.into(),
        NotStored::Status(status) => wit::HttpError::Status(status),
        NotStored::Unexpected(text) => wit::HttpError::UnexpectedContent(text),
        NotStored::File(error) => wit::HttpError::File(error_for_guest(error)?),
    })
}

impl From<wit::Request> for Request {
    fn from(request: wit::Request) -> Self {
        Self {
            method: request.method,
            url: request.url,
            headers: request.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            body: request.body.map(Into::into),
            expect: match request.expect {
                wit::Expect::Auto => Expect::Auto,
                wit::Expect::Text => Expect::Text,
                wit::Expect::Bytes => Expect::Bytes,
            },
            follow_redirects: request.follow_redirects,
            timeout: request.timeout_ms.map(|milliseconds| Duration::from_millis(u64::from(milliseconds))),
        }
    }
}

impl From<HttpError> for wit::HttpError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Denied(text) => Self::Denied(text),
            HttpError::AddressProhibited(text) => Self::AddressProhibited(text),
            HttpError::Unreachable(text) => Self::Unreachable(text),
            HttpError::Tls(text) => Self::Tls(text),
            HttpError::Timeout(phase) => Self::Timeout(match phase {
                Phase::Connect => wit::Phase::Connect,
                Phase::Headers => wit::Phase::Headers,
                Phase::Body => wit::Phase::Body,
                Phase::Total => wit::Phase::Total,
            }),
            HttpError::TooManyRedirects => Self::TooManyRedirects,
            HttpError::TooLarge(limit) => Self::TooLarge(limit),
            HttpError::QuotaExceeded(text) => Self::QuotaExceeded(text),
            HttpError::Invalid(text) => Self::Invalid(text),
            HttpError::Protocol(text) => Self::Protocol(text),
            HttpError::Other(text) => Self::Other(text),
        }
    }
}
