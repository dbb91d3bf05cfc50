//! Certificates are checked, always.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use konnector_sandbox::http::HttpError;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::fixture::{Fixture, get, text};
use super::server::{Server, ok};

const ANSWER: &str = "HTTP/1.1 200 X\r\nContent-Length: 6\r\n\r\nsecure";

/// A certificate and its key, made for these tests and trusted by nothing else; valid until the year 4096.
struct Identity {
    certificate: &'static [u8],
    key: &'static [u8],
}

const A: Identity = Identity {
    certificate: include_bytes!("material/a.example.certificate.der"),
    key: include_bytes!("material/a.example.key.der"),
};

const B: Identity = Identity {
    certificate: include_bytes!("material/b.example.certificate.der"),
    key: include_bytes!("material/b.example.key.der"),
};

impl Identity {
    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.certificate)
    }

    fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate()], PrivateKeyDer::try_from(self.key).unwrap())
            .unwrap();
        Arc::new(config)
    }
}

/// A server on a thread of its own, which gives one answer to every request.
struct Secure {
    url: String,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Secure {
    fn start(identity: &Identity, answer: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://a.example:{}", listener.local_addr().unwrap().port());
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (config, answer, counters) = (identity.config(), answer.into(), (connections.clone(), requests.clone()));
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
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                }
            }
        });
        Self { url, connections, requests }
    }
}

#[tokio::test]
async fn a_certificate_that_the_operator_trusts_is_accepted() {
    let server = Secure::start(&A, ANSWER);
    let mut fixture = Fixture::new().allow(&*server.url);
    fixture.options.extra_roots = vec![A.certificate()];
    let session = fixture.session();
    for _ in 0..2 {
        assert_eq!(text(&get(&session, server.url.clone()).await.unwrap()), "secure");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn any_other_certificate_is_not() {
    let (unknown, misnamed) = (Secure::start(&A, ANSWER), Secure::start(&B, ANSWER));
    for (server, trusted) in [(unknown, vec![]), (misnamed, vec![B.certificate()])] {
        let mut fixture = Fixture::new().allow(&*server.url);
        fixture.options.extra_roots = trusted;
        let error = get(&fixture.session(), server.url.clone()).await.unwrap_err();
        assert!(matches!(error, HttpError::Tls(_)), "{error:?}");
        assert_eq!((server.connections.load(Ordering::SeqCst), server.requests.load(Ordering::SeqCst)), (1, 0));
    }
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

#[tokio::test]
async fn https_never_leads_to_http() {
    let plain = Server::start(|_| ok("")).await;
    let location = plain.url("a.example", "/");
    let server = Secure::start(&A, format!("HTTP/1.1 302 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"));
    let mut fixture = Fixture::new().allow(&*server.url).allow(plain.url("a.example", ""));
    fixture.options.extra_roots = vec![A.certificate()];
    let error = get(&fixture.session(), server.url.clone()).await.unwrap_err();
    assert!(matches!(error, HttpError::Denied(_)), "{error}");
    assert_eq!(plain.connections(), 0);
}
