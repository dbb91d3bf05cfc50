//! The second entry point, which sends the request body and reads the response body as streams. It is for programs
//! with their own HTTP client (`wasi:http`), so the guest handles redirects, cookies, compression and charsets.
//! Everything else is as for [`Session::send`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep_until};

use super::client_error::to_http_error;
use super::error::{HttpError, Phase};
use super::guess::{GuessDetector, GuestText};
use super::internal_api::InternalApi;
use super::mask::MASKED;
use super::network_usage::SentSecrets;
use super::request::{RequestTemplate, StreamingRequest};
use super::response_stream::Deadline;
use super::secret_redactor::SecretRedactor;
use super::session::{SendContext, Session, SessionState, empty_body, gate_closed_error, head_size, headers_size};
use super::substitute::FilledRequest;
use super::upload::{UploadBody, UploadProgress, UploadSummary};
use crate::yield_budget::YieldBudget;

/// Minimum timeout that a guest can set. Shorter timeouts, including zero, are raised to it.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Response body: metered, and with a limit on how long it may stall. Dropping it closes the connection, unless the
/// body was read to its end.
pub struct StreamingBody {
    /// `None` after its end.
    inner: Option<UnsyncBoxBody<Bytes, HttpError>>,
    /// Redacts the secrets that the request carried if the response repeats them.
    redactor: Option<SecretRedactor>,
    origin: String,
    idle_timeout: Duration,
    deadline: Deadline,
    timer: Pin<Box<Sleep>>,
    run: Arc<SessionState>,
    /// Held as long as the body, which may be large and need not be read.
    permits: Vec<OwnedSemaphorePermit>,
}

/// Timeouts set by a guest: the `request-options` of `wasi:http`. The gate's own limits ([`Timeouts`](super::Timeouts))
/// are defaults and maxima; the minimum is one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestTimeouts {
    /// For a connection. It is added to the wait for the first byte, because the gate sets the timeout for connecting
    /// alone.
    pub connect: Option<Duration>,
    /// From the last byte of the request to the end of the response headers.
    pub first_byte: Option<Duration>,
    /// Between two parts of the response body.
    pub between_bytes: Option<Duration>,
}

fn clamp_timeout(requested: Option<Duration>, ceiling: Duration) -> Duration {
    requested.unwrap_or(ceiling).max(MIN_TIMEOUT).min(ceiling)
}

impl Session {
    /// Sends a request while its body arrives, and returns the response while its body arrives. A request for the
    /// origin of `own` is handled by `own`, in this process. The URL is absolute; `Host` equals its authority or is
    /// absent.
    ///
    /// Cancel-safe: dropping the future or the response body closes the connection. The server may nevertheless have
    /// received the request.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]. There is no response in that case. A response body fails with the same errors.
    pub async fn send_streaming<B>(
        &self,
        request: http::Request<B>,
        timeouts: RequestTimeouts,
        own: Option<&dyn InternalApi>,
    ) -> Result<http::Response<StreamingBody>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        self.state.send_streaming(request, timeouts, own).await
    }
}

impl SessionState {
    async fn send_streaming<B>(
        self: &Arc<Self>,
        request: http::Request<B>,
        timeouts: RequestTimeouts,
        own: Option<&dyn InternalApi>,
    ) -> Result<http::Response<StreamingBody>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        // Charge the budget first, because a request that is rejected for its form is an attempt, too.
        self.meter.count_request()?;
        let (parts, body) = request.into_parts();
        let outgoing = StreamingRequest::new(parts)?;
        let origin = outgoing.template.url.origin().ascii_serialization();
        let progress = UploadProgress::new();
        let upload = UploadBody::new(body, outgoing.content_length, self.clone(), origin.clone(), progress.clone());
        let deadline = Deadline::after(self.gate.timeouts.stream);
        let exchange = StreamingExchange { run: self, request: &outgoing, origin: &origin, deadline, timeouts };
        if let Some(api) = own.filter(|api| api.url().origin() == outgoing.template.url.origin()) {
            return exchange.call_internal_api(api, upload).await;
        }
        let sent = exchange.send(upload, &progress).await;
        self.record_prohibited_address(&origin, &sent);
        sent
    }
}

