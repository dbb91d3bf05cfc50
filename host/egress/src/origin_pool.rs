//! The connections of one run to one origin.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt};
use url::{Host, Url};

use super::error::HttpError;
use super::gate::GateState;
use super::resolve::{ResolveError, VettedResolver};
use super::yielding_connection::YieldingConnection;

/// Maximum total size of a response's header names and values in bytes, as the guest sees them, and their maximum
/// number.
pub(super) const MAX_RESPONSE_HEADERS: (u32, usize) = (64 << 10, 256);

/// Maximum size of the header list of an HTTP/2 response before redaction, in bytes as counted by RFC 9113 §6.5.2.
/// Larger than [`MAX_RESPONSE_HEADERS`], which limits the headers that the guest sees, because a secret that is longer
/// than its placeholder must not make the difference. HTTP/1 has hyper's limit of about 400 KiB.
const MAX_RAW_HEADERS: u32 = 4 * MAX_RESPONSE_HEADERS.0;

/// Maximum number of unread bytes buffered for one HTTP/2 response; four times as many for all responses of a
/// connection.
const RECEIVE_WINDOW: u32 = 256 << 10;

/// Time after which an idle connection is closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Body of a request that is being sent.
pub(super) type OutboundBody = UnsyncBoxBody<Bytes, HttpError>;

/// Resolves, connects and does the TLS handshake within a single timeout.
type Connector = BoxCloneSyncService<Uri, YieldingConnection<MaybeHttpsStream<TokioIo<TcpStream>>>, BoxError>;

/// HTTP client for one origin. Each origin has its own client because the addresses that may be dialled depend on the
/// port, which the resolver inside a client does not know. Dropping it closes its connections.
pub(super) struct OriginPool {
    pub(super) client: Client<Connector, OutboundBody>,
    /// Limits the concurrent exchanges of this run with this origin.
    pub(super) exchange_permits: Arc<Semaphore>,
}

impl OriginPool {
    pub(super) fn new(url: &Url, gate: &GateState, tls: Arc<ClientConfig>) -> Result<Self, HttpError> {
        let port = port(url)?;
        let resolver = VettedResolver { resolver: gate.resolver.clone(), filter: gate.filter.clone(), port };
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // The time is divided among the addresses of a name, so one silent address does not use it all up.
        tcp.set_connect_timeout(Some(gate.timeouts.connect));
        let connector = Timeout::new(HttpsConnector::from((tcp, tls)), gate.timeouts.connect);
        let connector = Connector::new(connector.map_response(YieldingConnection::new));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(gate.max_exchanges_per_origin)
            .http1_max_headers(MAX_RESPONSE_HEADERS.1)
            // Be as lenient as browsers: accept folded lines (RFC 9112 §5.2), a space before the colon, and invalid
            // lines among the headers.
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http2_max_header_list_size(MAX_RAW_HEADERS)
            .http2_initial_stream_window_size(RECEIVE_WINDOW)
            .http2_initial_connection_window_size(RECEIVE_WINDOW * 4)
            .build(connector);
        Ok(Self { client, exchange_permits: Arc::new(Semaphore::new(gate.max_exchanges_per_origin)) })
    }
}

/// Rejects a URL whose host is an IP address that may not be dialled. Names are vetted when they are resolved, but an
/// IP address is never resolved.
pub(super) fn check_ip_literal(url: &Url, gate: &GateState) -> Result<(), HttpError> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if gate.filter.permits(SocketAddr::new(address, port(url)?)) {
        return Ok(());
    }
    Err(HttpError::AddressProhibited(ResolveError::Prohibited { host: address.to_string() }.to_string()))
}

fn port(url: &Url) -> Result<u16, HttpError> {
    url.port_or_known_default().ok_or_else(|| HttpError::Invalid("url: the port is missing".to_owned()))
}
