//! Initial settings of a vendor.

use std::net::{Ipv4Addr, SocketAddr};

use crate::switches::Switches;

/// The default login name of a vendor.
pub const DEFAULT_LOGIN: &str = "ada";
/// The default password of a vendor.
pub const DEFAULT_PASSWORD: &str = "correct horse";
/// The default number of initial bills: three pages on one contract, one on the other.
pub const DEFAULT_BILLS: usize = 20;

/// The initial settings of a vendor, which a reset restores.
#[derive(Debug, Clone)]
pub struct VendorOptions {
    /// The address to listen on. The default, port 0 on loopback, takes any free port.
    pub listen: SocketAddr,
    /// The login name.
    pub login: String,
    /// The number of bills.
    pub bills: usize,
    /// The switches, including the password.
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
