//! Yields to other tasks during long work.
//!
//! A host function runs in the task of its run. Its work between two awaits can be neither cancelled nor charged, and
//! blocks the thread. So work that grows with the guest's input is done in portions.

/// Number of bytes processed between two yields. Scanning and parsing them takes less than a millisecond, masking a few
/// milliseconds.
pub const YIELD_INTERVAL_BYTES: usize = 256 << 10;

/// Counts work, and yields after each portion.
#[derive(Debug)]
pub struct YieldBudget {
    remaining: usize,
}

impl Default for YieldBudget {
    fn default() -> Self {
        Self { remaining: YIELD_INTERVAL_BYTES }
    }
}

impl YieldBudget {
    /// Counts work on about `bytes` bytes that was just done, and yields if a portion is complete.
    pub async fn consume(&mut self, bytes: usize) {
        match self.remaining.checked_sub(bytes) {
            Some(left) => self.remaining = left,
            None => {
                self.remaining = YIELD_INTERVAL_BYTES;
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn it_yields_once_a_portion() {
        let mut yields = 0;
        let mut work = pin!(async {
            let mut pace = YieldBudget::default();
            for _ in 0..40 {
                pace.consume(YIELD_INTERVAL_BYTES / 10).await;
            }
        });
        while work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            yields += 1;
        }
        assert_eq!(yields, 3);
    }
}
