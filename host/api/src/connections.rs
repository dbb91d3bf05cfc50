//! Limits on the number of connections, in total and per address. At a limit, a new connection evicts the one that has
//! been idle for the longest time, so that unused connections do not block new ones.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// Maximum numbers of connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Maximum number of connections in total.
    pub total: usize,
    /// Maximum number of connections from one address; for IPv6, from one /64, the prefix of one household.
    pub per_address: usize,
}

impl ConnectionLimits {
    /// Maximum of a public listener, which a machine with the usual limits handles easily.
    const MAX_TOTAL: usize = 4_096;

    /// Limits to `total` connections, and three quarters of them from one address. A proxy has one address for all
    /// clients, but no single client can lock all others out.
    #[must_use]
    pub const fn new(total: usize) -> Self {
        let total = if total < Self::MAX_TOTAL { total } else { Self::MAX_TOTAL };
        Self { total, per_address: total.div_ceil(4) * 3 }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self::new(Self::MAX_TOTAL)
    }
}

/// The connections of a listener.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    state: Mutex<ConnectionTable>,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    /// Logical clock, which orders all events.
    sequence: u64,
    open: HashMap<u64, OpenConnection>,
    /// Idle connections, by the sequence number at which they became idle.
    idle: BTreeMap<u64, u64>,
    addresses: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct OpenConnection {
    address: IpAddr,
    /// Sequence number at which the connection became idle; `None` while it is in use.
    idle: Option<u64>,
    /// Number of requests and responses in progress.
    uses: usize,
    evicted: CancellationToken,
}

impl ConnectionTable {
    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn remove(&mut self, id: u64) -> Option<OpenConnection> {
        let open = self.open.remove(&id)?;
        if let Some(since) = open.idle {
            self.idle.remove(&since);
        }
        if let Some(count) = self.addresses.get_mut(&open.address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&open.address);
            }
        }
        Some(open)
    }

    /// Closes the connection that has been idle the longest, of one address or in total; returns whether one was idle.
    fn evict(&mut self, address: Option<IpAddr>) -> bool {
        let has_address =
            |id: &u64| address.is_none_or(|address| self.open.get(id).is_some_and(|open| open.address == address));
        let oldest = self.idle.values().copied().find(has_address);
        let Some(open) = oldest.and_then(|id| self.remove(id)) else { return false };
        open.evicted.cancel();
        true
    }
}

impl Connections {
    /// Creates an empty table.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        self.state.lock()
    }

    /// Registers a new connection, which is idle at first. Returns `None` if a limit is reached and no other connection
    /// is idle.
    #[must_use]
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Connection> {
        let address = client_prefix(address);
        let mut state = self.lock();
        let count = state.addresses.get(&address).copied().unwrap_or_default();
        if count >= self.limits.per_address && !state.evict(Some(address)) {
            return None;
        }
        if state.open.len() >= self.limits.total && !state.evict(None) {
            return None;
        }
        let (id, since) = (state.next_sequence(), state.next_sequence());
        let evicted = CancellationToken::new();
        *state.addresses.entry(address).or_default() += 1;
        state.idle.insert(since, id);
        state.open.insert(id, OpenConnection { address, idle: Some(since), uses: 0, evicted: evicted.clone() });
        Some(Connection { connections: Arc::clone(self), id, evicted })
    }

    /// Closes some idle connections, because the system has run out of resources.
    pub fn evict_idle(&self, count: usize) {
        let mut state = self.lock();
        for _ in 0..count {
            if !state.evict(None) {
                return;
            }
        }
    }
}

/// Returns an IPv4 address unchanged, and the /64 of an IPv6 address.
pub fn client_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub struct Connection {
    connections: Arc<Connections>,
    id: u64,
    evicted: CancellationToken,
}

impl Connection {
    /// Marks the connection as used, until the returned value is dropped.
    #[must_use]
    pub fn begin_use(self: &Arc<Self>) -> ConnectionUse {
        let mut state = self.connections.lock();
        let ConnectionTable { open, idle, .. } = &mut *state;
        if let Some(open) = open.get_mut(&self.id) {
            open.uses += 1;
            if let Some(since) = open.idle.take() {
                idle.remove(&since);
            }
        }
        drop(state);
        ConnectionUse(Arc::clone(self))
    }

