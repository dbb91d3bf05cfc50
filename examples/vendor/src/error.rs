//! Errors of the vendor itself (for simulated errors, see [`crate::Switches`]).

use std::net::SocketAddr;

/// An error of the vendor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The vendor cannot listen on the address.
    #[error("cannot listen on {address}: {source}; choose another address (port 0 takes any free port)")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A patch of the switches is invalid.
    #[error("cannot change the switches: {0}")]
    Switches(#[source] serde_json::Error),
    /// The server stopped by itself.
    #[error("the vendor stopped serving: {0}")]
    Serve(#[source] std::io::Error),
}
