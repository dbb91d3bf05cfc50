//! The second door: a request whose body is sent, and whose answer is read, as it comes. It is for programs that bring an HTTP client of
//! their own (`wasi:http`), so redirects, cookies, compression and charsets are theirs. All else is as for [`Session::send`].

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

use super::echo::Echo;
use super::error::{HttpError, Phase};
use super::failure::translate;
use super::guess::{Guesses, GuestText};
use super::ledger::Carried;
use super::mask::MASKED;
use super::own::OwnApi;
use super::request::{Draft, Outgoing};
use super::session::{Run, Sending, Session, closed, head_size, no_body, sizes};
use super::stream::Deadline;
use super::substitute::Filled;
use super::upload::{Progress, Upload, Written};
use crate::pace::Pace;

/// Shortest limit of time that a guest can set; zero means this, too.
const SHORTEST: Duration = Duration::from_secs(1);

/// The body of an answer: metered, and with a limit on how long it may stand still. Dropping it closes the connection, unless the body was
/// read to its end.
pub struct ForwardBody {
    /// `None` after its end.
    inner: Option<UnsyncBoxBody<Bytes, HttpError>>,
    /// Hides the secrets that the request carried, should the answer repeat them.
    echo: Option<Echo>,
    origin: String,
    idle: Duration,
    deadline: Deadline,
    timer: Pin<Box<Sleep>>,
    run: Arc<Run>,
    /// Held while there is a body, which may be large and need not be read.
    places: Vec<OwnedSemaphorePermit>,
}

/// How long a guest is ready to wait: the `request-options` of `wasi:http`. The gate's own limits ([`Timeouts`](super::Timeouts)) are
/// defaults and ceilings; nothing is shorter than a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    /// For a connection. It counts towards the wait for the first byte: how long a connection alone may take is the gate's to say.
    pub connect: Option<Duration>,
    /// From the last byte of the request to the end of the answer's headers.
    pub first_byte: Option<Duration>,
    /// Between two parts of the answer's body.
    pub between_bytes: Option<Duration>,
}

fn limit(wanted: Option<Duration>, ceiling: Duration) -> Duration {
    wanted.unwrap_or(ceiling).max(SHORTEST).min(ceiling)
}

impl Session {
    /// Sends a request while its body comes, and hands on the answer while its body comes. A request for the origin of `own` is answered
    /// by it, in this process. The URL is absolute, `Host` says the same as its authority or is absent.
    ///
    /// Cancel-safe: dropping the future or the answer's body closes the connection. The request may have reached the server nevertheless.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]; there is no answer then. The body of an answer fails with the same errors.
    pub async fn forward<B>(
        &self,
        request: http::Request<B>,
        patience: Patience,
        own: Option<&dyn OwnApi>,
    ) -> Result<http::Response<ForwardBody>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        self.run.forward(request, patience, own).await
    }
}

impl Run {
    async fn forward<B>(
        self: &Arc<Self>,
        request: http::Request<B>,
        patience: Patience,
        own: Option<&dyn OwnApi>,
    ) -> Result<http::Response<ForwardBody>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        // The budget comes first: a request that is refused for its form is an attempt, too.
        self.meter.request()?;
        let (parts, body) = request.into_parts();
        let outgoing = Outgoing::new(parts)?;
        let origin = outgoing.draft.url.origin().ascii_serialization();
        let progress = Progress::new();
        let upload = Upload::new(body, outgoing.length, self.clone(), origin.clone(), progress.clone());
        let deadline = Deadline::after(self.gate.timeouts.stream);
        let exchange = Exchange { run: self, outgoing: &outgoing, origin: &origin, deadline, patience };
        if let Some(api) = own.filter(|api| api.url().origin() == outgoing.draft.url.origin()) {
            return exchange.ask(api, upload).await;
        }
        let sent = exchange.send(upload, &progress).await;
        self.note_refusal(&origin, &sent);
        sent
    }
}

/// One exchange through this door.
struct Exchange<'a> {
    run: &'a Arc<Run>,
    outgoing: &'a Outgoing,
    origin: &'a str,
    deadline: Deadline,
    patience: Patience,
}

