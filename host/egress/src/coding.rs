//! Content codings (RFC 9110 §8.4.1), undone while a body is read. Each stage of a body that is compressed several times is one [`Decoder`].

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

/// What requests say they accept: exactly what [`codings`] knows.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip, br, zstd, deflate");

/// Codings of one body. Servers apply one, proxies sometimes a second; each holds a window of up to 8 MiB.
const MAX_CODINGS: usize = 3;

/// What a body may unfold to whatever its ratio, in bytes.
const FREE: u64 = 4 << 20;

/// Beyond [`FREE`], how many bytes one byte of the network may become. Pages and tables stay below 30; DEFLATE reaches 1,000, Brotli and
/// zstd far more.
const RATIO: u64 = 100;

/// Largest window of zstd, as a power of two: 8 MiB (RFC 9659).
const ZSTD_WINDOW: u32 = 23;

/// Bytes that are decompressed at a time.
const PART: usize = 32 << 10;

/// Bytes of padding after a compressed stream. The blocks that tools pad to are at most 10 KiB.
const MAX_PADDING: usize = 64 << 10;

/// Members of a gzip stream that follow each other without content. BGZF ends with one; more are only there to keep the reader busy.
const MAX_EMPTY_MEMBERS: usize = 16;

/// Where a decoder reads from: the network, or the stage before it.
pub(super) type Wire = StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// A stream as a decoder reads it.
pub(super) fn wire(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Wire {
    StreamReader::new(Box::pin(stream))
}

/// A coding that is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    /// With the envelope of zlib or without it.
    Deflate,
    Brotli,
    Zstd,
}

/// The codings of a body in the order in which they were applied; `None` when one of them is not known or there are too many.
pub(super) fn codings(headers: &HeaderMap) -> Option<Vec<Coding>> {
    let mut codings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for name in value.to_str().ok()?.split(',') {
            codings.push(match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                _ => return None,
            });
        }
    }
    (codings.len() <= MAX_CODINGS).then_some(codings)
}

/// Why a body is not unfolded any further.
#[derive(Debug)]
pub(super) struct Bomb;

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unfolds to more than {RATIO} times its size")
    }
}

impl std::error::Error for Bomb {}

/// One stage.
pub(super) struct Decoder {
    state: State,
    /// Bytes that came from the network.
    network: Arc<AtomicU64>,
    /// What they became here.
    unfolded: u64,
    /// Members in a row that had no content.
    empty_members: usize,
}

enum State {
    /// Before the first byte, which says more about the format.
    Start(Coding, Wire),
    Gzip(Box<GzipDecoder<Wire>>),
    Zlib(Box<ZlibDecoder<Wire>>),
    Deflate(Box<DeflateDecoder<Wire>>),
    Brotli(Box<BrotliDecoder<Wire>>),
    Zstd(Box<ZstdDecoder<Wire>>),
}

/// What comes after the end of a compressed stream.
enum Next {
    Nothing,
    /// Another member of a gzip stream (RFC 1952 §2.2).
    Member,
}

impl Decoder {
    /// Decoders for all codings of a body, the one that was applied first outermost.
    pub(super) fn chain(codings: &[Coding], wire: Wire, network: &Arc<AtomicU64>) -> Self {
        let (first, rest) = codings.split_first().map_or((Coding::Gzip, codings), |(first, rest)| (*first, rest));
        let wire = match rest {
            [] => wire,
            rest => Self::chain(rest, wire, network).into_wire(),
        };
        Self { state: State::Start(first, wire), network: Arc::clone(network), unfolded: 0, empty_members: 0 }
    }

    fn into_wire(self) -> Wire {
        wire(stream::try_unfold(self, async |mut decoder| {
            let part = decoder.read().await?;
            Ok(part.map(|part| (part, decoder)))
        }))
    }

