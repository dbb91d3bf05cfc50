//! Response body as it arrives from the network: decompressed, with a minimum rate and a maximum expansion ratio.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, header};
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;

use super::client_error::to_http_error;
use super::content_coding::{ContentDecoder, codings, encoded_reader};
use super::error::HttpError;

/// Response body that has not been read yet.
pub(super) enum WireBody {
    /// Passed on unchanged.
    Plain(Incoming),
    /// Compressed in transit, decompressed by the gate.
    Compressed(Box<ContentDecoder>),
}

impl WireBody {
    /// Wraps the body of a response. If the gate decompresses it, the headers that describe the compression are removed
    /// from `headers`.
    pub(super) fn new(body: Incoming, headers: &mut HeaderMap) -> Self {
        let Some(codings) = codings(headers).filter(|codings| !codings.is_empty()) else { return Self::Plain(body) };
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
        let network = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&network);
        let counted = BodyDataStream::new(body).map(move |part| match part {
            Ok(part) => {
                counter.fetch_add(part.len() as u64, Ordering::Relaxed);
                Ok(part)
            }
            Err(error) => Err(io::Error::other(error)),
        });
        Self::Compressed(Box::new(ContentDecoder::chain(&codings, encoded_reader(counted), &network)))
    }

    /// Returns the next part, or `None` at the end. Cancel-safe.
    pub(super) async fn chunk(&mut self, origin: &str) -> Result<Option<Bytes>, HttpError> {
        match self {
            Self::Plain(body) => loop {
                let frame = body.frame().await.transpose().map_err(|error| to_http_error(&error, origin))?;
                match frame.map(Frame::into_data) {
                    Some(Ok(data)) => return Ok(Some(data)),
                    // Trailers.
                    Some(Err(_)) => {}
                    None => return Ok(None),
                }
            },
            Self::Compressed(decoder) => decoder.read().await.map_err(|error| decoding_error(&error, origin)),
        }
    }
}

/// Recovers the error of the layer below, which a decoder passes on.
fn decoding_error(error: &io::Error, origin: &str) -> HttpError {
    let cause = error.get_ref();
    if let Some(cause) = cause.and_then(|cause| cause.downcast_ref::<hyper::Error>()) {
        return to_http_error(cause, origin);
    }
    match cause.and_then(|cause| cause.downcast_ref::<super::content_coding::DecompressionBomb>()) {
        Some(bomb) => HttpError::Protocol(format!("the compressed body from {origin} {bomb}")),
        None => HttpError::Protocol(format!("cannot decompress the body from {origin}: {error}")),
    }
}
