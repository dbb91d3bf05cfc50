//! Small responses that decompress to large ones, and endless responses: they cause a typed error and use hardly any
//! memory.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use konnector_egress::{DecodedBody, HttpError, Request, ResponseStream, Session};

use super::fixture::{Fixture, get, text};
use super::memory::with_bounded_memory;
use super::server::{ResponseScript, ResponseStep, Server, raw, response};

/// Writes this many MiB of zeros.
fn zeros(mebibytes: usize, mut to: impl Write) {
    let part = vec![0; 1 << 20];
    (0..mebibytes).for_each(|_| to.write_all(&part).unwrap());
    to.flush().unwrap();
}

fn gzip(mebibytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    zeros(mebibytes, &mut encoder);
    encoder.finish().unwrap()
}

fn deflate(mebibytes: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    zeros(mebibytes, &mut encoder);
    encoder.finish().unwrap()
}

fn brotli(mebibytes: usize) -> Vec<u8> {
    let mut compressed = Vec::new();
    zeros(mebibytes, brotli::CompressorWriter::new(&mut compressed, 1 << 16, 5, 22));
    compressed
}

fn zstd(mebibytes: usize, window: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window).unwrap();
    zeros(mebibytes, &mut encoder);
    encoder.finish().unwrap()
}

fn bombs() -> [(&'static str, Vec<u8>); 4] {
    [("gzip", gzip(128)), ("deflate", deflate(128)), ("br", brotli(128)), ("zstd", zstd(512, 20))]
}

/// Starts a server, and a session without its own limit on bodies that has already done a first exchange, so only the
/// response is measured.
async fn start_server(script: impl Fn() -> ResponseScript + Send + Sync + 'static) -> (Server, Session) {
    let empty = || super::server::response(204, &[], "");
    let server = Server::start(move |request| if request.target == "/" { script() } else { empty() }).await;
    let fixture = Fixture::new().allow(server.url("a.example", ""));
    let session = fixture.budget(|budget| budget.body_limit = 1 << 30).session();
    get(&session, server.url("a.example", "/warm")).await.unwrap();
    (server, session)
}

async fn fetch(script: impl Fn() -> ResponseScript + Send + Sync + 'static) -> Result<DecodedBody, HttpError> {
    let (server, session) = start_server(script).await;
    let fetched = with_bounded_memory(get(&session, server.url("a.example", "/"))).await;
    fetched.map(|response| response.body).map_err(|error| match error {
        HttpError::Protocol(text) => {
            HttpError::Protocol(text.replace(&server.url("a.example", ""), "http://a.example"))
        }
        other => other,
    })
}

/// Returns how many bytes a stream delivers, and the error that ends it.
async fn drain(stream: &mut ResponseStream) -> (usize, Option<HttpError>) {
    let mut received = 0;
    loop {
        match stream.chunk().await {
            Ok(Some(part)) => received += part.len(),
            Ok(None) => return (received, None),
            Err(error) => return (received, Some(error)),
        }
    }
}

#[tokio::test]
async fn a_bomb_of_each_kind_goes_off_in_a_box() {
    for (encoding, bomb) in bombs() {
        assert!(bomb.len() < 150_000, "{encoding}: {}", bomb.len());
        let error = fetch(move || response(200, &[("Content-Encoding", encoding)], &bomb)).await.unwrap_err();
        assert!(matches!(error, HttpError::Protocol(_)), "{encoding}: {error:?}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"the compressed body from http://a.example decompresses to more than 100 times its size");
        }
    }
}

#[tokio::test]
async fn the_decompressed_size_of_a_small_response_counts() {
    for (encoding, bomb) in [("gzip", gzip(2)), ("deflate", deflate(2)), ("br", brotli(2)), ("zstd", zstd(2, 20))] {
        let server = Server::start(move |_| response(200, &[("Content-Encoding", encoding)], &bomb)).await;
        let fixture = Fixture::new().allow(server.url("a.example", ""));
        let session = fixture.budget(|budget| budget.body_limit = 1 << 20).session();
        let error = get(&session, server.url("a.example", "/")).await.unwrap_err();
        assert_eq!(error, HttpError::TooLarge(1 << 20), "{encoding}");
    }
}

#[tokio::test]
async fn a_bomb_that_is_streamed_too() {
    for (encoding, bomb) in bombs() {
        let (server, session) = start_server(move || response(200, &[("Content-Encoding", encoding)], &bomb)).await;
        let mut stream = session.open(Request::get(server.url("a.example", "/"))).await.unwrap();
        let (received, error) = with_bounded_memory(drain(&mut stream)).await;
        assert!(received < 16 << 20, "{encoding}: {received}");
        assert!(matches!(error, Some(HttpError::Protocol(_))), "{encoding}: {error:?}");
    }
}

#[tokio::test]
async fn harmless_data_that_compresses_well_passes() {
    let row = |row: usize| format!("<tr><td>2026-01-{:02}</td><td>{row}</td></tr>\n", row % 31);
    let table: String = (0..30_000).map(row).collect();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(table.as_bytes()).unwrap();
    for (encoding, body) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd::encode_all(table.as_bytes(), 9).unwrap())]
    {
        let headers = [("Content-Encoding", encoding), ("Content-Type", "text/html")];
        let (server, session) = start_server(move || response(200, &headers, &body)).await;
        for _ in 0..2 {
            assert!(text(&get(&session, server.url("a.example", "/")).await.unwrap()) == table, "{encoding}");
        }
        assert_eq!(server.connections(), 1, "{encoding}: each answer was read to its end");
    }
}

