//! Tests HTTP/2 with servers that conform to RFC 9113 and servers that do not.

use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use h2::{Reason, RecvStream};
use http::Response;
use konnector_egress::{HttpError, Request, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use super::fixture::{get, milliseconds, record, text};
use super::identity::TlsServer;
use super::memory::with_bounded_memory;

type RequestParts = http::request::Parts;

async fn body(mut stream: RecvStream) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(Ok(part)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(part.len());
        body.extend(part);
    }
    body
}

/// Starts a server that responds to each request with the result of `answer` for the request and its body.
async fn server(
    handler: impl Fn(RequestParts, Vec<u8>) -> (Response<()>, Bytes) + Clone + Send + Sync + 'static,
) -> TlsServer {
    TlsServer::start(&["h2"], move |stream| {
        let handler = handler.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let handler = handler.clone();
                tokio::spawn(async move {
                    let (parts, stream) = request.into_parts();
                    let sent = body(stream).await;
                    tokio::time::sleep(milliseconds(20)).await;
                    let (head, body) = handler(parts, sent);
                    let mut stream = respond.send_response(head, false).unwrap();
                    let _ = stream.send_data(body, true);
                });
            }
        }
    })
    .await
}

fn head(status: u16, headers: &[(&str, &str)]) -> Response<()> {
    headers
        .iter()
        .fold(Response::builder().status(status), |head, (name, value)| head.header(*name, *value))
        .body(())
        .unwrap()
}

#[tokio::test]
async fn one_connection_carries_many_exchanges() {
    let server = server(|parts, _| (head(200, &[]), format!("{:?} {}", parts.version, parts.uri).into())).await;
    let session = server.fixture().session();
    get(&session, server.url.clone()).await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..12 {
        let (session, url) = (session.clone(), format!("{}/{number}?x", server.url));
        tasks.spawn(async move { (number, text(&get(&session, url).await.unwrap()).to_owned()) });
    }
    for (number, response) in tasks.join_all().await {
        assert_eq!(response, format!("HTTP/2.0 {}/{number}?x", server.url));
    }
    assert_eq!(server.connections(), 1);
    let record = record(&session, &server.url);
    assert_eq!((record.requests, record.methods["GET"], record.statuses[&200], record.private), (13, 13, 13, 13));
}