/// One exchange through this entry point.
struct StreamingExchange<'a> {
    run: &'a Arc<SessionState>,
    request: &'a StreamingRequest,
    origin: &'a str,
    deadline: Deadline,
    timeouts: RequestTimeouts,
}

impl StreamingExchange<'_> {
    async fn send<B>(
        &self,
        upload: UploadBody<B>,
        progress: &UploadProgress,
    ) -> Result<http::Response<StreamingBody>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let Self { run, request: StreamingRequest { template, content_length: length }, origin, deadline, .. } = *self;
        let FilledRequest { mut headers, secrets, .. } = run.authorize(template, origin)?;
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, (*length).into());
        }
        let snapshot = run.secrets.snapshot();
        if snapshot.redaction_layers(&secrets.names)?.has_unknown_secrets() {
            run.echo_budget.check(&secrets.names)?;
        }
        let guest = GuestText { template, carried: &secrets.names, cookies: &[] };
        let guest_bytes = guest.size(&snapshot);
        progress.set_guess_detector(GuessDetector::scan_request(guest, &snapshot, &secrets.names).await?);
        if !secrets.names.is_empty() {
            // A repeated secret can be redacted only in an uncompressed response.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let pool = run.origin_pool(&template.url)?;
        let permits = run.acquire_permits(&pool.exchange_permits, deadline).await?;
        // Count placeholders, not values, because the guest must not learn the length of a value.
        let bytes = head_size(template, &template.headers);
        let body = if upload.is_end_stream() { empty_body() } else { upload.boxed_unsync() };
        let request = run.build_request(template, headers, body)?;
        let times = &run.gate.timeouts;
        let wait = clamp_timeout(self.timeouts.connect, times.connect)
            + clamp_timeout(self.timeouts.first_byte, times.headers);
        let with_timeout = |execute| progress.wait_with_idle_limit(wait, deadline, execute);
        let response =
            run.dispatch(&pool, request, SendContext { origin, bytes, secrets: &secrets }, with_timeout).await;
        // The cause of the body's failure is known more precisely here than in the HTTP client.
        if let Some(failure) = progress.take_failure() {
            return Err(failure);
        }
        let of = origin.to_owned();
        let mut response = response?;
        let UploadSummary { unknown, bytes: written } = progress.close(&secrets.names);
        let redactor = run
            .secrets
            .snapshot()
            .redaction_layers(&unknown)?
            .redactor(&Some(run.echo_budget.charge(guest_bytes + written)));
        if let Some(redactor) = &redactor {
            redact_headers(redactor, response.headers_mut(), origin).await?;
        }
        run.record_headers(origin, response.headers(), headers_size(response.headers()))?;
        Ok(self.to_response(
            response.map(|body| body.map_err(move |error| to_http_error(&error, &of)).boxed_unsync()),
            redactor,
            permits.into(),
        ))
    }

    /// Sends the request to our own API. Neither the network nor the manifest's rules are involved, because the
    /// request's token determines what is allowed.
    async fn call_internal_api<B>(
        &self,
        api: &dyn InternalApi,
        upload: UploadBody<B>,
    ) -> Result<http::Response<StreamingBody>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let Self { run, request: StreamingRequest { template, content_length: length }, origin, deadline, .. } = *self;
        let bytes = head_size(template, &template.headers);
        run.meter.count_sent(bytes)?;
        run.record_usage(|usage| {
            let record = usage.host(origin);
            record.internal = true;
            record.record_sent(template.method.as_str(), bytes, &SentSecrets::default());
        });
        let permit =
            deadline.timeout(Arc::clone(&run.internal_permits).acquire_owned()).await?.map_err(gate_closed_error)?;
        let request = internal_request(template, *length, api, upload.boxed_unsync())?;
        let response = deadline.timeout(api.call(request)).await?;
        run.record_response(origin, response.status(), response.headers())?;
        run.record_headers(origin, response.headers(), headers_size(response.headers()))?;
        Ok(self.to_response(response, None, vec![permit]))
    }

    fn to_response(
        &self,
        response: http::Response<UnsyncBoxBody<Bytes, HttpError>>,
        redactor: Option<SecretRedactor>,
        permits: Vec<OwnedSemaphorePermit>,
    ) -> http::Response<StreamingBody> {
        let idle = clamp_timeout(self.timeouts.between_bytes, self.run.gate.timeouts.idle);
        response.map(|inner| StreamingBody {
            inner: Some(inner),
            redactor,
            origin: self.origin.to_owned(),
            idle_timeout: idle,
            deadline: self.deadline,
            timer: Box::pin(sleep_until(self.deadline.earlier_of(idle))),
            run: self.run.clone(),
            permits,
        })
    }
}

