//! Response whose body has not been read yet.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use tokio::time::{Instant, timeout_at};

use super::body::WireBody;
use super::error::{HttpError, Phase};
use super::request::decode_headers;
use super::secret_redactor::{SLICE_BYTES, SecretRedactor};
use super::session::{ConnectionPermits, SessionState};

/// Maximum bytes of a redirect's body that are read to reuse its connection, and the maximum time for it.
const DRAIN_LIMITS: (u64, Duration) = (32 << 10, Duration::from_millis(300));

/// A body that delivers fewer bytes than this within [`Timeouts::idle`](super::Timeouts::idle) counts as stalled.
const MIN_BYTES_PER_IDLE_TIMEOUT: u64 = 1_000;

/// Longer than any exchange may take. A much larger setting would overflow when added to the clock.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Time by which an exchange must have ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Self(Instant::now() + time.min(MAX_TIMEOUT))
    }

    /// Waits for `work`, at most for `limit`, and never beyond the deadline. The error says which of the two passed.
    pub(super) async fn timeout_within<T>(
        self,
        limit: Duration,
        phase: Phase,
        work: impl Future<Output = T>,
    ) -> Result<T, HttpError> {
        let end = Instant::now() + limit.min(MAX_TIMEOUT);
        let phase = if self.0 <= end { Phase::Total } else { phase };
        timeout_at(self.0.min(end), work).await.map_err(|_| HttpError::Timeout(phase))
    }

    /// Returns the earlier of the deadline and `limit` from now.
    pub(super) fn earlier_of(self, limit: Duration) -> Instant {
        self.0.min(Instant::now() + limit.min(MAX_TIMEOUT))
    }

    /// Returns whether the deadline has passed.
    pub(super) fn has_passed(self) -> bool {
        self.0 <= Instant::now()
    }

    /// Waits for `work`, never beyond the deadline.
    pub(super) async fn timeout<T>(self, work: impl Future<Output = T>) -> Result<T, HttpError> {
        timeout_at(self.0, work).await.map_err(|_| HttpError::Timeout(Phase::Total))
    }
}

/// A response whose body arrives in parts. Dropping it closes the connection, unless the body was read to its end.
pub struct ResponseStream {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: WireBody,
    pub(super) rate: MinRate,
    /// Redacts the secrets that the request carried if the response repeats them.
    pub(super) redactor: Option<SecretRedactor>,
    /// Bytes of the body that have not been processed yet.
    pub(super) unprocessed: Bytes,
    pub(super) url: String,
    pub(super) origin: String,
    pub(super) deadline: Deadline,
    pub(super) run: Arc<SessionState>,
    pub(super) _permits: ConnectionPermits,
}

