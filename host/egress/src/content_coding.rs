//! Decodes content codings (RFC 9110 §8.4.1) while a body is read. A body with several codings has one
//! [`ContentDecoder`] for each.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, header};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

/// Value of `Accept-Encoding` in requests. It lists exactly the codings that [`codings`] knows.
pub(super) const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("gzip, br, zstd, deflate");

/// Maximum number of codings of one body. Servers apply one, proxies sometimes a second; each holds a window of up to 8
/// MiB.
const MAX_CODINGS: usize = 3;

/// Decompressed bytes up to which the expansion ratio is not checked.
const MIN_RATIO_CHECK_BYTES: u64 = 4 << 20;

/// Maximum number of decompressed bytes per byte from the network, beyond [`MIN_RATIO_CHECK_BYTES`]. Pages and tables
/// stay below 30; DEFLATE reaches 1,000, Brotli and zstd far more.
const MAX_EXPANSION_RATIO: u64 = 100;

/// Maximum window of zstd, as a power of two: 8 MiB (RFC 9659).
const MAX_ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes that are decompressed at a time.
const CHUNK_BYTES: usize = 32 << 10;

/// Maximum bytes of padding after a compressed stream. Tools pad to blocks of at most 10 KiB.
const MAX_PADDING_BYTES: usize = 64 << 10;

/// Maximum number of consecutive empty members in a gzip stream. BGZF ends with one; more only keep the reader busy.
const MAX_EMPTY_MEMBERS: usize = 16;

/// Input of a decoder: the network, or the previous stage.
pub(super) type EncodedReader = StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// Wraps a stream as the input of a decoder.
pub(super) fn encoded_reader(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> EncodedReader {
    StreamReader::new(Box::pin(stream))
}

/// A supported content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentCoding {
    Gzip,
    /// With or without the zlib envelope.
    Deflate,
    Brotli,
    Zstd,
}

/// Returns the codings of a body in the order in which they were applied, or `None` if one of them is unknown or there
/// are too many.
pub(super) fn codings(headers: &HeaderMap) -> Option<Vec<ContentCoding>> {
    let mut codings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for name in value.to_str().ok()?.split(',') {
            codings.push(match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => ContentCoding::Gzip,
                "deflate" => ContentCoding::Deflate,
                "br" => ContentCoding::Brotli,
                "zstd" => ContentCoding::Zstd,
                _ => return None,
            });
        }
    }
    (codings.len() <= MAX_CODINGS).then_some(codings)
}

/// Why decompression of a body stops.
#[derive(Debug)]
pub(super) struct DecompressionBomb;

impl fmt::Display for DecompressionBomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decompresses to more than {MAX_EXPANSION_RATIO} times its size")
    }
}

impl std::error::Error for DecompressionBomb {}

/// Decoder for one coding of a body.
pub(super) struct ContentDecoder {
    state: DecoderState,
    /// Number of bytes received from the network.
    network_bytes: Arc<AtomicU64>,
    /// Number of bytes that this stage has produced.
    decompressed_bytes: u64,
    /// Number of consecutive members without content.
    empty_members: usize,
}

enum DecoderState {
    /// Before the first byte, which determines the exact format.
    Start(ContentCoding, EncodedReader),
    Gzip(Box<GzipDecoder<EncodedReader>>),
    Zlib(Box<ZlibDecoder<EncodedReader>>),
    Deflate(Box<DeflateDecoder<EncodedReader>>),
    Brotli(Box<BrotliDecoder<EncodedReader>>),
    Zstd(Box<ZstdDecoder<EncodedReader>>),
}

/// Data after the end of a compressed stream.
enum StreamEnd {
    Nothing,
    /// Another member of a gzip stream (RFC 1952 §2.2).
    Member,
}

impl ContentDecoder {
    /// Builds the decoders for all codings of a body, with the one applied first outermost.
    pub(super) fn chain(codings: &[ContentCoding], wire: EncodedReader, network: &Arc<AtomicU64>) -> Self {
        let (first, rest) =
            codings.split_first().map_or((ContentCoding::Gzip, codings), |(first, rest)| (*first, rest));
        let wire = match rest {
            [] => wire,
            rest => Self::chain(rest, wire, network).into_reader(),
        };
        Self {
            state: DecoderState::Start(first, wire),
            network_bytes: Arc::clone(network),
            decompressed_bytes: 0,
            empty_members: 0,
        }
    }

    fn into_reader(self) -> EncodedReader {
        encoded_reader(stream::try_unfold(self, async |mut decoder| {
            let part = decoder.read().await?;
            Ok(part.map(|part| (part, decoder)))
        }))
    }