#[tokio::test]
async fn two_runs_have_connections_of_their_own() {
    let server = server(|_, _| (head(200, &[]), Bytes::new())).await;
    let fixture = server.fixture();
    let gate = fixture.gate();
    for _ in 0..2 {
        let session = fixture.session_of(&gate);
        get(&session, server.url.clone()).await.unwrap();
        get(&session, server.url.clone()).await.unwrap();
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn secrets_cookies_and_compression_work_alike() {
    let server = server(|parts, body| {
        let cookie = parts.headers.get("cookie").map_or("none", |cookie| cookie.to_str().unwrap());
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        std::io::Write::write_all(&mut gzip, format!("{} {cookie}", String::from_utf8(body).unwrap()).as_bytes())
            .unwrap();
        (
            head(200, &[("content-encoding", "gzip"), ("set-cookie", "sid=7; Secure; Path=/")]),
            gzip.finish().unwrap().into(),
        )
    })
    .await;
    let fixture = server.fixture().secret("pin", "1234");
    let placeholder = fixture.secrets.placeholder("pin").unwrap();
    let session = fixture.session();
    let login = || Request::post(&*server.url, "application/x-www-form-urlencoded", format!("pin={placeholder}"));
    assert_eq!(text(&session.send(login()).await.unwrap()), "pin=1234 none");
    assert_eq!(text(&session.send(login()).await.unwrap()), "pin=1234 sid=7");
}

/// Returns the error of a request, without the port.
async fn failure(server: &TlsServer, session: &Session) -> HttpError {
    match with_bounded_memory(get(session, server.url.clone())).await.unwrap_err() {
        HttpError::Protocol(text) => HttpError::Protocol(text.replace(&server.url, "https://a.example")),
        other => other,
    }
}

#[tokio::test]
async fn headers_have_the_same_limits() {
    let long = server(|_, _| (head(200, &[("x-long", &"z".repeat(100_000))]), Bytes::new())).await;
    let many = server(|_, _| {
        let headers: Vec<(String, String)> = (0..300).map(|number| (format!("x-{number}"), "z".to_owned())).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        (head(200, &headers), Bytes::new())
    })
    .await;
    for server in [long, many] {
        let error = failure(&server, &server.fixture().session()).await;
        assert!(matches!(error, HttpError::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_length_that_lies_is_an_error() {
    let server = server(|_, _| (head(200, &[("content-length", "10")]), Bytes::from_static(b"hello"))).await;
    let error = failure(&server, &server.fixture().session()).await;
    assert!(matches!(error, HttpError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_resets_every_stream() {
    let server = TlsServer::start(&["h2"], |stream| async {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(Reason::CANCEL);
        }
    })
    .await;
    let session = server.fixture().session();
    for _ in 0..100 {
        let error = failure(&server, &session).await;
        assert!(matches!(error, HttpError::Protocol(_)), "{error:?}");
    }
}

/// Encodes a frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// `:status: 200` in HPACK.
const STATUS_200: &[u8] = &[0x88];

/// Starts a server that responds to the first request with these frames, the last of them endlessly.
async fn start_flooding_server(once: Vec<Vec<u8>>, endlessly: Vec<u8>) -> TlsServer {
    let repeated = endlessly.repeat((32 << 10) / endlessly.len() + 1);
    TlsServer::start(&["h2"], move |stream| flood(stream, once.concat(), repeated.clone())).await
}

async fn flood(stream: TlsStream<TcpStream>, once: Vec<u8>, endlessly: Vec<u8>) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    writer.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut received = Vec::new();
    // The preface has 24 bytes; the request is in the first HEADERS frame after it.
    while !has_frame(received.get(24..).unwrap_or_default(), HEADERS) {
        match reader.read(&mut buffer).await {
            Ok(length) if length > 0 => received.extend(&buffer[..length]),
            _ => return,
        }
    }
    // Read the peer's replies to the flood, so it never blocks.
    let reading =
        tokio::spawn(async move { while matches!(reader.read(&mut buffer).await, Ok(length) if length > 0) {} });
    if writer.write_all(&once).await.is_ok() {
        while writer.write_all(&endlessly).await.is_ok() {}
    }
    reading.abort();
}

fn has_frame(mut bytes: &[u8], kind: u8) -> bool {
    while bytes.len() >= 9 {
        if bytes[3] == kind {
            return true;
        }
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    false
}

#[tokio::test]
async fn floods_of_frames_end_with_an_error_and_without_memory() {
    let headers = || frame(HEADERS, END_HEADERS, 1, STATUS_200);
    let literal: Vec<u8> = [&[0x00, 0x03][..], b"x-y", &[0x7f, 0xe1, 0x1e], &[b'z'; 4_000]].concat();
    for (name, once, endlessly) in [
        ("empty data", vec![headers()], frame(DATA, 0, 1, &[])),
        ("continued headers", vec![frame(HEADERS, 0, 1, STATUS_200)], frame(CONTINUATION, 0, 1, &literal)),
        ("empty continuations", vec![frame(HEADERS, 0, 1, STATUS_200)], frame(CONTINUATION, 0, 1, &[])),
        ("informational answers", vec![], frame(HEADERS, END_HEADERS, 1, &[0x08, 0x03, b'1', b'0', b'3'])),
        ("resets", vec![], frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[])),
        ("pings", vec![], frame(PING, 0, 0, &[7; 8])),
        ("unknown frames", vec![], frame(0xbb, 0, 1, &[7; 8])),
        ("data for nobody", vec![], frame(DATA, 0, 9, &[7; 8])),
        ("a second answer", vec![headers()], headers()),
    ] {
        let server = start_flooding_server(once, endlessly).await;
        let times = |times: &mut konnector_egress::Timeouts| {
            times.headers = Duration::from_secs(1);
            times.idle = Duration::from_secs(1);
        };
        let error = failure(&server, &server.fixture().timeouts(times).session()).await;
        assert!(matches!(error, HttpError::Protocol(_) | HttpError::Timeout(_)), "{name}: {error:?}");
    }
}
