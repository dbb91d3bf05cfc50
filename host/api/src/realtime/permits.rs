//! Limits on the number of websockets: by address until the client has authenticated, then by instance.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::LazyLock;

use konnector_store::InstanceId;

use crate::server::ClientAddress;

/// Maximum number of websockets of one address that have not sent a token; well-behaved clients send it at once.
const MAX_PENDING_PER_ADDRESS: usize = 256;
/// Like [`MAX_PENDING_PER_ADDRESS`], for all addresses together.
const MAX_PENDING: usize = 1_024;
/// Maximum number of websockets of one instance; limited, because each may have queued events on the bus.
const MAX_PER_INSTANCE: usize = 256;

static PENDING: LazyLock<SocketPermits<ClientAddress>> =
    LazyLock::new(|| SocketPermits::new(MAX_PENDING_PER_ADDRESS, MAX_PENDING));
static OPEN: LazyLock<SocketPermits<InstanceId>> = LazyLock::new(|| SocketPermits::new(MAX_PER_INSTANCE, usize::MAX));

/// Acquires a permit for a websocket whose client has not authenticated yet.
pub fn acquire_pending(address: ClientAddress) -> Option<SocketPermit<ClientAddress>> {
    PENDING.acquire(address)
}

/// Acquires a permit for a websocket of an instance.
pub fn acquire_open(instance: InstanceId) -> Option<SocketPermit<InstanceId>> {
    OPEN.acquire(instance)
}

struct SocketPermits<K: Eq + Hash + 'static> {
    max_per_key: usize,
    max: usize,
    used: Mutex<HashMap<K, usize>>,
}

impl<K: Eq + Hash + Clone> SocketPermits<K> {
    fn new(max_per_key: usize, max: usize) -> Self {
        Self { max_per_key, max, used: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.used.lock()
    }

    fn acquire(&'static self, key: K) -> Option<SocketPermit<K>> {
        let mut used = self.lock();
        let count = used.get(&key).copied().unwrap_or_default();
        if count >= self.max_per_key || used.values().sum::<usize>() >= self.max {
            return None;
        }
        used.insert(key.clone(), count + 1);
        drop(used);
        Some(SocketPermit { permits: self, key })
    }
}

/// Permit for a websocket; released on drop.
pub struct SocketPermit<K: Eq + Hash + Clone + 'static> {
    permits: &'static SocketPermits<K>,
    key: K,
}

impl<K: Eq + Hash + Clone> Drop for SocketPermit<K> {
    fn drop(&mut self) {
        let mut used = self.permits.lock();
        if let Some(count) = used.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_bounds_and_come_back() {
        static SMALL: LazyLock<SocketPermits<u8>> = LazyLock::new(|| SocketPermits::new(2, 3));
        let permits = [1, 1, 1, 2, 2].map(|key| SMALL.acquire(key));
        assert_eq!(permits.each_ref().map(Option::is_some), [true, true, false, true, false]);
        drop(permits);
        assert!(SMALL.lock().is_empty());
    }
}
