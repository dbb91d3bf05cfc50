//! What time it is, and how much of it passed. The wall clock, which people and network time servers set, decides only what is due; how
//! long something may take or has taken is counted on a clock that never jumps.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The wall clock, to the millisecond, as the store keeps it.
    fn now(&self) -> DateTime<Utc>;

    /// Time since some moment. It goes on while the machine sleeps, and is never set.
    fn elapsed(&self) -> Duration;
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(3)
    }

    fn elapsed(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Both are never negative on this clock.
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
    }
}

/// A wall clock that tests move by hand.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    created: tokio::time::Instant,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { now: AtomicI64::new(now.timestamp_millis()), created: tokio::time::Instant::now() }
    }

    /// Moves the clock, also backwards.
    pub fn set(&self, now: DateTime<Utc>) {
        self.now.store(now.timestamp_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.now.load(Ordering::SeqCst)).unwrap_or_default()
    }

    fn elapsed(&self) -> Duration {
        self.created.elapsed()
    }
}
