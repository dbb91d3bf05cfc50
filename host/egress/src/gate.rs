//! State shared by all runs of a process.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;

use super::address::{AddressFilter, AddressRule};
use super::echo_budget::EchoBudgets;
use super::error::{HttpError, SetupError};
use super::resolve::{Resolver, SystemResolver, resolve_vetted};
use super::session::{Session, SessionOptions};

/// TLS sessions that a run stores for resumption.
const MAX_TLS_SESSIONS: usize = 32;

/// Timeouts for the phases of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Resolving, connecting and the TLS handshake.
    pub connect: Duration,
    /// From the start of a request to the end of the response headers, including connecting.
    pub headers: Duration,
    /// For the next thousand bytes of a body, and therefore between any two parts of it.
    pub idle: Duration,
    /// The whole exchange, if the request sets no timeout.
    pub total: Duration,
    /// Maximum timeout that a request may set for [`Session::send`]; the minimum is one second.
    pub max_total: Duration,
    /// The whole exchange for [`Session::open`], as default and maximum, because a large file takes long.
    pub stream: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(60),
            max_total: Duration::from_secs(120),
            stream: Duration::from_secs(15 * 60),
        }
    }
}

/// Settings of the operator.
#[derive(Clone)]
pub struct GateOptions {
    /// Non-public addresses that may still be contacted. Empty by default.
    pub allowed_private: Vec<AddressRule>,
    /// Certificates to trust in addition to the Mozilla list, each X.509 in DER form.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Timeouts for the phases of each exchange.
    pub timeouts: Timeouts,
    /// `User-Agent` of requests that set none.
    pub user_agent: String,
    /// Maximum number of concurrent exchanges in the whole process.
    pub max_exchanges: usize,
    /// Maximum number of concurrent exchanges of one run.
    pub max_exchanges_per_run: usize,
    /// Maximum number of concurrent exchanges of one run with one origin.
    pub max_exchanges_per_origin: usize,
    /// Resolves names to addresses.
    pub resolver: Arc<dyn Resolver>,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            allowed_private: Vec::new(),
            extra_roots: Vec::new(),
            timeouts: Timeouts::default(),
            user_agent: concat!("konnector/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_exchanges: 256,
            max_exchanges_per_run: 16,
            max_exchanges_per_origin: 6,
            resolver: Arc::new(SystemResolver),
        }
    }
}

/// The HTTP gate to the network; one per process. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<GateState>,
}

pub(super) struct GateState {
    pub(super) filter: Arc<AddressFilter>,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) timeouts: Timeouts,
    pub(super) user_agent: HeaderValue,
    pub(super) exchange_permits: Arc<Semaphore>,
    pub(super) max_exchanges_per_run: usize,
    pub(super) max_exchanges_per_origin: usize,
    pub(super) echo_budgets: EchoBudgets,
    tls: Arc<ClientConfig>,
}

impl Gate {
    /// Reads the certificates and prepares TLS, without any network access.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be read.
    pub fn new(options: GateOptions) -> Result<Self, SetupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(root_store(options.extra_roots)?)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tls.resumption = Resumption::disabled();
        let user_agent =
            HeaderValue::from_str(&options.user_agent).map_err(|_| SetupError::UserAgent(options.user_agent))?;
        let shared = GateState {
            filter: Arc::new(AddressFilter::new(options.allowed_private)),
            resolver: options.resolver,
            timeouts: options.timeouts,
            user_agent,
            exchange_permits: Arc::new(Semaphore::new(options.max_exchanges.clamp(1, Semaphore::MAX_PERMITS))),
            max_exchanges_per_run: options.max_exchanges_per_run.clamp(1, Semaphore::MAX_PERMITS),
            max_exchanges_per_origin: options.max_exchanges_per_origin.clamp(1, Semaphore::MAX_PERMITS),
            echo_budgets: EchoBudgets::default(),
            tls: tls.into(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Resolves a host to the addresses that may be contacted, for protocols that the gate does not speak. Dial only
    /// these.
    ///
    /// # Errors
    ///
    /// [`HttpError::AddressProhibited`] if the host has only other addresses, [`HttpError::Unreachable`] if the name is
    /// unknown.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, HttpError> {
        let GateState { resolver, filter, .. } = &*self.shared;
        resolve_vetted(resolver.as_ref(), filter, host.trim_matches(['[', ']']), port).await.map_err(HttpError::from)
    }

    /// Creates the session of one run.
    pub fn session(&self, options: SessionOptions) -> Session {
        Session::new(self.shared.clone(), options)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("filter", &self.shared.filter)
            .field("timeouts", &self.shared.timeouts)
            .finish_non_exhaustive()
    }
}

impl GateState {
    /// Returns the TLS configuration for one run. It shares the trusted certificates, but not the tickets by which a
    /// server could recognise a client.
    pub(super) fn run_tls_config(&self) -> ClientConfig {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.resumption = Resumption::in_memory_sessions(MAX_TLS_SESSIONS);
        tls
    }

    /// Returns the TLS configuration without session resumption.
    pub(super) const fn tls_config(&self) -> &Arc<ClientConfig> {
        &self.tls
    }
}

fn root_store(extra: Vec<CertificateDer<'static>>) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for (position, certificate) in (1..).zip(extra) {
        roots.add(certificate).map_err(|error| SetupError::RootCertificate { position, reason: error.to_string() })?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_certificate_that_is_none_is_named() {
        let options =
            GateOptions { extra_roots: vec![CertificateDer::from(b"-----BEGIN".to_vec())], ..GateOptions::default() };
        insta::assert_snapshot!(Gate::new(options).unwrap_err(), @"additional root certificate 1 is not valid (invalid peer certificate: BadEncoding): expected one X.509 certificate in DER form");
    }
}