    /// Resolves when the connection must be closed in favour of another.
    pub async fn wait_until_evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
    }
}

/// A request, a response or a websocket on a connection; ends on drop.
#[derive(Debug)]
pub struct ConnectionUse(Arc<Connection>);

impl Drop for ConnectionUse {
    fn drop(&mut self) {
        let mut state = self.0.connections.lock();
        let now = state.next_sequence();
        let ConnectionTable { open, idle, .. } = &mut *state;
        if let Some(open) = open.get_mut(&self.0.id) {
            open.uses -= 1;
            if open.uses == 0 {
                open.idle = Some(now);
                idle.insert(now, self.0.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn evicted(connection: &Connection) -> bool {
        connection.evicted.is_cancelled()
    }

    #[test]
    fn a_new_connection_takes_the_place_of_the_one_that_is_idle_longest() {
        let connections = Connections::new(ConnectionLimits { total: 3, per_address: 2 });
        let first = Arc::new(connections.admit(ip(1)).expect("room"));
        let second = connections.admit(ip(1)).expect("room");
        let third = connections.admit(ip(2)).expect("room");
        // The first one was used most recently.
        drop(first.begin_use());
        let fourth = connections.admit(ip(1)).expect("the second gives way");
        assert_eq!([&*first, &second, &third, &fourth].map(evicted), [false, true, false, false]);
        let _fifth = connections.admit(ip(3)).expect("the third gives way");
        assert!(evicted(&third) && !evicted(&first) && !evicted(&fourth));
        // An evicted connection is not counted twice.
        drop((second, third));
        assert_eq!(connections.lock().open.len(), 3);
    }

    #[test]
    fn connections_in_use_are_not_evicted() {
        let connections = Connections::new(ConnectionLimits { total: 2, per_address: 2 });
        let busy = Arc::new(connections.admit(ip(1)).expect("room"));
        let (request, response) = (busy.begin_use(), busy.begin_use());
        let other = Arc::new(connections.admit(ip(2)).expect("room"));
        let used = other.begin_use();
        assert!(connections.admit(ip(3)).is_none());
        drop(request);
        assert!(connections.admit(ip(3)).is_none(), "the answer is still on its way");
        drop(response);
        assert!(connections.admit(ip(3)).is_some());
        assert!(evicted(&busy) && !evicted(&other));
        drop(used);
    }

    #[test]
    fn an_ipv6_prefix_counts_as_one_address() {
        let same = |one: &str, other: &str| {
            client_prefix(one.parse().expect("an address")) == client_prefix(other.parse().expect("an address"))
        };
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
    }

    proptest! {
        /// The limits hold for any sequence of events, and no entry remains.
        #[test]
        fn limits_hold_and_nothing_leaks(steps in proptest::collection::vec((0_u8..4, 0_u8..4), 1..200)) {
            let limits = ConnectionLimits { total: 5, per_address: 3 };
            let connections = Connections::new(limits);
            let (mut open, mut uses) = (Vec::new(), Vec::new());
            for (step, number) in steps {
                let index = usize::from(number);
                match step {
                    0 | 1 => open.extend(connections.admit(ip(number)).map(Arc::new)),
                    2 if index < open.len() => {
                        let connection: &Arc<Connection> = &open[index];
                        uses.push(connection.begin_use());
                    }
                    3 if index < uses.len() => drop(uses.swap_remove(index)),
                    _ if index < open.len() => drop(open.swap_remove(index)),
                    _ => {}
                }
                let state = connections.lock();
                prop_assert!(state.open.len() <= limits.total);
                prop_assert!(state.addresses.values().all(|count| *count <= limits.per_address));
                prop_assert_eq!(state.addresses.values().sum::<usize>(), state.open.len());
                prop_assert_eq!(state.idle.len(), state.open.values().filter(|open| open.uses == 0).count());
            }
            drop((open, uses));
            let state = connections.lock();
            prop_assert!(state.open.is_empty() && state.idle.is_empty() && state.addresses.is_empty());
        }
    }
}
