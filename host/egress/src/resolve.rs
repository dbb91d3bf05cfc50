//! Resolves names once per connection and dials only addresses that passed the filter. A name server cannot change its
//! reply between check and use (DNS rebinding).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use async_trait::async_trait;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use super::address::AddressFilter;
use super::error::HttpError;

/// Resolves names to addresses.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// Returns all addresses of a name, in the order in which to try them.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Why a name has no address that may be dialled.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error(
        "{host} does not resolve to a public address, and private addresses are blocked; the operator can allow \
         individual ones with --allow-address"
    )]
    Prohibited { host: String },
    #[error("the name {host} cannot be resolved: {reason}")]
    Unknown { host: String, reason: String },
}

impl From<ResolveError> for HttpError {
    fn from(reason: ResolveError) -> Self {
        match reason {
            ResolveError::Prohibited { .. } => Self::AddressProhibited(reason.to_string()),
            ResolveError::Unknown { .. } => Self::Unreachable(reason.to_string()),
        }
    }
}

/// Resolver for connections to one port. The HTTP client resolves a name without passing the port, so each origin has
/// its own client.
#[derive(Clone)]
pub(super) struct VettedResolver {
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) filter: Arc<AddressFilter>,
    pub(super) port: u16,
}

impl Service<Name> for VettedResolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { resolver, filter, port } = self.clone();
        Box::pin(async move {
            let addresses = resolve_vetted(resolver.as_ref(), &filter, name.as_str(), port).await?;
            Ok(addresses.into_iter())
        })
    }
}

pub(super) async fn resolve_vetted(
    resolver: &dyn Resolver,
    filter: &AddressFilter,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let unknown = |reason: String| ResolveError::Unknown { host: host.to_owned(), reason };
    let all = resolver.resolve(host).await.map_err(|error| unknown(error.to_string()))?;
    if all.is_empty() {
        return Err(unknown("it has no address".to_owned()));
    }
    let (permitted, refused): (Vec<_>, Vec<_>) =
        all.into_iter().map(|address| SocketAddr::new(address, port)).partition(|address| filter.permits(*address));
    if !refused.is_empty() && crate::log_limit::may_log() {
        // Log it for the operator only, because a guest must not learn the addresses of the network in which it runs.
        tracing::warn!(host, port, ?refused, "a name resolved to addresses that are not public");
    }
    if permitted.is_empty() { Err(ResolveError::Prohibited { host: host.to_owned() }) } else { Ok(permitted) }
}
