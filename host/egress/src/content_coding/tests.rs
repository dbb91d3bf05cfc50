use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

const KINDS: [&str; 5] = ["gzip", "zlib", "deflate", "br", "zstd"];

fn pack(kind: &str, content: &[u8]) -> Vec<u8> {
    fn written<W: io::Write>(mut encoder: W, content: &[u8]) -> W {
        encoder.write_all(content).unwrap();
        encoder
    }
    match kind {
        "gzip" => written(GzEncoder::new(Vec::new(), Compression::fast()), content).finish().unwrap(),
        "zlib" => written(ZlibEncoder::new(Vec::new(), Compression::fast()), content).finish().unwrap(),
        "deflate" => written(DeflateEncoder::new(Vec::new(), Compression::fast()), content).finish().unwrap(),
        "br" => written(brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 20), content).into_inner(),
        "zstd" => zstd::encode_all(content, 1).unwrap(),
        other => panic!("{other}"),
    }
}

fn coding(kind: &str) -> ContentCoding {
    match kind {
        "gzip" => ContentCoding::Gzip,
        "zlib" | "deflate" => ContentCoding::Deflate,
        "br" => ContentCoding::Brotli,
        "zstd" => ContentCoding::Zstd,
        other => panic!("{other}"),
    }
}

/// Decodes a body that arrives in parts of `size` bytes.
fn unpacked(kinds: &[&str], packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let parts: Vec<_> = packed.chunks(size).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    let network = Arc::new(AtomicU64::new(packed.len() as u64));
    let codings: Vec<_> = kinds.iter().map(|kind| coding(kind)).collect();
    let mut decoder = ContentDecoder::chain(&codings, encoded_reader(stream::iter(parts)), &network);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut content = Vec::new();
        while let Some(part) = decoder.read().await? {
            content.extend_from_slice(&part);
        }
        assert!(decoder.read().await?.is_none(), "the end stays the end");
        Ok(content)
    })
}

fn headers(values: &[&'static str]) -> HeaderMap {
    let values = values.iter().map(|value| (header::CONTENT_ENCODING, HeaderValue::from_static(value)));
    values.fold(HeaderMap::new(), |mut headers, (name, value)| {
        headers.append(name, value);
        headers
    })
}

#[test]
fn every_offered_encoding_can_be_decoded() {
    for name in ACCEPT_ENCODING.to_str().unwrap().split(", ") {
        let name: &'static str = name.to_owned().leak();
        assert_eq!(codings(&headers(&[name])).unwrap().len(), 1, "{name}");
    }
}

#[test]
fn codings_are_read_from_all_headers_in_order() {
    use ContentCoding::{Brotli, Deflate, Gzip};
    assert_eq!(codings(&headers(&[])), Some(Vec::new()));
    assert_eq!(codings(&headers(&["identity", ""])), Some(Vec::new()));
    assert_eq!(codings(&headers(&["Deflate, X-Gzip", "br"])), Some(vec![Deflate, Gzip, Brotli]));
    assert_eq!(codings(&headers(&["gzip, compress"])), None);
    assert_eq!(codings(&headers(&["gzip, gzip, gzip, gzip"])), None);
}

#[test]
fn what_follows_the_end_is_padding_or_an_error() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "zstd") {
        let packed = pack(kind, b"content");
        for padding in [&b"\0\0\0"[..], b"\r\n", &[0; 10 << 10]] {
            let padded = [&packed, padding].concat();
            assert_eq!(unpacked(&[kind], &padded, 7).unwrap(), b"content", "{kind}");
        }
        for more in [&b"<!-- -->"[..], b"\0\0x", &[0; MAX_PADDING_BYTES + 1]] {
            assert!(unpacked(&[kind], &[&packed, more].concat(), 7).is_err(), "{kind} {more:?}");
        }
    }
    let frames = [pack("zstd", b"con"), vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2], pack("zstd", b"tent")];
    assert_eq!(unpacked(&["zstd"], &frames.concat(), 3).unwrap(), b"content");
    assert!(unpacked(&["zstd"], &[&frames.concat()[..], b"x"].concat(), 3).is_err());
    assert!(unpacked(&["br"], &pack("br", b"content").repeat(2), 7).is_err());
}

#[test]
fn members_without_content_end() {
    let empty = pack("gzip", b"");
    assert_eq!(unpacked(&["gzip"], &empty.repeat(MAX_EMPTY_MEMBERS), 9).unwrap(), b"");
    let error = unpacked(&["gzip"], &empty.repeat(10_000), 9).unwrap_err();
    insta::assert_snapshot!(error, @"it contains too many empty members");
}

#[test]
fn no_stage_of_a_chain_unfolds_without_limit() {
    let inner = pack("gzip", &vec![0; 32 << 20]);
    for kinds in [&["gzip"][..], &["gzip", "gzip"], &["br", "gzip"]] {
        let mut bomb = inner.clone();
        for kind in kinds.iter().skip(1) {
            bomb = pack(kind, &bomb);
        }
        let error = unpacked(&[&["gzip"], kinds.get(1..).unwrap()].concat(), &bomb, 1_000).unwrap_err();
        assert!(error.get_ref().is_some_and(|cause| cause.is::<DecompressionBomb>()), "{kinds:?}: {error}");
    }
}

proptest! {
    /// Covers all ways to compress: members of a gzip stream, nested codings, and parts as the network delivers them.
    #[test]
    fn all_of_a_body_arrives(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
        kinds in prop::collection::vec(prop::sample::select(&KINDS[..]), 1..=MAX_CODINGS),
        size in 1_usize..400,
    ) {
        let (first, rest) = kinds.split_first().unwrap();
        let mut packed: Vec<u8> = match *first {
            "gzip" | "zstd" => parts.iter().flat_map(|part| pack(first, part)).collect(),
            one => pack(one, &parts.concat()),
        };
        for kind in rest {
            packed = pack(kind, &packed);
        }
        prop_assert_eq!(unpacked(&kinds, &packed, size).unwrap(), parts.concat());
    }

    /// A truncated stream is never taken for a complete one, except between two members.
    #[test]
    fn a_part_of_a_body_is_an_error(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..4),
        kind in prop::sample::select(&KINDS[..]),
        cut in any::<prop::sample::Index>(),
    ) {
        let packed: Vec<Vec<u8>> = match kind {
            "gzip" | "zstd" => parts.iter().map(|part| pack(kind, part)).collect(),
            one => vec![pack(one, &parts.concat())],
        };
        let boundaries: Vec<usize> = packed
            .iter()
            .scan(0, |offset, part| {
                *offset += part.len();
                Some(*offset)
            })
            .collect();
        let packed = packed.concat();
        // Brotli packs an empty body into one byte, which has no part.
        prop_assume!(packed.len() > 1);
        let cut = 1 + cut.index(packed.len() - 1);
        prop_assume!(!boundaries.contains(&cut));
        prop_assert!(unpacked(&[kind], packed.get(..cut).unwrap(), 50).is_err(), "{} bytes of {}", cut, packed.len());
    }
}
