//! The body of a request while it is being sent: metered, of the declared length, and without frames that carry no
//! data.

use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use super::error::{HttpError, Phase};
use super::guess::GuessDetector;
use super::response_stream::Deadline;
use super::session::SessionState;

/// Progress of an upload, as seen by the task that waits for the response.
#[derive(Debug, Clone)]
pub(super) struct UploadProgress(Arc<Mutex<UploadState>>);

#[derive(Debug)]
struct UploadState {
    last_part: Instant,
    failure: Option<HttpError>,
    guess_detector: GuessDetector,
    bytes: u64,
    /// Whether the body is closed. Later data was not known when the gate decided what to redact in the response.
    closed: bool,
}

/// State of the guest's body when the response arrived.
pub(super) struct UploadSummary {
    /// The secrets that the body does not contain.
    pub(super) unknown: Vec<String>,
    pub(super) bytes: u64,
}

impl UploadProgress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(UploadState {
            last_part: Instant::now(),
            failure: None,
            guess_detector: GuessDetector::default(),
            bytes: 0,
            closed: false,
        })))
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, UploadState> {
        self.0.lock()
    }

    /// Takes the error with which the gate aborted the body, if it did.
    pub(super) fn take_failure(&self) -> Option<HttpError> {
        self.state().failure.take()
    }

    /// Sets the detector that searches the body for secrets that the guest wrote itself.
    pub(super) fn set_guess_detector(&self, guesses: GuessDetector) {
        self.state().guess_detector = guesses;
    }

    /// Reports which of these secrets the body does not contain. If the request has secrets, the rest of its body is
    /// not sent, because the redactions in the response would reveal which later guesses of the guest are right.
    pub(super) fn close(&self, secrets: &[String]) -> UploadSummary {
        let mut state = self.state();
        state.closed = !secrets.is_empty();
        UploadSummary { unknown: state.guess_detector.secrets_not_guessed(secrets), bytes: state.bytes }
    }

    /// Waits for `work` until `limit` has passed since the last part of the body, because a large body takes long.
    pub(super) async fn wait_with_idle_limit<T>(
        &self,
        limit: Duration,
        deadline: Deadline,
        work: impl Future<Output = T>,
    ) -> Result<T, HttpError> {
        tokio::pin!(work);
        loop {
            let before = self.state().last_part;
            let end = deadline.earlier_of((before + limit).saturating_duration_since(Instant::now()));
            tokio::select! {
                biased;
                output = &mut work => return Ok(output),
                () = sleep_until(end) => {}
            }
            if deadline.has_passed() {
                return Err(HttpError::Timeout(Phase::Total));
            }
            if self.state().last_part == before {
                return Err(HttpError::Timeout(Phase::Headers));
            }
        }
    }
}

/// A request body that is being sent.
pub(super) struct UploadBody<B> {
    /// `None` after it was abandoned.
    inner: Option<Pin<Box<B>>>,
    /// Number of bytes that `Content-Length` declares.
    content_length: Option<u64>,
    sent: u64,
    run: Arc<SessionState>,
    origin: String,
    progress: UploadProgress,
}

impl<B: Body<Data = Bytes>> UploadBody<B>
where
    B::Error: fmt::Display,
{
    pub(super) fn new(
        body: B,
        length: Option<u64>,
        run: Arc<SessionState>,
        origin: String,
        progress: UploadProgress,
    ) -> Self {
        Self { inner: Some(Box::pin(body)), content_length: length, sent: 0, run, origin, progress }
    }

    /// Checks the body against its declared length. A server that reads more or less would take the rest for another
    /// request (request smuggling), so on a mismatch the connection is closed.
    fn check_length(&self, at_end: bool) -> Result<(), HttpError> {
        match self.content_length {
            Some(length) if self.sent > length || (at_end && self.sent < length) => Err(HttpError::Invalid(format!(
                "body: the body is {}{} bytes long, but content-length is {length}",
                if at_end { "" } else { "at least " },
                self.sent
            ))),
            _ => Ok(()),
        }
    }

    fn accept_frame(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, HttpError> {
        let Some(data) = frame.data_ref() else {
            return Err(HttpError::Invalid(
                "body: the body ends with trailers, which are not sent; leave them out".to_owned(),
            ));
        };
        let bytes = data.len() as u64;
        if bytes == 0 {
            // Each would be a separate frame on an HTTP/2 connection, with a cost there that is not charged here
            // (advisory f8mm).
            return Ok(None);
        }
        self.sent = self.sent.saturating_add(bytes);
        self.check_length(false)?;
        self.run.meter.count_sent(bytes)?;
        self.run.record_usage(|usage| usage.host(&self.origin).bytes_up += bytes);
        let mut state = self.progress.state();
        state.last_part = Instant::now();
        state.bytes += bytes;
        state.guess_detector.scan(frame.data_ref().map_or(&[], |data| data.as_ref()));
        drop(state);
        Ok(Some(frame))
    }

    fn fail(&self, error: HttpError) -> HttpError {
        self.progress.state().failure.get_or_insert_with(|| error.clone());
        error
    }
}

impl<B: Body<Data = Bytes>> Body for UploadBody<B>
where
    B::Error: fmt::Display,
{
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        loop {
            if self.progress.state().closed {
                self.inner = None;
            }
            // Not an error, which would close the connection that the response uses.
            let Some(inner) = &mut self.inner else { return Poll::Pending };
            let result = match ready!(inner.as_mut().poll_frame(context)) {
                // The response arrived during the wait for this part.
                Some(Ok(_)) if self.progress.state().closed => continue,
                None => {
                    let checked = self.check_length(true);
                    return Poll::Ready(checked.err().map(|error| Err(self.fail(error))));
                }
                Some(Ok(frame)) => self.accept_frame(frame),
                Some(Err(error)) => Err(HttpError::Other(format!("cannot read the request body: {error}"))),
            };
            match result {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.is_end_stream()) && self.check_length(true).is_ok()
    }

    fn size_hint(&self) -> SizeHint {
        match self.content_length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.sent)),
            None => self.inner.as_ref().map_or_else(SizeHint::default, |inner| inner.size_hint()),
        }
    }
}
