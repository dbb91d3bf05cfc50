//! Decides which addresses may be dialled: public ones, and those that the operator allows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::error::SetupError;

/// IPv4 blocks that are not globally reachable (IANA IPv4 Special-Purpose Address Registry, RFC 6890), and two blocks
/// that are reachable but lead into the platform that the server runs on.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(168, 63, 129, 16, 32), // Azure's host agent
    v4(169, 254, 0, 0, 16),   // link-local, among them the metadata services
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24), // 6to4 relays, deprecated by RFC 7526
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// Global unicast, the only part of IPv6 that IANA allocates. Loopback, link-local, unique local and multicast
/// addresses lie outside.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Blocks inside global unicast that are not globally reachable, or whose traffic does not end at the address itself.
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // IETF protocol assignments, among them Teredo, ORCHID and benchmarking
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation, RFC 9637
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), // AS112
];

/// Translation between IPv6 and IPv4, RFC 6052. The last 32 bits are the IPv4 address that is actually contacted.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// 6to4, RFC 3056. Bits 16 to 47 are an IPv4 address.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// Returns whether an address belongs to the public internet. IPv6 forms that stand for an IPv4 address count as that
/// address.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|block| block.contains(&address)),
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., high, low] = address.segments();
            is_public(IpAddr::V4(join(high, low)))
        }
        IpAddr::V6(address) => {
            let [_, a, b, _, interface @ .., high, low] = address.segments();
            let hides_private = (SIX_TO_FOUR.contains(&address) && !is_public(IpAddr::V4(join(a, b))))
                // ISATAP, RFC 5214 §6.1
                || (matches!(interface, [0 | 0x200, 0x5efe]) && !is_public(IpAddr::V4(join(high, low))));
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|block| block.contains(&address)) && !hides_private
        }
    }
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// An entry of the operator's allowlist: non-public addresses that may still be contacted, for a vendor in the
/// operator's network.
///
/// Written as an address or a network, with a port to restrict it to that port: `192.168.1.5`, `192.168.0.0/16`,
/// `127.0.0.1:8081`, `10.0.0.0/8:443`, `fd00::/8`, `[fd00::/8]:443`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRule {
    network: IpNet,
    port: Option<u16>,
}

impl AddressRule {
    fn allows(&self, address: SocketAddr) -> bool {
        self.network.contains(&address.ip().to_canonical()) && self.port.is_none_or(|port| port == address.port())
    }
}

impl FromStr for AddressRule {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Self, SetupError> {
        let network = |text: &str| {
            let address = text.parse().ok().map(|address: IpAddr| IpNet::from(address.to_canonical()));
            address.or_else(|| text.parse().ok().map(|network: IpNet| network.trunc()))
        };
        let with_port = || {
            let (left, port) = text.rsplit_once(':')?;
            let left = match left.strip_prefix('[') {
                Some(left) => left.strip_suffix(']')?,
                // Without brackets the last colon may be part of an IPv6 address.
                None if left.contains(':') => return None,
                None => left,
            };
            Some(Self { network: network(left)?, port: Some(port.parse().ok()?) })
        };
        network(text)
            .map(|network| Self { network, port: None })
            .or_else(with_port)
            .ok_or_else(|| SetupError::AddressRule { entry: text.to_owned() })
    }
}

impl TryFrom<String> for AddressRule {
    type Error = SetupError;

    fn try_from(text: String) -> Result<Self, SetupError> {
        text.parse()
    }
}

impl From<AddressRule> for String {
    fn from(rule: AddressRule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.network.prefix_len() == self.network.max_prefix_len() {
            self.network.addr().to_string()
        } else {
            self.network.to_string()
        };
        match (self.port, self.network) {
            (None, _) => f.write_str(&host),
            (Some(port), IpNet::V4(_)) => write!(f, "{host}:{port}"),
            (Some(port), IpNet::V6(_)) => write!(f, "[{host}]:{port}"),
        }
    }
}

/// Allows or rejects a single address.
#[derive(Debug, Clone, Default)]
pub(super) struct AddressFilter {
    allowed: Vec<AddressRule>,
}

impl AddressFilter {
    pub(super) fn new(allowed: Vec<AddressRule>) -> Self {
        Self { allowed }
    }

    /// Returns whether this address may be dialled on this port.
    pub(super) fn permits(&self, address: SocketAddr) -> bool {
        is_public(address.ip()) || self.allowed.iter().any(|rule| rule.allows(address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn public(address: &str) -> bool {
        is_public(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for address in [
            "1.1.1.1",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4007::5",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(public(address), "{address}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:c0a8:101::1",
            "2002:a9fe:a9fe::",
            "2a00:1450::200:5efe:10.0.0.1",
            "3fff::1",
            "4000::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!public(address), "{address}");
        }
    }

    #[test]
    fn a_rule_may_name_an_address_a_network_and_a_port() {
        let permits = |rule: &str, address: &str| {
            AddressFilter::new(vec![rule.parse().unwrap()]).permits(address.parse().unwrap())
        };
        assert!(permits("127.0.0.1", "127.0.0.1:1"));
        assert!(permits("127.0.0.1", "[::ffff:127.0.0.1]:1"));
        assert!(!permits("127.0.0.1", "127.0.0.2:1"));
        assert!(permits("127.0.0.1:8081", "127.0.0.1:8081"));
        assert!(!permits("127.0.0.1:8081", "127.0.0.1:8082"));
        assert!(permits("192.168.0.0/16", "192.168.3.4:80"));
        // A private address next to the network; 192.169.0.0 is public.
        assert!(!permits("172.16.0.0/13", "172.24.0.1:80"));
        assert!(!permits("192.168.0.0/16", "10.0.0.1:80"));
        assert!(!permits("192.168.0.0/16:443", "192.168.3.4:80"));
        assert!(permits("[fd00::/8]:443", "[fd12::1]:443"));
        assert!(!permits("[fd00::/8]:443", "[fd12::1]:80"));
        assert!(permits("::1", "[::1]:80"));
        assert!(!permits("::1", "127.0.0.1:80"));
    }

    #[test]
    fn an_invalid_rule_is_rejected_with_examples() {
        for text in [
            "",
            "localhost",
            "127.0.0.1:",
            "127.0.0.1:99999",
            "10.0.0.0/33",
            "fd00::/8:443:",
            "[fd00::/8:443",
            "10.0.0.0/8/8",
        ] {
            assert!(text.parse::<AddressRule>().is_err(), "{text}");
        }
        insta::assert_snapshot!("nas.local".parse::<AddressRule>().unwrap_err(), @"`nas.local` is not a valid address rule: expected an IP address or a network, optionally with a port: 192.168.1.5, 192.168.0.0/16, 127.0.0.1:8081, [fd00::/8]:443");
    }

    proptest! {
        #[test]
        fn a_rule_survives_being_written(bits: u128, four: bool, prefix in 0u8..=32, port: Option<u16>) {
            let address = if four { IpAddr::V4(Ipv4Addr::from_bits(bits as u32)) } else { IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical() };
            let rule = AddressRule { network: IpNet::new(address, prefix).unwrap().trunc(), port };
            prop_assert_eq!(rule.to_string().parse::<AddressRule>().unwrap(), rule);
        }

        #[test]
        fn a_mapped_address_counts_as_the_address_itself(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(is_public(address.into()), is_public(address.to_ipv6_mapped().into()));
        }
    }
}
