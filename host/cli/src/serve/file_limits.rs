//! How many files and connections this process may have open.
//!
//! The usual soft limit of 1,024 is meant for programs that use select(2); this one may have as many as the hard limit allows. What there is is
//! divided: the store, running konnectors and the admin API need some while the public API is full.

use konnector_api::ConnectionLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the store, the programs of konnectors, their connections to vendors, and the log.
const RESERVED_FILES: u64 = 192;
/// Connections of the admin API: one operator with a few scripts and a monitor.
const ADMIN_CONNECTIONS: u64 = 64;
/// Each connection of the public API may have a file of its own open.
const FILES_PER_CONNECTION: u64 = 2;
/// As few connections as make a server useful at all.
const MIN_CONNECTIONS: u64 = 16;
/// Below this soft limit the operator is warned.
const MIN_RECOMMENDED_FILES: u64 = 4_096;

/// How many connections each listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// The public API.
    pub public: ConnectionLimits,
    /// The admin API.
    pub admin: ConnectionLimits,
}

/// Raises the soft limit up to the hard limit, and divides the result.
pub fn raise_file_limit() -> ListenerLimits {
    let found = getrlimit(Resource::Nofile);
    let wanted = found.maximum.unwrap_or(u64::MAX);
    let mut limit = found.current.unwrap_or(u64::MAX);
    if limit < wanted {
        match setrlimit(Resource::Nofile, Rlimit { current: found.maximum, maximum: found.maximum }) {
            Ok(()) => limit = wanted,
            Err(error) => tracing::warn!(%error, limit, "the limit of open files could not be raised"),
        }
    }
    if limit < MIN_RECOMMENDED_FILES {
        tracing::warn!(
            limit,
            "few files may be open at the same time, so few clients can be connected; raise the hard limit, for example with LimitNOFILE=65536 in the unit of systemd"
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
