//! Creates the first instance of a new server, so that it can be used at once.

use std::net::SocketAddr;

use konnector_platform::Platform;
use konnector_platform::instance::InstancePatch;

use super::config::Settings;
use crate::error::Result;

/// Creates the first instance if there is none; returns the domain of an instance for which a token can be issued.
pub async fn ensure(platform: &Platform, settings: &Settings, address: SocketAddr) -> Result<String> {
    let public_domain = settings.domain.clone().unwrap_or_else(|| connectable(address).to_string());
    let instances = platform.instances().list()?;
    if let Some(first) = instances.first() {
        if platform.instances().get(&public_domain).is_err() {
            tracing::warn!(
                address = public_domain,
                instance = first.domain,
                "no instance has this address as its domain; requests must name the domain of an instance in their Host header"
            );
            return Ok(first.domain.clone());
        }
        return Ok(public_domain);
    }
    let local = settings.domain.is_none() && address.ip().is_loopback();
    let aliases = local.then(|| vec![format!("localhost:{}", address.port())]);
    let instance =
        platform.instances().create(&public_domain, &InstancePatch { aliases, ..InstancePatch::default() }).await?;
    tracing::info!(domain = instance.domain, "created the first instance");
    Ok(instance.domain)
}

/// Returns an address that a client on this machine can connect to.
pub fn connectable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), address.port())
}