    /// The next part; `None` at the end, where nothing of the body is left. Cancel-safe.
    pub(super) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let part = match &mut self.state {
                State::Start(..) => {
                    if !self.start().await? {
                        return Ok(None);
                    }
                    continue;
                }
                State::Gzip(decoder) => part(decoder).await?,
                State::Zlib(decoder) => part(decoder).await?,
                State::Deflate(decoder) => part(decoder).await?,
                State::Brotli(decoder) => part(decoder).await?,
                State::Zstd(decoder) => part(decoder).await?,
            };
            if let Some(part) = part {
                self.empty_members = 0;
                self.unfolded += part.len() as u64;
                let most = self.network.load(Ordering::Relaxed).saturating_mul(RATIO).max(FREE);
                return if self.unfolded > most { Err(io::Error::other(Bomb)) } else { Ok(Some(part)) };
            }
            match self.next().await? {
                Next::Nothing => return Ok(None),
                Next::Member => self.next_member().await?,
            }
        }
    }

    /// Chooses the format by the first byte; false when there is none: an answer to HEAD, or one without content, has the header and no
    /// stream.
    async fn start(&mut self) -> io::Result<bool> {
        let State::Start(coding, wire) = &mut self.state else { return Ok(true) };
        let Some(&first) = wire.fill_buf().await?.first() else { return Ok(false) };
        let coding = *coding;
        let wire = take(wire);
        self.state = match coding {
            Coding::Gzip => State::Gzip(Box::new(GzipDecoder::new(wire))),
            Coding::Deflate if is_zlib(first) => State::Zlib(Box::new(ZlibDecoder::new(wire))),
            // What many servers send, and every browser reads.
            Coding::Deflate => State::Deflate(Box::new(DeflateDecoder::new(wire))),
            // Streams with a window of up to 1 GiB (RFC 9841) are not for HTTP; the decoder would read them.
            Coding::Brotli if first & 0x7f == 0x11 => return Err(invalid("its window is too large")),
            Coding::Brotli => State::Brotli(Box::new(BrotliDecoder::new(wire))),
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::with_params(wire, &[DParameter::window_log_max(ZSTD_WINDOW)]);
                // RFC 8878 §3: a stream is one frame or more.
                decoder.multiple_members(true);
                State::Zstd(Box::new(decoder))
            }
        };
        Ok(true)
    }

    /// Reads on after the end of a stream. A connection can be used again only when its answer was read to the end, and whatever else
    /// comes must not be lost without a word.
    async fn next(&mut self) -> io::Result<Next> {
        let (wire, has_members) = match &mut self.state {
            State::Start(_, wire) => (wire, false),
            State::Gzip(decoder) => (decoder.get_mut(), true),
            State::Zlib(decoder) => (decoder.get_mut(), false),
            State::Deflate(decoder) => (decoder.get_mut(), false),
            State::Brotli(decoder) => (decoder.get_mut(), false),
            State::Zstd(decoder) => (decoder.get_mut(), false),
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
                _ if padding > MAX_PADDING => return Err(invalid("too much padding follows its end")),
                None if at_end => return Ok(Next::Nothing),
                None => {}
                Some(0x1f) if has_members => return Ok(Next::Member),
                Some(_) => return Err(invalid("more bytes follow its end")),
            }
        }
    }

    async fn next_member(&mut self) -> io::Result<()> {
        self.empty_members += 1;
        if self.empty_members > MAX_EMPTY_MEMBERS {
            return Err(invalid("it has too many members without content"));
        }
        if let State::Gzip(decoder) = &mut self.state {
            let wire = take(decoder.get_mut());
            **decoder = GzipDecoder::new(wire);
        }
        Ok(())
    }
}

fn take(from: &mut Wire) -> Wire {
    std::mem::replace(from, wire(stream::empty()))
}

/// RFC 1950 §2.2: the method is 8 and the window at most 32 KiB. No raw stream begins so: it would be a block without compression whose
/// padding bits are set.
fn is_zlib(first: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7
}

/// What tools write after a stream to fill a block, or servers by mistake behind their template.
fn is_padding(byte: u8) -> bool {
    matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n')
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

async fn part(decoder: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let mut part = BytesMut::with_capacity(PART);
    let read = decoder.read_buf(&mut part).await?;
    Ok((read > 0).then(|| part.freeze()))
}

#[cfg(test)]
mod tests;
