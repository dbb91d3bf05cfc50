//! Certificates that are trusted only by one test, and servers that use them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::fixture::Fixture;

/// A certificate and its key.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    pub fn new(name: &str) -> Self {
        Self::valid_until(name, 4096)
    }

    pub fn valid_until(name: &str, year: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        parameters.not_after = date_time_ymd(year, 1, 1);
        let certificate = parameters.self_signed(&key).unwrap().der().clone();
        Self { certificate, key: key.serialize_der().into() }
    }

    /// Returns the server configuration for these ALPN protocols, such as `h2`.
    pub fn config(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], PrivateKeyDer::Pkcs8(self.key.clone_key()))
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A server whose connections the test handles itself.
pub struct TlsServer {
    pub url: String,
    identity: Identity,
    connections: Arc<AtomicUsize>,
}

impl TlsServer {
    pub async fn start<F>(
        protocols: &[&str],
        handler: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let identity = Identity::new("a.example");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://a.example:{}", listener.local_addr().unwrap().port());
        let acceptor = TlsAcceptor::from(identity.config(protocols));
        let connections = Arc::<AtomicUsize>::default();
        let (handler, counter) = (Arc::new(handler), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        handler(stream).await;
                    }
                });
            }
        });
        Self { url, identity, connections }
    }

    /// Returns a fixture that may reach this server and trusts it.
    pub fn fixture(&self) -> Fixture {
        let mut fixture = Fixture::new().allow(&*self.url);
        fixture.options.extra_roots = vec![self.identity.certificate.clone()];
        fixture
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
