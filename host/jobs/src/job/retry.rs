//! Rules for retrying a failed run.

use std::time::Duration;

/// Whether and when a run is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Never automatically.
    Never,
    /// Once, after an hour, because the cause may be temporary.
    Once,
    /// The konnector or the server has a fault: once, after an hour. After three consecutive failures of this kind, the
    /// schedule waits for the konnector's author.
    Fault,
    /// With exponential backoff and full jitter, but not before `at_least`.
    BackOff {
        /// Minimum delay that the vendor requested.
        at_least: Duration,
    },
    /// As soon as the user's quota has free space again.
    WhenSpaceAvailable,
}

/// Retry settings of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Upper bound of the first delay; it doubles with each attempt.
    pub base_delay: Duration,
    /// Maximum number of attempts.
    pub max_attempts: u32,
}

/// Maximum delay between two attempts, unless the vendor asks for more.
const MAX_DELAY: Duration = Duration::from_secs(6 * 3_600);
/// Delay of the single retry after a fault, as a multiple of the first delay: an hour.
const SECOND_ATTEMPT_FACTOR: u32 = 12;
/// Interval between checks for free space, as a multiple of the first delay: a quarter of an hour.
const SPACE_CHECK_FACTOR: u32 = 3;

impl RetryPolicy {
    /// Returns the delay after attempt number `attempt`, from 1; `None` if no attempts remain. `share` is a random
    /// number from 0 to 1.
    #[must_use]
    pub fn delay(&self, retry: Retry, attempt: u32, share: f64) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        match retry {
            Retry::Never => None,
            Retry::Once | Retry::Fault if attempt >= 2 => None,
            Retry::Once | Retry::Fault => Some(self.base_delay * SECOND_ATTEMPT_FACTOR),
            Retry::BackOff { at_least } => {
                let doubled = self.base_delay.saturating_mul(1 << (attempt.saturating_sub(1)).min(16));
                Some(doubled.min(MAX_DELAY).mul_f64(share.clamp(0.0, 1.0)).max(at_least))
            }
            Retry::WhenSpaceAvailable => Some(self.space_check_delay()),
        }
    }

    /// Returns how long a job that needs space waits before it checks again.
    #[must_use]
    pub fn space_check_delay(&self) -> Duration {
        self.base_delay * SPACE_CHECK_FACTOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy { base_delay: Duration::from_secs(300), max_attempts: 8 };

    fn jitter_samples() -> impl Iterator<Item = f64> {
        // A low-discrepancy sequence: as even as randomness should be, and the same each time.
        (0..10_000_u32).map(|number| (f64::from(number) * 0.618_033_988_749_895).fract())
    }

    #[test]
    fn ten_thousand_delays_spread_evenly_below_their_ceiling() {
        for attempt in 1..8 {
            let ceiling = Duration::from_secs((300 << (attempt - 1)).min(6 * 3_600)).as_secs_f64();
            let retry = Retry::BackOff { at_least: Duration::ZERO };
            let delays: Vec<f64> = jitter_samples()
                .map(|share| POLICY.delay(retry, attempt, share).unwrap().as_secs_f64() / ceiling)
                .collect();
            let mean = delays.iter().sum::<f64>() / delays.len() as f64;
            assert!((mean - 0.5).abs() < 0.01, "attempt {attempt}: the mean is {mean} of the ceiling");
            for tenth in 0..10 {
                let part = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
                let count = delays.iter().filter(|delay| part.contains(*delay)).count();
                assert!((900..1_100).contains(&count), "attempt {attempt}: {count} delays in {part:?}");
            }
            assert!(delays.iter().all(|delay| (0.0..=1.0).contains(delay)));
        }
    }

    #[test]
    fn what_the_vendor_asked_for_is_never_undercut() {
        for at_least in [1, 60, 4_000, 100_000].map(Duration::from_secs) {
            for attempt in 1..8 {
                let mut delays =
                    jitter_samples().map(|share| POLICY.delay(Retry::BackOff { at_least }, attempt, share).unwrap());
                assert!(delays.all(|delay| delay >= at_least));
            }
        }
    }

    #[test]
    fn each_class_ends() {
        let hour = Some(Duration::from_secs(3_600));
        let back_off = Retry::BackOff { at_least: Duration::ZERO };
        assert_eq!([Retry::Once, Retry::Fault].map(|retry| POLICY.delay(retry, 1, 0.0)), [hour, hour]);
        assert_eq!([Retry::Once, Retry::Fault, Retry::Never].map(|retry| POLICY.delay(retry, 2, 0.0)), [None; 3]);
        assert_eq!(POLICY.delay(Retry::WhenSpaceAvailable, 1, 1.0), Some(Duration::from_secs(900)));
        for retry in [Retry::Once, Retry::Fault, back_off, Retry::WhenSpaceAvailable] {
            assert_eq!(POLICY.delay(retry, 8, 0.5), None);
        }
    }
}
