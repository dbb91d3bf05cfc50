//! One origin, as one run contacts it.

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

/// Largest sum of an answer's header names and values in bytes, as the guest sees them, and their largest number.
pub(super) const MAX_RESPONSE_HEADERS: (u32, usize) = (64 << 10, 256);

/// Largest list of headers of an HTTP/2 answer as it comes, in bytes of RFC 9113 §6.5.2. Larger than [`MAX_REQUEST_HEADERS`], which holds for what the
/// guest sees: a secret that is longer than its placeholder must not make the difference. HTTP/1 has hyper's limit, some 400 KiB.
const MAX_RAW_HEADERS: u32 = 4 * MAX_RESPONSE_HEADERS.0;

/// Bytes of one HTTP/2 answer that may lie here unread, four times as many for all answers of a connection.
const RECEIVE_WINDOW: u32 = 256 << 10;

/// How long an unused connection is kept.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The body of a request, on its way.
pub(super) type OutboundBody = UnsyncBoxBody<Bytes, HttpError>;

/// Resolving, connecting and the TLS handshake, all within one time.
type Connector = BoxCloneSyncService<Uri, YieldingConnection<MaybeHttpsStream<TokioIo<TcpStream>>>, BoxError>;

/// One origin. One client serves one origin, because the addresses that may be dialled depend on the port, and the resolver inside of a
/// client is not told the port. Dropping it closes its connections.
pub(super) struct OriginPool {
    pub(super) client: Client<Connector, OutboundBody>,
    /// Exchanges of this run with this origin.
    pub(super) exchange_permits: Arc<Semaphore>,
}

impl OriginPool {
    pub(super) fn new(url: &Url, gate: &GateState, tls: Arc<ClientConfig>) -> Result<Self, HttpError> {
        let port = port(url)?;
        let resolver = VettedResolver { resolver: gate.resolver.clone(), filter: gate.filter.clone(), port };
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the addresses of a name, so that one of them which is silent does not use up the time of all.
        tcp.set_connect_timeout(Some(gate.timeouts.connect));
        let connector = Timeout::new(HttpsConnector::from((tcp, tls)), gate.timeouts.connect);
        let connector = Connector::new(connector.map_response(YieldingConnection::new));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(gate.max_exchanges_per_origin)
            .http1_max_headers(MAX_RESPONSE_HEADERS.1)
            // What browsers read, too: folded lines (RFC 9112 §5.2), a space before the colon, and lines that are no header beside those that are.
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

/// Refuses a URL whose host is an address that may not be dialled. Names are vetted when they are resolved; an address never is resolved.
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
    url.port_or_known_default().ok_or_else(|| HttpError::Invalid("url: names no port".to_owned()))
}
