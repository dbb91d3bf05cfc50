//! Wall clock and monotonic clock. The wall clock, which people and network time servers set, decides only what is due.
//! Durations and timeouts use a clock that never jumps.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

/// Source of time.
pub trait Clock: Send + Sync {
    /// Returns the wall-clock time, to the millisecond, as the store saves it.
    fn now(&self) -> DateTime<Utc>;

    /// Returns the time since an unspecified moment. It advances while the machine sleeps, and is never set.
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

/// A wall clock that tests set by hand.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    created: tokio::time::Instant,
}

impl ManualClock {
    /// Creates a clock that is set to `now`.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { now: AtomicI64::new(now.timestamp_millis()), created: tokio::time::Instant::now() }
    }

    /// Sets the clock, forwards or backwards.
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
