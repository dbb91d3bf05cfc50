//! What can fail in the vendor itself (not what it plays: those are [`crate::Switches`]).

use std::net::SocketAddr;

/// An error of the vendor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address (port 0 takes any free port)")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A change of the switches does not fit them.
    #[error("cannot change the switches: {0}")]
    Switches(#[source] serde_json::Error),
    /// The server stopped by itself.
    #[error("the vendor stopped serving: {0}")]
    Serve(#[source] std::io::Error),
}
