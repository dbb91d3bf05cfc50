//! Limits of the files and connections that this process may have open.
//!
//! The usual soft limit of 1,024 is meant for programs that use select(2); this program may use the hard limit. The
//! limit is divided, because the store, running konnectors and the admin API need files even when the public API is
//! full.

use konnector_api::ConnectionLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files for the store, the programs of konnectors, their connections to vendors, and the log.
const RESERVED_FILES: u64 = 192;
/// Connections of the admin API: one operator with a few scripts and a monitor.
const ADMIN_CONNECTIONS: u64 = 64;
/// Files of a connection of the public API: its socket, and a file that it reads or writes.
const FILES_PER_CONNECTION: u64 = 2;
/// Minimum number of connections with which a server is useful.
const MIN_CONNECTIONS: u64 = 16;
/// Soft limit below which the operator is warned.
const MIN_RECOMMENDED_FILES: u64 = 4_096;

/// Connection limits of the listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Limits of the public API.
    pub public: ConnectionLimits,
    /// Limits of the admin API.
    pub admin: ConnectionLimits,
}

/// Raises the soft limit up to the hard limit, and divides the result.
pub fn raise_file_limit() -> ListenerLimits {
    let limits = getrlimit(Resource::Nofile);
    let hard_limit = limits.maximum.unwrap_or(u64::MAX);
    let mut limit = limits.current.unwrap_or(u64::MAX);
    if limit < hard_limit {
        match setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum }) {
            Ok(()) => limit = hard_limit,
            Err(error) => tracing::warn!(%error, limit, "cannot raise the limit of open files"),
        }
    }
    if limit < MIN_RECOMMENDED_FILES {
        tracing::warn!(
            limit,
            "the limit of open files is low, so only few clients can connect; raise the hard limit, for example with LimitNOFILE=65536 in the systemd unit"
        );
    }
    divide(limit)
}

fn divide(limit: u64) -> ListenerLimits {
    let public = limit.saturating_sub(RESERVED_FILES + ADMIN_CONNECTIONS) / FILES_PER_CONNECTION;
    let connections = |count: u64| ConnectionLimits::new(usize::try_from(count).unwrap_or(usize::MAX));
    ListenerLimits { public: connections(public.max(MIN_CONNECTIONS)), admin: connections(ADMIN_CONNECTIONS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_limit_leaves_enough_for_the_store_and_the_operator() {
        let ListenerLimits { public, admin } = divide(1_024);
        assert_eq!((public.total, public.per_address, admin.total), (384, 288, 64));
        assert!(public.total as u64 * FILES_PER_CONNECTION + admin.total as u64 + RESERVED_FILES <= 1_024);
        assert_eq!(divide(1 << 20).public, ConnectionLimits::default());
        assert_eq!(divide(u64::MAX).public, ConnectionLimits::default());
        assert_eq!(divide(100).public.total, 16);
    }
}
