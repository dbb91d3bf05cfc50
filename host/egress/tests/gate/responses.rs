//! Tests well-formed and malformed responses.

use konnector_egress::{BodyFormat, DecodedBody, HttpError, Request, Session};

use super::fixture::{Fixture, get, text};
use super::server::{ResponseScript, ResponseStep, Server, raw, response};

/// `héllo`, compressed with gzip.
const GZIPPED: &str = "1f8b08000000000002ffcb38bc3227271f0036823b9e06000000";

async fn start_server(script: impl Fn() -> ResponseScript + Send + Sync + 'static) -> (Server, Session) {
    let server = Server::start(move |_| script()).await;
    let session =
        Fixture::new().allow(server.url("a.example", "")).budget(|budget| budget.body_limit = 1 << 20).session();
    (server, session)
}

async fn fetch(script: impl Fn() -> ResponseScript + Send + Sync + 'static) -> Result<DecodedBody, HttpError> {
    let (server, session) = start_server(script).await;
    Ok(get(&session, server.url("a.example", "/")).await?.body)
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|index| u8::from_str_radix(&hex[index..index + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn compressed_text_arrives_as_text() {
    let compressed = || response(200, &[("Content-Type", "text/plain"), ("Content-Encoding", "gzip")], bytes(GZIPPED));
    let (server, session) = start_server(compressed).await;
    let response = get(&session, server.url("a.example", "/")).await.unwrap();
    assert_eq!(response.body, DecodedBody::Text("h\u{e9}llo".into()));
    assert!(!response.headers.iter().any(|(name, _)| name == "content-encoding" || name == "content-length"));
    let accepted = server.last_request().header("accept-encoding").unwrap().to_owned();
    assert!(["gzip", "br", "zstd", "deflate"].iter().all(|encoding| accepted.contains(encoding)), "{accepted}");
}

#[tokio::test]
async fn all_members_of_a_gzip_stream_arrive() {
    let two =
        || response(200, &[("Content-Type", "text/plain"), ("Content-Encoding", "gzip")], bytes(&GZIPPED.repeat(2)));
    let (server, session) = start_server(two).await;
    for _ in 0..2 {
        assert_eq!(text(&get(&session, server.url("a.example", "/")).await.unwrap()), "h\u{e9}lloh\u{e9}llo");
    }
    assert_eq!(server.connections(), 1, "each answer was read to its end");
    let cut = bytes(&GZIPPED.repeat(2));
    let cut = move || response(200, &[("Content-Encoding", "gzip")], cut.get(..cut.len() - 3).unwrap());
    assert!(matches!(fetch(cut).await, Err(HttpError::Protocol(_))));
}

#[tokio::test]
async fn deflate_with_and_without_its_envelope_arrives() {
    // `héllo` in the formats of RFC 1951 and RFC 1950.
    for packed in ["cb38bc3227271f00", "789ccb38bc3227271f000b74031c"] {
        let packed = bytes(packed);
        let headers = [("Content-Type", "text/plain"), ("Content-Encoding", "deflate")];
        let body = fetch(move || response(200, &headers, &packed)).await.unwrap();
        assert_eq!(body, DecodedBody::Text("h\u{e9}llo".into()));
    }
}

#[tokio::test]
async fn heads_that_browsers_read_are_read() {
    for (head, name, value) in [
        ("X-Name: one\r\n two\r\n\tthree\r\n", "x-name", "one two three"),
        ("X-Name:\r\n one\r\n", "x-name", "one"),
        ("X-Name : one\r\n", "x-name", "one"),
        ("X-Name: one\nX-Other: two\n", "x-other", "two"),
        ("no header\r\nX-Name: one\r\n", "x-name", "one"),
        ("Bad Name: zero\r\nX-Name: one\r\n", "x-name", "one"),
        ("X-Name:one\r\n", "x-name", "one"),
        ("X-Name: caf\u{e9}\r\n", "x-name", "caf\u{e9}"),
        ("Content-Length: 5\r\nX-Name: one\r\n", "x-name", "one"),
    ] {
        let bytes = format!("HTTP/1.1 200 X\r\n{head}Content-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello");
        let (server, session) = start_server(move || raw(&bytes)).await;
        let response = get(&session, server.url("a.example", "/")).await;
        let response = response.unwrap_or_else(|error| panic!("{head:?}: {error}"));
        assert_eq!(text(&response), "hello", "{head:?}");
        assert!(response.headers.contains(&(name.into(), value.into())), "{head:?}: {:?}", response.headers);
    }
}

#[tokio::test]
async fn responses_of_old_servers_are_read() {
    for bytes in [
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello",
        "HTTP/1.1 200\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 \r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.1 200 d\u{e9}j\u{e0} vu\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        "\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 5\n\nhello",
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello and more than was announced",
    ] {
        let body = fetch(move || raw(bytes)).await;
        assert_eq!(body, Ok(DecodedBody::Text("hello".into())), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_page_in_another_charset_is_decoded() {
    let latin =
        fetch(|| response(200, &[("Content-Type", "text/html; charset=ISO-8859-1")], b"caf\xe9")).await.unwrap();
    assert_eq!(latin, DecodedBody::Text("caf\u{e9}".into()));
    let meta = || response(200, &[("Content-Type", "text/html")], b"<html><meta charset=windows-1252><p>10 \x80");
    assert_eq!(fetch(meta).await.unwrap(), DecodedBody::Text("<html><meta charset=windows-1252><p>10 \u{20ac}".into()));
}

#[tokio::test]
async fn the_guest_says_whether_it_wants_text() {
    for (expect, content_type, textual) in [
        (BodyFormat::Auto, "application/json", true),
        (BodyFormat::Auto, "application/pdf", false),
        (BodyFormat::Text, "application/pdf", true),
        (BodyFormat::Bytes, "text/html", false),
    ] {
        let (server, session) = start_server(move || response(200, &[("Content-Type", content_type)], "x")).await;
        let request = Request { body_format: expect, ..Request::get(server.url("a.example", "/")) };
        let body = session.send(request).await.unwrap().body;
        assert_eq!(matches!(body, DecodedBody::Text(_)), textual, "{expect:?} {content_type}");
    }
}

#[tokio::test]
async fn header_values_that_are_not_utf8_are_readable() {
    let (server, session) =
        start_server(|| raw(b"HTTP/1.1 200 X\r\nX-Name: caf\xe9\r\nContent-Length: 0\r\n\r\n")).await;
    let response = get(&session, server.url("a.example", "/")).await.unwrap();
    assert!(response.headers.contains(&("x-name".into(), "caf\u{e9}".into())));
}

#[tokio::test]
async fn an_endless_body_ends_at_the_limit() {
    let endless = || {
        let part = format!("4000\r\n{}\r\n", "x".repeat(0x4000)).into_bytes();
        vec![
            ResponseStep::Write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
            ResponseStep::Repeat(part),
        ]
    };
    assert_eq!(fetch(endless).await.unwrap_err(), HttpError::TooLarge(1 << 20));
    let announced = || {
        vec![ResponseStep::Write(b"HTTP/1.1 200 X\r\nContent-Length: 1048577\r\n\r\n".to_vec()), ResponseStep::Stall]
    };
    assert_eq!(fetch(announced).await.unwrap_err(), HttpError::TooLarge(1 << 20));
    let exact = || response(200, &[], vec![b'x'; 1 << 20]);
    assert!(fetch(exact).await.is_ok());
}

#[tokio::test]
async fn a_flood_of_headers_is_rejected() {
    let many = || raw(format!("HTTP/1.1 200 X\r\n{}\r\n", "X-Y: z\r\n".repeat(10_000)));
    let long = || raw(format!("HTTP/1.1 200 X\r\nX-Y: {}\r\n\r\n", "z".repeat(100_000)));
    let endless =
        || vec![ResponseStep::Write(b"HTTP/1.1 200 X\r\nX-Y: ".to_vec()), ResponseStep::Repeat(vec![b'z'; 1 << 16])];
    assert!(matches!(fetch(many).await, Err(HttpError::Protocol(_))));
    assert!(matches!(fetch(long).await, Err(HttpError::Protocol(_))));
    assert!(matches!(fetch(endless).await, Err(HttpError::Protocol(_))));
}

#[tokio::test]
async fn responses_that_are_not_http_are_protocol_errors() {
    for bytes in [
        "SSH-2.0-OpenSSH\r\n",
        "",
        "HTTP/1.1 200 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 X\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 X\r\nContent-Length: 5, 6\r\n\r\nhello!",
        "HTTP/1.1 200 X\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
        "HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 X\r\nX-Y: a\0b\r\n\r\n",
        "HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    ] {
        let body = fetch(move || raw(bytes)).await;
        assert!(matches!(body, Err(HttpError::Protocol(_))), "{bytes:?}: {body:?}");
    }
}

#[tokio::test]
async fn a_stream_gives_the_body_in_parts() {
    let part = || ResponseStep::Write(b"5\r\nhello\r\n".to_vec());
    let (server, session) = start_server(move || {
        vec![
            ResponseStep::Write(b"HTTP/1.1 404 X\r\nX-Y: z\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
            part(),
            part(),
            ResponseStep::Write(b"0\r\n\r\n".to_vec()),
        ]
    })
    .await;
    let mut stream = session.open(Request::get(server.url("a.example", "/"))).await.unwrap();
    assert_eq!((stream.status(), &*stream.url()), (404, server.url("a.example", "/").as_str()));
    assert!(stream.headers().contains(&("x-y".into(), "z".into())));
    let mut body = Vec::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        body.extend(chunk);
    }
    assert_eq!(body, b"hellohello");
    assert_eq!(stream.chunk().await.unwrap(), None);
    assert_eq!(text(&get(&session, server.url("a.example", "/")).await.unwrap()), "hellohello");
}