impl ResponseStream {
    /// Returns the status code.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Returns the URL of the response, after redirects.
    pub fn url(&self) -> Cow<'_, str> {
        self.redactor.as_ref().map_or(Cow::Borrowed(&self.url), |redactor| Cow::Owned(redactor.redact(&self.url)))
    }

    /// Returns names in lower case, and values, without the headers of the compression that the gate has undone.
    pub fn headers(&self) -> Vec<(String, String)> {
        let headers = decode_headers(&self.headers);
        let Some(redactor) = &self.redactor else { return headers };
        let visible = headers.into_iter().filter(|(name, _)| name != header::CONTENT_LENGTH.as_str());
        visible.map(|(name, value)| (redactor.redact(&name), redactor.redact(&value))).collect()
    }

    /// Rejects a body in which a secret could not be detected.
    pub(super) fn check_content_encoding(&self) -> Result<(), HttpError> {
        let coding = self.headers.get(header::CONTENT_ENCODING).map(|coding| coding.as_bytes().trim_ascii());
        match coding {
            Some(coding)
                if self.redactor.is_some() && !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity") =>
            {
                Err(HttpError::Protocol(format!(
                    "the response from {} uses an unsupported compression, and may repeat the secret that the request \
                     contained",
                    self.origin
                )))
            }
            _ => Ok(()),
        }
    }

    /// Redacts the secrets in a text decoded from the body.
    pub(super) async fn redact(&mut self, text: String) -> String {
        let Some(mut redactor) = self.redactor.as_ref().and_then(SecretRedactor::restart) else { return text };
        let mut redacted = BytesMut::from(redactor.push_with_yields(text.as_bytes()).await);
        redacted.extend_from_slice(&redactor.finish());
        String::from_utf8_lossy(&redacted).into_owned()
    }

    /// Returns the declared length of the body in bytes, if the body is not compressed and no secret is redacted in it.
    /// It may be wrong.
    pub fn content_length(&self) -> Option<u64> {
        if self.redactor.is_some() {
            return None;
        }
        self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Returns the next part of the body, decompressed, or `None` at its end. Cancel-safe: dropping the future
    /// loses no part.
    ///
    /// # Errors
    ///
    /// [`HttpError::Timeout`] if the body stalls or the exchange takes too long, [`HttpError::QuotaExceeded`] if the
    /// run has used up its budget of received bytes, [`HttpError::Protocol`] if the body is truncated, cannot be
    /// decompressed, or exceeds the maximum expansion ratio.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let chunk = self.next_chunk().await;
        chunk.map_err(|error| match &self.redactor {
            Some(redactor) => error.map_text(|text| Cow::Owned(redactor.redact(text))),
            None => error,
        })
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let ended = if self.unprocessed.is_empty() {
                let part = self.next_part().await?;
                if self.redactor.is_none() {
                    self.meter(part.as_ref().map_or(0, Bytes::len))?;
                    return Ok(part);
                }
                // Stored in `self` so that nothing is lost if this future is dropped at the yield below.
                part.map(|part| self.unprocessed = part).is_none()
            } else {
                tokio::task::yield_now().await;
                false
            };
            let Some(redactor) = &mut self.redactor else { return Ok(None) };
            let slice = self.unprocessed.split_to(self.unprocessed.len().min(SLICE_BYTES));
            let redacted = if ended { redactor.finish() } else { redactor.push(&slice) };
            // Count the bytes that the guest sees, because the difference would reveal the length of a secret.
            self.meter(redacted.len())?;
            if ended || !redacted.is_empty() {
                return Ok(Some(redacted).filter(|redacted| !redacted.is_empty()));
            }
        }
    }

    async fn next_part(&mut self) -> Result<Option<Bytes>, HttpError> {
        let limit = self.rate.remaining(self.run.gate.timeouts.idle);
        let start = Instant::now();
        let chunk = self.deadline.timeout_within(limit, Phase::Body, self.body.chunk(&self.origin)).await??;
        if let Some(chunk) = &chunk {
            let bytes = chunk.len() as u64;
            self.rate.record(start.elapsed(), bytes);
        }
        Ok(chunk)
    }

    fn meter(&self, bytes: usize) -> Result<(), HttpError> {
        self.run.record_usage(|usage| usage.host(&self.origin).bytes_down += bytes as u64);
        self.run.meter.count_received(bytes as u64)
    }

    pub(super) fn raw_headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Reads the whole body, of at most `limit` bytes.
    pub(super) async fn read_all(&mut self, limit: u64) -> Result<Bytes, HttpError> {
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(HttpError::TooLarge(limit));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.next_chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(HttpError::TooLarge(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Discards a short body so that the connection can be reused. If it does not arrive quickly, the connection is
    /// closed.
    pub(super) async fn drain(mut self) {
        let (limit, time) = DRAIN_LIMITS;
        // Nobody waits for this body. On any error the connection is closed, and the next request opens another.
        let _ = tokio::time::timeout(time, self.read_all(limit)).await;
    }
}

/// Rate at which a body arrives. Only the time in which the gate waits for it counts, because a slow reader is not the
/// server's fault.
#[derive(Debug, Default)]
pub(super) struct MinRate {
    waited: Duration,
    bytes: u64,
}

impl MinRate {
    /// Returns how long the next part may take.
    fn remaining(&self, idle: Duration) -> Duration {
        idle.saturating_sub(self.waited)
    }

    fn record(&mut self, waited: Duration, bytes: u64) {
        self.waited += waited;
        self.bytes += bytes;
        if self.bytes >= MIN_BYTES_PER_IDLE_TIMEOUT {
            *self = Self::default();
        }
    }
}

impl std::fmt::Debug for ResponseStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("status", &self.status()).field("origin", &self.origin).finish_non_exhaustive()
    }
}