impl Exchange<'_> {
    async fn send<B>(&self, upload: Upload<B>, progress: &Progress) -> Result<http::Response<ForwardBody>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let Self { run, outgoing: Outgoing { draft, length }, origin, deadline, .. } = *self;
        let Filled { mut headers, secrets, .. } = run.permit(draft, origin)?;
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, (*length).into());
        }
        let snapshot = run.secrets.snapshot();
        if snapshot.hidden(&secrets.names)?.is_guarded() {
            run.echoes.check(&secrets.names)?;
        }
        let guest = GuestText { draft, carried: &secrets.names, cookies: &[] };
        let beside = guest.size(&snapshot);
        progress.watch(Guesses::of(guest, &snapshot, &secrets.names).await?);
        if !secrets.names.is_empty() {
            // A secret that comes back can be hidden only where it can be read.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let site = run.site(&draft.url)?;
        let places = run.places(&site.exchanges, deadline).await?;
        // With placeholders: how long a value is, is no business of the guest.
        let bytes = head_size(draft, &draft.headers);
        let body = if upload.is_end_stream() { no_body() } else { upload.boxed_unsync() };
        let request = run.request(draft, headers, body)?;
        let times = &run.gate.timeouts;
        let wait = limit(self.patience.connect, times.connect) + limit(self.patience.first_byte, times.headers);
        let answered = |execute| progress.quiet_for(wait, deadline, execute);
        let response = run.dispatch(&site, request, Sending { origin, bytes, secrets: &secrets }, answered).await;
        // Why the body failed is better known here than to the HTTP client.
        if let Some(failure) = progress.failure() {
            return Err(failure);
        }
        let of = origin.to_owned();
        let mut response = response?;
        let Written { unknown, bytes: written } = progress.close(&secrets.names);
        let echo = run.secrets.snapshot().hidden(&unknown)?.echo(&Some(run.echoes.charge(beside + written)));
        if let Some(echo) = &echo {
            hide(echo, response.headers_mut(), origin).await?;
        }
        run.received_head(origin, response.headers(), sizes(response.headers()))?;
        Ok(self.answer(
            response.map(|body| body.map_err(move |error| translate(&error, &of)).boxed_unsync()),
            echo,
            places.into(),
        ))
    }

    /// The same for our own API: no network and no rules of the manifest, because the token that comes along says what is allowed.
    async fn ask<B>(&self, api: &dyn OwnApi, upload: Upload<B>) -> Result<http::Response<ForwardBody>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let Self { run, outgoing: Outgoing { draft, length }, origin, deadline, .. } = *self;
        let bytes = head_size(draft, &draft.headers);
        run.meter.up(bytes)?;
        run.ledger(|ledger| {
            let record = ledger.host(origin);
            record.own = true;
            record.sent(draft.method.as_str(), bytes, &Carried::default());
        });
        let place = deadline.total(Arc::clone(&run.own).acquire_owned()).await?.map_err(closed)?;
        let request = own_request(draft, *length, api, upload.boxed_unsync())?;
        let response = deadline.total(api.call(request)).await?;
        run.answered(origin, response.status(), response.headers())?;
        run.received_head(origin, response.headers(), sizes(response.headers()))?;
        Ok(self.answer(response, None, vec![place]))
    }

    fn answer(
        &self,
        response: http::Response<UnsyncBoxBody<Bytes, HttpError>>,
        echo: Option<Echo>,
        places: Vec<OwnedSemaphorePermit>,
    ) -> http::Response<ForwardBody> {
        let idle = limit(self.patience.between_bytes, self.run.gate.timeouts.idle);
        response.map(|inner| ForwardBody {
            inner: Some(inner),
            echo,
            origin: self.origin.to_owned(),
            idle,
            deadline: self.deadline,
            timer: Box::pin(sleep_until(self.deadline.sooner_of(idle))),
            run: self.run.clone(),
            places,
        })
    }
}

/// In origin form, and with a `Host` that is ours to say: the instance is found by it.
fn own_request(
    draft: &Draft,
    length: Option<u64>,
    api: &dyn OwnApi,
    body: UnsyncBoxBody<Bytes, HttpError>,
) -> Result<http::Request<UnsyncBoxBody<Bytes, HttpError>>, HttpError> {
    let path = draft.url.as_str().get(draft.url.origin().ascii_serialization().len()..).unwrap_or("/");
    let malformed = |error: http::Error| HttpError::Invalid(format!("url: {error}"));
    let mut request = http::Request::builder().method(draft.method.clone()).uri(path).body(body).map_err(malformed)?;
    let mut headers: HeaderMap = draft.headers.clone();
    headers.insert(header::HOST, api.host());
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// The same for the headers. The length may not be that of what is handed on.
async fn hide(echo: &Echo, headers: &mut HeaderMap, origin: &str) -> Result<(), HttpError> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(HttpError::Protocol(format!(
            "the answer of {origin} is compressed, which a request that holds a secret does not accept"
        )));
    }
    headers.remove(header::CONTENT_LENGTH);
    let mut pace = Pace::default();
    for value in headers.values_mut() {
        pace.did(value.len()).await;
        let hidden = HeaderValue::from_bytes(&echo.hide_bytes(value.as_bytes()));
        *value = hidden.unwrap_or_else(|_| HeaderValue::from_static(MASKED));
    }
    Ok(())
}

impl ForwardBody {
    fn meter(&self, bytes: u64) -> Result<(), HttpError> {
        self.run.ledger(|ledger| ledger.host(&self.origin).bytes_down += bytes);
        self.run.meter.down(bytes)
    }

    /// What is handed on of a frame. Where something is to be hidden, trailers are left out.
    fn show(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, HttpError> {
        let Some(echo) = &mut self.echo else {
            self.meter(frame.data_ref().map_or(0, |data| data.len() as u64))?;
            return Ok(Some(frame));
        };
        let shown = frame.data_ref().map(|data| echo.push(data)).unwrap_or_default();
        // What is counted is what the guest sees: the difference would be the length of a secret.
        self.meter(shown.len() as u64)?;
        Ok(Some(shown).filter(|shown| !shown.is_empty()).map(Frame::data))
    }

    /// What is left at the end.
    fn rest(&mut self) -> Option<Frame<Bytes>> {
        self.inner = None;
        self.places.clear();
        let rest = self.echo.as_mut()?.finish();
        (!rest.is_empty()).then(|| Frame::data(rest))
    }

    fn stood_still(&self) -> HttpError {
        HttpError::Timeout(if self.deadline.has_passed() { Phase::Total } else { Phase::Body })
    }
}

impl Body for ForwardBody {
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
                    return Poll::Ready(Some(Err(self.stood_still())));
                }
                Poll::Ready(None) => return Poll::Ready(self.rest().map(Ok)),
                Poll::Ready(Some(frame)) => frame,
            };
            let next = self.deadline.sooner_of(self.idle);
            self.timer.as_mut().reset(next);
            match frame.and_then(|frame| self.show(frame)) {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.is_end_stream() && self.echo.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let known = self.inner.as_ref().filter(|_| self.echo.is_none());
        known.map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl fmt::Debug for ForwardBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardBody").field("origin", &self.origin).finish_non_exhaustive()
    }
}
