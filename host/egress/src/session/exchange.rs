//! One exchange: a request and the headers of its response.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpInfo;
use hyper_util::client::legacy::{self, ResponseFuture};
use konnector_manifest::{PermissionDenied, SecretScope};

use super::SessionState;
use super::accounting::{headers_size, request_size};
use super::echoable_secrets::EchoableSecrets;
use crate::address::is_public;
use crate::body::WireBody;
use crate::client_error::to_http_error;
use crate::error::{HttpError, Phase};
use crate::network_usage::{DenialReason, SentSecrets};
use crate::origin_pool::{OriginPool, OutboundBody, check_ip_literal};
use crate::redirect::{self, RedirectRequest};
use crate::request::RequestTemplate;
use crate::response_stream::{Deadline, MinRate, ResponseStream};
use crate::substitute::{FilledRequest, SecretPolicy, check_large_body, fill};

/// Context of a request that is about to be sent.
pub(crate) struct SendContext<'a> {
    pub(crate) origin: &'a str,
    pub(crate) bytes: u64,
    /// The secrets in it.
    pub(crate) secrets: &'a SentSecrets,
}

/// A request in progress.
pub(crate) type PendingResponse = ResponseFuture;

impl SessionState {
    /// Exchanges one request for the headers of its response; `original` is the guest's request before any redirect.
    /// Adds to `echoable` the secrets that the response may repeat.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        template: &RequestTemplate,
        original: &RequestTemplate,
        deadline: Deadline,
        echoable: &mut EchoableSecrets,
    ) -> Result<ResponseStream, HttpError> {
        let origin = template.url.origin().ascii_serialization();
        let result = self.try_exchange(template, original, deadline, &origin, echoable).await;
        self.record_prohibited_address(&origin, &result);
        result
    }

    /// Returns the request for the next redirect, if any.
    pub(super) fn next_redirect(
        &self,
        template: &RequestTemplate,
        response: &ResponseStream,
    ) -> Result<Option<RequestTemplate>, HttpError> {
        let origin = template.url.origin().ascii_serialization();
        let status = StatusCode::from_u16(response.status()).unwrap_or_default();
        let next = redirect::redirect_request(
            template,
            status,
            response.raw_headers(),
            &self.secrets.snapshot(),
            response.redactor.as_ref(),
        );
        self.record_usage(|usage| match &next {
            Ok(Some(RedirectRequest { dropped_credentials: dropped, .. })) => {
                usage.host(&origin).credentials_dropped += dropped
            }
            Err(HttpError::Denied(_)) => usage.host(&origin).record_denied(DenialReason::Downgrade),
            Ok(None) | Err(_) => {}
        });
        Ok(next?.map(|next| next.template))
    }

    /// Records a denial by the manifest and returns its error.
    fn deny(&self, origin: &str, reason: DenialReason, denied: PermissionDenied) -> HttpError {
        self.record_usage(|usage| usage.host(origin).record_denied(reason));
        HttpError::Denied(denied.to_string())
    }

    async fn try_exchange(
        self: &Arc<Self>,
        template: &RequestTemplate,
        original: &RequestTemplate,
        deadline: Deadline,
        origin: &str,
        echoable: &mut EchoableSecrets,
    ) -> Result<ResponseStream, HttpError> {
        check_large_body(template.body.as_ref(), &self.secrets.snapshot()).await?;
        let FilledRequest { mut headers, body, secrets } = self.authorize(template, origin)?;
        // Count placeholders, not values, because the guest must not learn the length of a value from the receipt or
        // the budget.
        let bytes = request_size(template);
        let guest_cookies = headers.remove(header::COOKIE);
        if let Some(cookies) = self.jar.lock().cookie_header(&template.url, guest_cookies.as_ref()) {
            headers.insert(header::COOKIE, cookies);
        }
        self.track_echoable_secrets(template, original, &secrets.names, echoable).await?;
        if body.as_ref().is_none_or(Bytes::is_empty)
            && matches!(template.method, Method::POST | Method::PUT | Method::PATCH)
        {
            // Methods with a body need a `Content-Length` even if it is empty (RFC 9110 §8.6); some servers return 411
            // otherwise.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let pool = self.origin_pool(&template.url)?;
        let permits = self.acquire_permits(&pool.exchange_permits, deadline).await?;
        let body =
            body.map_or_else(empty_body, |bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
        let request = self.build_request(template, headers, body)?;
        let limit = self.gate.timeouts.headers;
        let with_timeout = |execute| deadline.timeout_within(limit, Phase::Headers, execute);
        let response =
            self.dispatch(&pool, request, SendContext { origin, bytes, secrets: &secrets }, with_timeout).await?;
        let redactor = self.secrets.snapshot().redaction_layers(&echoable.redacted)?.redactor(&echoable.charge);
        let bytes = match &redactor {
            // This also charges for secrets in the headers. A guest can learn from a header without reading it, because
            // it can query a cookie later, and a redirect leads to the next page.
            Some(redactor) => redactor.redacted_size(response.headers()).await,
            None => headers_size(response.headers()),
        };
        self.record_headers(origin, response.headers(), bytes)?;
        self.jar.lock().store(response.headers(), &template.url, &echoable.redacted);
        let (Parts { status, mut headers, .. }, body) = response.into_parts();
        Ok(ResponseStream {
            status,
            body: WireBody::new(body, &mut headers),
            headers,
            rate: MinRate::default(),
            redactor,
            unprocessed: Bytes::new(),
            url: template.url.to_string(),
            origin: origin.to_owned(),
            deadline,
            run: self.clone(),
            _permits: permits,
        })
    }

    /// Checks the manifest's rules and the address, and returns the request with its secrets filled in.
    pub(crate) fn authorize(&self, template: &RequestTemplate, origin: &str) -> Result<FilledRequest, HttpError> {
        let method = template.method.as_str();
        self.rules.check(method, &template.url).map_err(|denied| self.deny(origin, DenialReason::NoRule, denied))?;
        check_ip_literal(&template.url, &self.gate)?;
        let filled = fill(template, &self.secrets.snapshot(), &ManifestSecretPolicy { run: self, template, origin })?;
        self.meter.count_substitutions(filled.secrets.substitutions)?;
        Ok(filled)
    }

    /// Builds the request that is written to the connection.
    pub(crate) fn build_request(
        &self,
        template: &RequestTemplate,
        mut headers: HeaderMap,
        body: OutboundBody,
    ) -> Result<http::Request<OutboundBody>, HttpError> {
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(header::USER_AGENT).or_insert_with(|| self.gate.user_agent.clone());
        let uri: Uri = template.url.as_str().parse().map_err(|error| HttpError::Invalid(format!("url: {error}")))?;
        let mut request = http::Request::new(body);
        *request.method_mut() = template.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Sends an authorised request, and records it and the status of its response. `with_timeout` bounds the wait.
    pub(crate) async fn dispatch<W>(
        &self,
        pool: &OriginPool,
        request: http::Request<OutboundBody>,
        SendContext { origin, bytes, secrets }: SendContext<'_>,
        with_timeout: impl FnOnce(PendingResponse) -> W,
    ) -> Result<http::Response<Incoming>, HttpError>
    where
        W: Future<Output = Result<Result<http::Response<Incoming>, legacy::Error>, HttpError>>,
    {
        self.meter.count_sent(bytes)?;
        let method = request.method().clone();
        self.record_usage(|usage| usage.host(origin).record_sent(method.as_str(), bytes, secrets));
        let result = with_timeout(pool.client.request(request)).await?;
        let response = result.map_err(|error| to_http_error(&error, origin)).inspect_err(|error| {
            if matches!(error, HttpError::AddressProhibited(_)) {
                self.record_usage(|usage| usage.host(origin).undo_sent(method.as_str(), bytes, secrets));
            }
        })?;
        let connection = response.extensions().get::<HttpInfo>();
        if connection.is_some_and(|connection| !is_public(connection.remote_addr().ip())) {
            self.record_usage(|usage| usage.host(origin).private += 1);
        }
        self.record_response(origin, response.status(), response.headers())?;
        Ok(response)
    }
}

/// The manifest's policy for the secrets in one request.
struct ManifestSecretPolicy<'a> {
    run: &'a SessionState,
    template: &'a RequestTemplate,
    origin: &'a str,
}

impl SecretPolicy for ManifestSecretPolicy<'_> {
    fn scope(&self, secret: &str) -> Result<SecretScope, HttpError> {
        let scope = self.run.rules.check_secret(secret, self.template.method.as_str(), &self.template.url);
        scope.map_err(|denied| self.run.deny(self.origin, DenialReason::SecretNotBound, denied))
    }

    fn deny_placement(&self, message: String) -> HttpError {
        self.run.deny(self.origin, DenialReason::SecretNotBound, PermissionDenied { message })
    }
}

/// Returns the body of a request without a body.
pub(crate) fn empty_body() -> OutboundBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
