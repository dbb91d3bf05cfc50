//! The body of an answer as it comes from the network: decompressed, and held to a pace and to a ratio.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use super::error::HttpError;
use super::failure::translate;

/// What requests say they accept.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip, br, zstd, deflate");

/// What a body may unfold to whatever its ratio, in bytes.
const FREE: u64 = 4 << 20;

/// Beyond [`FREE`], how many bytes one byte of the network may become. Pages and tables stay below 30; DEFLATE reaches 1,000, Brotli and
/// zstd far more.
const RATIO: u64 = 100;

/// Largest window of zstd, as a power of two: 8 MiB (RFC 9659).
const ZSTD_WINDOW: u32 = 23;

/// Bytes that are decompressed at a time.
const PART: usize = 32 << 10;

type Wire = StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// A body that has not been read yet.
pub(super) enum Body {
    /// As it comes.
    Plain(Incoming),
    /// Compressed on its way.
    Compressed {
        decoder: Decoder,
        /// Bytes that came from the network.
        wire: Arc<AtomicU64>,
        /// What they became.
        unfolded: u64,
    },
}

pub(super) enum Decoder {
    Gzip(Box<GzipDecoder<Wire>>),
    Zlib(Box<ZlibDecoder<Wire>>),
    Brotli { decoder: Box<BrotliDecoder<Wire>>, checked: bool },
    Zstd(Box<ZstdDecoder<Wire>>),
}

impl Body {
    /// The body of an answer. What described its compression is taken out of `headers`, when the compression is one that is undone.
    pub(super) fn new(body: Incoming, headers: &mut HeaderMap) -> Self {
        let encoding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let decoder: fn(Wire) -> Decoder = match encoding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => |wire| Decoder::Gzip(Box::new(GzipDecoder::new(wire))),
            "deflate" => |wire| Decoder::Zlib(Box::new(ZlibDecoder::new(wire))),
            "br" => |wire| Decoder::Brotli { decoder: Box::new(BrotliDecoder::new(wire)), checked: false },
            "zstd" => |wire| {
                let window = DParameter::window_log_max(ZSTD_WINDOW);
                let mut decoder = ZstdDecoder::with_params(wire, &[window]);
                // RFC 8878 §3: a stream is one frame or more.
                decoder.multiple_members(true);
                Decoder::Zstd(Box::new(decoder))
            },
            _ => return Self::Plain(body),
        };
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
        let wire = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&wire);
        let counted = BodyDataStream::new(body).map(move |part| match part {
            Ok(part) => {
                counter.fetch_add(part.len() as u64, Ordering::Relaxed);
                Ok(part)
            }
            Err(error) => Err(io::Error::other(error)),
        });
        Self::Compressed { decoder: decoder(StreamReader::new(Box::pin(counted))), wire, unfolded: 0 }
    }

    /// The next part; `None` at the end. Cancel-safe.
    pub(super) async fn chunk(&mut self, origin: &str) -> Result<Option<Bytes>, HttpError> {
        match self {
            Self::Plain(body) => loop {
                let frame = body.frame().await.transpose().map_err(|error| translate(&error, origin))?;
                match frame.map(Frame::into_data) {
                    Some(Ok(data)) => return Ok(Some(data)),
                    // Trailers.
                    Some(Err(_)) => {}
                    None => return Ok(None),
                }
            },
            Self::Compressed { decoder, wire, unfolded } => {
                let part = match decoder.read().await {
                    Ok(part) => part,
                    // An answer to HEAD, or one without content, has the header and no stream.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && wire.load(Ordering::Relaxed) == 0 => {
                        None
                    }
                    Err(error) => return Err(decoding(&error, origin)),
                };
                *unfolded += part.as_ref().map_or(0, |part| part.len() as u64);
                let most = wire.load(Ordering::Relaxed).saturating_mul(RATIO).max(FREE);
                if *unfolded > most {
                    return Err(HttpError::Protocol(format!(
                        "the compressed body from {origin} unfolds to more than {RATIO} times its size"
                    )));
                }
                Ok(part)
            }
        }
    }
}

impl Decoder {
    async fn read(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Gzip(decoder) => match part(decoder).await? {
                None => rest(decoder.get_mut()).await,
                some => Ok(some),
            },
            Self::Zlib(decoder) => match part(decoder).await? {
                None => rest(decoder.get_mut()).await,
                some => Ok(some),
            },
            Self::Brotli { decoder, checked } => {
                if !*checked {
                    refuse_large_window(decoder.get_mut()).await?;
                    *checked = true;
                }
                match part(decoder).await? {
                    None => rest(decoder.get_mut()).await,
                    some => Ok(some),
                }
            }
            Self::Zstd(decoder) => match part(decoder).await? {
                None => rest(decoder.get_mut()).await,
                some => Ok(some),
            },
        }
    }
}

async fn part(decoder: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let mut part = BytesMut::with_capacity(PART);
    let read = decoder.read_buf(&mut part).await?;
    Ok((read > 0).then(|| part.freeze()))
}

/// A connection can be used again only when its answer was read to the end, and the end of a stream is not always that of the body. What
/// follows the stream is nothing or does not matter.
async fn rest(wire: &mut Wire) -> io::Result<Option<Bytes>> {
    wire.fill_buf().await?;
    Ok(None)
}

/// Streams with a window of up to 1 GiB (RFC 9841) are not for HTTP; the decoder would read them.
async fn refuse_large_window(wire: &mut Wire) -> io::Result<()> {
    match wire.fill_buf().await?.first() {
        Some(first) if first & 0x7f == 0x11 => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "its window is too large"))
        }
        _ => Ok(()),
    }
}

/// A decoder hands on what went wrong below it.
fn decoding(error: &io::Error, origin: &str) -> HttpError {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<hyper::Error>()) {
        Some(cause) => translate(cause, origin),
        None => HttpError::Protocol(format!("the body from {origin} is not compressed as its headers say: {error}")),
    }
}