#[tokio::test]
async fn windows_larger_than_those_of_the_standards_are_rejected() {
    let large = zstd(1, 27);
    let error = fetch(move || response(200, &[("Content-Encoding", "zstd")], &large)).await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot decompress the body from http://a.example: Frame requires too much memory for decoding");
    let error = fetch(|| response(200, &[("Content-Encoding", "br")], [0x11, 30, 0, 0])).await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot decompress the body from http://a.example: its window is too large");
}

#[tokio::test]
async fn an_encoding_without_content_is_an_empty_body() {
    let empty = DecodedBody::Bytes(Vec::new().into());
    assert_eq!(fetch(|| response(200, &[("Content-Encoding", "gzip")], "")).await.unwrap(), empty);
    let (server, session) =
        start_server(|| raw("HTTP/1.1 200 X\r\nContent-Encoding: br\r\nContent-Length: 9\r\n\r\n")).await;
    let head = Request { method: "HEAD".into(), ..Request::get(server.url("a.example", "/")) };
    assert_eq!(session.send(head).await.unwrap().body, empty);
    // An unknown coding is passed on unchanged and declared in the headers.
    let (server, session) = start_server(|| response(200, &[("Content-Encoding", "compress")], "x")).await;
    let response = get(&session, server.url("a.example", "/")).await.unwrap();
    assert!(response.headers.contains(&("content-encoding".to_owned(), "compress".to_owned())));
}

#[tokio::test]
async fn a_download_without_end_meets_the_budget_and_not_the_memory() {
    let part = format!("10000\r\n{}\r\n", "x".repeat(1 << 16)).into_bytes();
    let head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let server =
        Server::start(move |_| vec![ResponseStep::Write(head.clone()), ResponseStep::Repeat(part.clone())]).await;
    let fixture = Fixture::new().allow(server.url("a.example", ""));
    let session = fixture.budget(|budget| budget.bytes_down = 256 << 20).session();
    let mut stream = session.open(Request::get(server.url("a.example", "/"))).await.unwrap();
    let (received, error) = with_bounded_memory(drain(&mut stream)).await;
    assert!(received > 255 << 20, "{received}");
    insta::assert_snapshot!(error.unwrap(), @"the run's budget of 268435456 bytes to receive is exhausted");
}

#[tokio::test]
async fn endless_headers_are_abandoned() {
    for (beginning, part) in [
        ("HTTP/1.1 200 X\r\n", "X-Y: z\r\n"),
        ("HTTP/1.1 200 X\r\nX-Y: ", "zzzzzzzz"),
        ("HTTP/1.1 200 ", "XXXXXXXX"),
        ("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1;", "extension"),
        ("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-Trailer: z\r\n"),
    ] {
        let steps =
            move || vec![ResponseStep::Write(beginning.into()), ResponseStep::Repeat(part.repeat(1_000).into_bytes())];
        let error = fetch(steps).await.unwrap_err();
        assert!(matches!(error, HttpError::Protocol(_)), "{beginning:?}: {error:?}");
    }
}