/// Builds the request in origin form, with the `Host` set by us, because it selects the instance.
fn internal_request(
    template: &RequestTemplate,
    length: Option<u64>,
    api: &dyn InternalApi,
    body: UnsyncBoxBody<Bytes, HttpError>,
) -> Result<http::Request<UnsyncBoxBody<Bytes, HttpError>>, HttpError> {
    let path = template.url.as_str().get(template.url.origin().ascii_serialization().len()..).unwrap_or("/");
    let malformed = |error: http::Error| HttpError::Invalid(format!("url: {error}"));
    let mut request =
        http::Request::builder().method(template.method.clone()).uri(path).body(body).map_err(malformed)?;
    let mut headers: HeaderMap = template.headers.clone();
    headers.insert(header::HOST, api.host());
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// Redacts the headers. The length is removed because it may not match the redacted body.
async fn redact_headers(redactor: &SecretRedactor, headers: &mut HeaderMap, origin: &str) -> Result<(), HttpError> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(HttpError::Protocol(format!(
            "the response from {origin} is compressed, which is not allowed if the request contains a secret"
        )));
    }
    headers.remove(header::CONTENT_LENGTH);
    let mut yield_budget = YieldBudget::default();
    for value in headers.values_mut() {
        yield_budget.consume(value.len()).await;
        let redacted = HeaderValue::from_bytes(&redactor.redact_bytes(value.as_bytes()));
        *value = redacted.unwrap_or_else(|_| HeaderValue::from_static(MASKED));
    }
    Ok(())
}

impl StreamingBody {
    fn meter(&self, bytes: u64) -> Result<(), HttpError> {
        self.run.record_usage(|usage| usage.host(&self.origin).bytes_down += bytes);
        self.run.meter.count_received(bytes)
    }

    /// Returns the redacted frame. Trailers are dropped if there are secrets to redact.
    fn redact_frame(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, HttpError> {
        let Some(redactor) = &mut self.redactor else {
            self.meter(frame.data_ref().map_or(0, |data| data.len() as u64))?;
            return Ok(Some(frame));
        };
        let redacted = frame.data_ref().map(|data| redactor.push(data)).unwrap_or_default();
        // Count the bytes that the guest sees, because the difference would reveal the length of a secret.
        self.meter(redacted.len() as u64)?;
        Ok(Some(redacted).filter(|redacted| !redacted.is_empty()).map(Frame::data))
    }

    /// Returns the remaining data at the end.
    fn finish(&mut self) -> Option<Frame<Bytes>> {
        self.inner = None;
        self.permits.clear();
        let rest = self.redactor.as_mut()?.finish();
        (!rest.is_empty()).then(|| Frame::data(rest))
    }

    fn timeout_error(&self) -> HttpError {
        HttpError::Timeout(if self.deadline.has_passed() { Phase::Total } else { Phase::Body })
    }
}

impl Body for StreamingBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        loop {
            let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
            let frame = match Pin::new(inner).poll_frame(context) {
                Poll::Pending => {
                    ready!(self.timer.as_mut().poll(context));
                    return Poll::Ready(Some(Err(self.timeout_error())));
                }
                Poll::Ready(None) => return Poll::Ready(self.finish().map(Ok)),
                Poll::Ready(Some(frame)) => frame,
            };
            let next = self.deadline.earlier_of(self.idle_timeout);
            self.timer.as_mut().reset(next);
            match frame.and_then(|frame| self.redact_frame(frame)) {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.is_end_stream() && self.redactor.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let known = self.inner.as_ref().filter(|_| self.redactor.is_none());
        known.map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl fmt::Debug for StreamingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingBody").field("origin", &self.origin).finish_non_exhaustive()
    }
}
