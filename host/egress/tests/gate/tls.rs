//! Tests that certificates are always checked.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use konnector_egress::HttpError;
use rustls::{ServerConnection, StreamOwned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fixture::{Fixture, get, text};
use super::identity::Identity;
use super::server::{Server, ok};

const ANSWER: &str = "HTTP/1.1 200 X\r\nContent-Length: 6\r\n\r\nsecure";

/// A server on its own thread with the same response to every request.
struct BlockingTlsServer {
    url: String,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl BlockingTlsServer {
    fn start(identity: &Identity, response: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://a.example:{}", listener.local_addr().unwrap().port());
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (config, response, counters) =
            (identity.config(&[]), response.into(), (connections.clone(), requests.clone()));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                counters.0.fetch_add(1, Ordering::SeqCst);
                let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket.unwrap());
                let mut head = Vec::new();
                let mut byte = [0];
                while matches!(stream.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        counters.1.fetch_add(1, Ordering::SeqCst);
                        head.clear();
                        stream.write_all(response.as_bytes()).unwrap();
                    }
                }
            }
        });
        Self { url, connections, requests }
    }
}

#[tokio::test]
async fn a_certificate_that_the_operator_trusts_is_accepted() {
    let identity = Identity::new("a.example");
    let server = BlockingTlsServer::start(&identity, ANSWER);
    let mut fixture = Fixture::new().allow(&*server.url);
    fixture.options.extra_roots = vec![identity.certificate];
    let session = fixture.session();
    for _ in 0..2 {
        assert_eq!(text(&get(&session, server.url.clone()).await.unwrap()), "secure");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn any_other_certificate_is_not() {
    let (own, other) = (Identity::new("a.example"), Identity::new("a.example"));
    let (misnamed, expired) = (Identity::new("b.example"), Identity::valid_until("a.example", 2020));
    let mut texts = Vec::new();
    for (identity, trusted) in
        [(&own, None), (&own, Some(&other)), (&misnamed, Some(&misnamed)), (&expired, Some(&expired))]
    {
        let server = BlockingTlsServer::start(identity, ANSWER);
        let mut fixture = Fixture::new().allow(&*server.url);
        fixture.options.extra_roots = trusted.into_iter().map(|trusted| trusted.certificate.clone()).collect();
        let error = get(&fixture.session(), server.url.clone()).await.unwrap_err();
        assert!(matches!(error, HttpError::Tls(_)), "{error:?}");
        assert_eq!((server.connections.load(Ordering::SeqCst), server.requests.load(Ordering::SeqCst)), (1, 0));
        // The port and the time of the check differ each time.
        let text = error.to_string().replace(&server.url, "https://a.example");
        texts.push(text.split(": verification").next().unwrap().to_owned());
    }
    insta::assert_snapshot!(texts.join("\n"), @r#"
    cannot establish a secure connection to https://a.example: invalid peer certificate: UnknownIssuer
    cannot establish a secure connection to https://a.example: invalid peer certificate: BadSignature
    cannot establish a secure connection to https://a.example: invalid peer certificate: certificate not valid for name "a.example"; certificate is only valid for DnsName("b.example")
    cannot establish a secure connection to https://a.example: invalid peer certificate: certificate expired
    "#);
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_named_as_such() {
    for bytes in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://a.example:{}", listener.local_addr().unwrap().port());
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            assert_ne!(socket.read(&mut [0; 4096]).unwrap(), 0);
            socket.write_all(bytes.as_bytes()).unwrap();
        });
        let error = get(&Fixture::new().allow(&*url).session(), url).await.unwrap_err();
        assert!(matches!(error, HttpError::Tls(_)), "{error:?}");
    }
}

/// Without a length, the body ends with the connection; an attacker who cuts the connection must not be able to forge
/// that end.
#[tokio::test]
async fn a_body_without_length_ends_with_the_alert_that_closes_the_connection() {
    for (says_goodbye, expected) in [(true, Some("part")), (false, None)] {
        let server = super::identity::TlsServer::start(&[], move |mut stream| async move {
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\npart").await.unwrap();
            stream.flush().await.unwrap();
            if says_goodbye {
                stream.shutdown().await.unwrap();
            }
        })
        .await;
        let result = get(&server.fixture().session(), server.url.clone()).await;
        assert_eq!(result.as_ref().ok().map(text), expected, "{result:?}");
        assert!(says_goodbye || matches!(result, Err(HttpError::Protocol(_))), "{result:?}");
    }
}

#[tokio::test]
async fn https_never_leads_to_http() {
    let plain = Server::start(|_| ok("")).await;
    let location = plain.url("a.example", "/");
    let identity = Identity::new("a.example");
    let server = BlockingTlsServer::start(
        &identity,
        format!("HTTP/1.1 302 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"),
    );
    let mut fixture = Fixture::new().allow(&*server.url).allow(plain.url("a.example", ""));
    fixture.options.extra_roots = vec![identity.certificate];
    let error = get(&fixture.session(), server.url.clone()).await.unwrap_err();
    assert!(matches!(error, HttpError::Denied(_)), "{error}");
    assert_eq!(plain.connections(), 0);
}
