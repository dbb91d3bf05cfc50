//! Listeners of the public API and the admin API.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::config::Settings;
use super::first_instance::connectable;
use crate::data_dir::ServerAddresses;
use crate::error::{Error, Result, io as io_error};

/// Bound listeners that are not yet served.
pub struct Listeners {
    /// Listener of the public API.
    pub public: TcpListener,
    /// Listener of the admin API.
    pub admin: TcpListener,
    public_address: SocketAddr,
    admin_address: SocketAddr,
}

impl Listeners {
    /// Binds both ports.
    pub async fn bind(settings: &Settings) -> Result<Self> {
        let (public, public_address) = bind("listen", &settings.listen).await?;
        let (admin, admin_address) = bind("admin-listen", &settings.admin_listen).await?;
        if !public_address.ip().is_loopback() {
            tracing::warn!(
                address = %public_address,
                "other machines can reach this address, and plain HTTP exposes every token; put an HTTPS proxy in front of it"
            );
        }
        if !admin_address.ip().is_loopback() {
            tracing::warn!(
                address = %admin_address,
                "other machines can reach the admin API, and plain HTTP exposes the passphrase; listen on 127.0.0.1"
            );
        }
        Ok(Self { public, admin, public_address, admin_address })
    }

    /// Returns the public address, with the actual port even if any free port was requested.
    pub const fn public_address(&self) -> SocketAddr {
        self.public_address
    }

    /// Returns the addresses for clients on this machine.
    pub fn addresses(&self) -> ServerAddresses {
        ServerAddresses {
            public_url: format!("http://{}", connectable(self.public_address)),
            admin_url: format!("http://{}", connectable(self.admin_address)),
            pid: std::process::id(),
        }
    }
}

async fn bind(flag: &str, address: &str) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.map_err(|error| bind_error(flag, address, &error))?;
    let bound = listener.local_addr().map_err(io_error("listening"))?;
    Ok((listener, bound))
}

/// Returns the error for an address that cannot be listened on. A wrong address is a usage error.
pub fn bind_error(flag: &str, address: &str, error: &io::Error) -> Error {
    let message = format!("--{flag}: cannot listen on {address}: {error}");
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "another program uses this port, perhaps another konnector; stop it, or use --{flag} with another port (0: any)"
            )
        }
        io::ErrorKind::PermissionDenied => format!("ports below 1024 are reserved; use --{flag} with a higher one"),
        io::ErrorKind::AddrNotAvailable => {
            return Error::usage(
                message,
                format!("this machine does not have this address; use --{flag} with one that it has"),
            );
        }
        _ => return Error::usage(message, format!("write host and port, as in --{flag} 127.0.0.1:8080")),
    };
    Error::failed(message, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_explained() {
        let (_held, address) = bind("listen", "127.0.0.1:0").await.unwrap();
        let Err(Error::Failed { message, advice }) = bind("listen", &address.to_string()).await else {
            panic!("two listeners on {address}");
        };
        assert!(message.starts_with(&format!("--listen: cannot listen on {address}")), "{message}");
        assert!(advice.contains("--listen with another port"), "{advice}");
    }

    #[tokio::test]
    async fn a_wrong_address_is_a_usage_error() {
        for address in ["8080", "127.0.0.1", "127.0.0.1:99999", "192.0.2.1:0"] {
            let result = bind("listen", address).await;
            assert!(matches!(result, Err(Error::Usage { .. })), "{address}: {:?}", result.err());
        }
    }
}