    /// Returns the next part, or `None` at the end, when the body is fully read. Cancel-safe.
    pub(super) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let part = match &mut self.state {
                DecoderState::Start(..) => {
                    if !self.start().await? {
                        return Ok(None);
                    }
                    continue;
                }
                DecoderState::Gzip(decoder) => read_chunk(decoder).await?,
                DecoderState::Zlib(decoder) => read_chunk(decoder).await?,
                DecoderState::Deflate(decoder) => read_chunk(decoder).await?,
                DecoderState::Brotli(decoder) => read_chunk(decoder).await?,
                DecoderState::Zstd(decoder) => read_chunk(decoder).await?,
            };
            if let Some(part) = part {
                self.empty_members = 0;
                self.decompressed_bytes += part.len() as u64;
                let max_bytes = self
                    .network_bytes
                    .load(Ordering::Relaxed)
                    .saturating_mul(MAX_EXPANSION_RATIO)
                    .max(MIN_RATIO_CHECK_BYTES);
                return if self.decompressed_bytes > max_bytes {
                    Err(io::Error::other(DecompressionBomb))
                } else {
                    Ok(Some(part))
                };
            }
            match self.check_end().await? {
                StreamEnd::Nothing => return Ok(None),
                StreamEnd::Member => self.next_member().await?,
            }
        }
    }

    /// Chooses the format by the first byte. Returns false for an empty stream, because a response to HEAD, or a
    /// response without content, has the header but no stream.
    async fn start(&mut self) -> io::Result<bool> {
        let DecoderState::Start(coding, wire) = &mut self.state else { return Ok(true) };
        let Some(&first) = wire.fill_buf().await?.first() else { return Ok(false) };
        let coding = *coding;
        let wire = take(wire);
        self.state = match coding {
            ContentCoding::Gzip => DecoderState::Gzip(Box::new(GzipDecoder::new(wire))),
            ContentCoding::Deflate if is_zlib(first) => DecoderState::Zlib(Box::new(ZlibDecoder::new(wire))),
            // Many servers send this, and every browser reads it.
            ContentCoding::Deflate => DecoderState::Deflate(Box::new(DeflateDecoder::new(wire))),
            // Streams with a window of up to 1 GiB (RFC 9841) are not meant for HTTP, but the decoder would accept
            // them.
            ContentCoding::Brotli if first & 0x7f == 0x11 => return Err(invalid("its window is too large")),
            ContentCoding::Brotli => DecoderState::Brotli(Box::new(BrotliDecoder::new(wire))),
            ContentCoding::Zstd => {
                let mut decoder = ZstdDecoder::with_params(wire, &[DParameter::window_log_max(MAX_ZSTD_WINDOW_LOG)]);
                // A stream consists of one or more frames (RFC 8878 §3).
                decoder.multiple_members(true);
                DecoderState::Zstd(Box::new(decoder))
            }
        };
        Ok(true)
    }

    /// Reads past the end of a stream. A connection can be reused only after its response was read to the end, and
    /// extra data must not be dropped silently.
    async fn check_end(&mut self) -> io::Result<StreamEnd> {
        let (wire, has_members) = match &mut self.state {
            DecoderState::Start(_, wire) => (wire, false),
            DecoderState::Gzip(decoder) => (decoder.get_mut(), true),
            DecoderState::Zlib(decoder) => (decoder.get_mut(), false),
            DecoderState::Deflate(decoder) => (decoder.get_mut(), false),
            DecoderState::Brotli(decoder) => (decoder.get_mut(), false),
            DecoderState::Zstd(decoder) => (decoder.get_mut(), false),
        };
        let mut padding = 0;
        loop {
            let rest = wire.fill_buf().await?;
            let length = rest.iter().position(|byte| !is_padding(*byte)).unwrap_or(rest.len());
            let next = rest.get(length).copied();
            let at_end = rest.is_empty();
            padding += length;
            wire.consume(length);
            match next {
                _ if padding > MAX_PADDING_BYTES => return Err(invalid("it is followed by too much padding")),
                None if at_end => return Ok(StreamEnd::Nothing),
                None => {}
                Some(0x1f) if has_members => return Ok(StreamEnd::Member),
                Some(_) => return Err(invalid("it is followed by extra data")),
            }
        }
    }

    async fn next_member(&mut self) -> io::Result<()> {
        self.empty_members += 1;
        if self.empty_members > MAX_EMPTY_MEMBERS {
            return Err(invalid("it contains too many empty members"));
        }
        if let DecoderState::Gzip(decoder) = &mut self.state {
            let wire = take(decoder.get_mut());
            **decoder = GzipDecoder::new(wire);
        }
        Ok(())
    }
}

fn take(from: &mut EncodedReader) -> EncodedReader {
    std::mem::replace(from, encoded_reader(stream::empty()))
}

/// Returns whether a stream begins with a zlib header (RFC 1950 §2.2: the method is 8 and the window at most 32 KiB).
/// No raw stream begins this way, because it would be an uncompressed block whose padding bits are set.
fn is_zlib(first: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7
}

/// Returns whether tools write this byte after a stream to fill a block, or servers by mistake after their template.
fn is_padding(byte: u8) -> bool {
    matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n')
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

async fn read_chunk(decoder: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let mut part = BytesMut::with_capacity(CHUNK_BYTES);
    let read = decoder.read_buf(&mut part).await?;
    Ok((read > 0).then(|| part.freeze()))
}

#[cfg(test)]
mod tests;
