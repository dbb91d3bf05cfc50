//! What a vendor starts with.

use std::net::{Ipv4Addr, SocketAddr};

use crate::switches::Switches;

/// The login name of a vendor that was given none.
pub const DEFAULT_LOGIN: &str = "ada";
/// The password of a vendor that was given none.
pub const DEFAULT_PASSWORD: &str = "correct horse";
/// How many bills a vendor starts with unless told otherwise: three pages on one contract, one on the other.
pub const DEFAULT_BILLS: usize = 20;

/// What a vendor starts with, and returns to at a reset.
#[derive(Debug, Clone)]
pub struct VendorOptions {
    /// Where to listen. The default, port 0 on loopback, takes any free port.
    pub listen: SocketAddr,
    /// The login name.
    pub login: String,
    /// How many bills there are.
    pub bills: usize,
    /// The switches, the password among them.
    pub switches: Switches,
}

impl Default for VendorOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            login: DEFAULT_LOGIN.to_owned(),
            bills: DEFAULT_BILLS,
            switches: Switches::new(DEFAULT_PASSWORD),
        }
    }
}
