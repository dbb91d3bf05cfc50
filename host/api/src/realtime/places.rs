//! How many websockets there may be: those whose clients are not known yet by address, all others by instance.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use konnector_store::InstanceId;

use crate::server::ClientAddress;

/// Websockets that have not sent a token: of one address, and in all. They are few moments old where clients mean well.
const MAX_PENDING_PER_ADDRESS: usize = 256;
const MAX_PENDING: usize = 1_024;
/// Websockets of one instance. Each may have events waiting, see the bus.
const MAX_PER_INSTANCE: usize = 256;

static PENDING: LazyLock<Places<ClientAddress>> = LazyLock::new(|| Places::new(MAX_PENDING_PER_ADDRESS, MAX_PENDING));
static OPEN: LazyLock<Places<InstanceId>> = LazyLock::new(|| Places::new(MAX_PER_INSTANCE, usize::MAX));

/// A place for a websocket whose client is not known yet.
pub fn pending(address: ClientAddress) -> Option<Place<ClientAddress>> {
    PENDING.take(address)
}

/// A place for a websocket of an instance.
pub fn open(instance: InstanceId) -> Option<Place<InstanceId>> {
    OPEN.take(instance)
}

struct Places<K: Eq + Hash + 'static> {
    max_each: usize,
    max: usize,
    taken: Mutex<HashMap<K, usize>>,
}

impl<K: Eq + Hash + Clone> Places<K> {
    fn new(max_each: usize, max: usize) -> Self {
        Self { max_each, max, taken: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&'static self, key: K) -> Option<Place<K>> {
        let mut taken = self.lock();
        let own = taken.get(&key).copied().unwrap_or_default();
        if own >= self.max_each || taken.values().sum::<usize>() >= self.max {
            return None;
        }
        taken.insert(key.clone(), own + 1);
        drop(taken);
        Some(Place { of: self, key })
    }
}

/// A place, until it is dropped.
pub struct Place<K: Eq + Hash + Clone + 'static> {
    of: &'static Places<K>,
    key: K,
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        if let Some(own) = taken.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_bounds_and_come_back() {
        static SMALL: LazyLock<Places<u8>> = LazyLock::new(|| Places::new(2, 3));
        let held = [1, 1, 1, 2, 2].map(|key| SMALL.take(key));
        assert_eq!(held.each_ref().map(Option::is_some), [true, true, false, true, false]);
        drop(held);
        assert!(SMALL.lock().is_empty());
    }
}
