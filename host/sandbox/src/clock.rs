//! The clocks of a run: wall time, which is paused while the run waits for the user, and CPU time.

use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::meter::Meter;

/// Wall time of one run.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    limit: Duration,
    pauses: Mutex<PauseTotals>,
    /// Whether the clock is paused.
    is_paused: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct PauseTotals {
    /// Total length of the finished waits.
    ended: Duration,
    paused_since: Option<Instant>,
}

impl Clock {
    pub(crate) fn start(limit: Duration) -> Self {
        Self { started: Instant::now(), limit, pauses: Mutex::default(), is_paused: watch::Sender::new(false) }
    }

    /// Time since the start, including waits.
    pub(crate) fn wall_elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time since the start, excluding waits.
    pub(crate) fn running_time(&self) -> Duration {
        let pauses = self.pauses();
        let until = pauses.paused_since.unwrap_or_else(Instant::now);
        until.duration_since(self.started).saturating_sub(pauses.ended)
    }

    /// Time until the deadline.
    pub(crate) fn remaining(&self) -> Duration {
        self.limit.saturating_sub(self.running_time())
    }

    /// Pauses the clock until the guard is dropped. A run waits for one thing at a time, so waits do not nest.
    pub(crate) fn pause(&self) -> PauseGuard<'_> {
        self.pauses().paused_since.get_or_insert_with(Instant::now);
        self.is_paused.send_replace(true);
        PauseGuard(self)
    }

    /// Resolves when the deadline is reached. Cancel-safe.
    pub(crate) async fn deadline(&self) {
        let mut paused = self.is_paused.subscribe();
        loop {
            let is_paused = *paused.borrow_and_update();
            let remaining = self.remaining();
            if remaining.is_zero() {
                return;
            }
            tokio::select! {
                changed = paused.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(remaining), if !is_paused => {}
            }
        }
    }

    fn pauses(&self) -> parking_lot::MutexGuard<'_, PauseTotals> {
        // No code panics while it holds the lock.
        self.pauses.lock()
    }
}

/// Guard that pauses the clock until it is dropped.
#[derive(Debug)]
pub(crate) struct PauseGuard<'a>(&'a Clock);

impl Drop for PauseGuard<'_> {
    fn drop(&mut self) {
        let mut pauses = self.0.pauses();
        if let Some(since) = pauses.paused_since.take() {
            pauses.ended += since.elapsed();
        }
        drop(pauses);
        self.0.is_paused.send_replace(false);
    }
}

/// The budget of CPU time is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuExhausted;

/// A future that is billed for the CPU time of its polls, and ends once its budget is exhausted. Epoch
/// interruption bounds one poll of a busy guest to about 10 ms, which is the precision of the budget. Counting epoch
/// callbacks instead would bill every long host call as one.
pub(crate) struct CpuLimited<F> {
    future: F,
    meter: Arc<Meter>,
    limit: Duration,
}

impl<F: Future + Unpin> CpuLimited<F> {
    pub(crate) fn new(future: F, meter: Arc<Meter>, limit: Duration) -> Self {
        Self { future, meter, limit }
    }
}

impl<F: Future + Unpin> Future for CpuLimited<F> {
    type Output = Result<F::Output, CpuExhausted>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = thread_cpu_time();
        let polled = Pin::new(&mut self.future).poll(context);
        let used = self.meter.add_cpu(thread_cpu_time().saturating_sub(before));
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if used > self.limit => Poll::Ready(Err(CpuExhausted)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Returns the CPU time of this thread. Unlike wall time, this does not bill a run for the machine's other work.
#[cfg(unix)]
pub(crate) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(not(unix))]
pub(crate) fn thread_cpu_time() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[tokio::test]
    async fn waiting_for_the_user_moves_the_deadline() {
        let clock = Clock::start(ms(200));
        {
            let _pause = clock.pause();
            let before = clock.remaining();
            tokio::time::sleep(ms(300)).await;
            assert_eq!(clock.remaining(), before, "the clock stands still");
        }
        clock.deadline().await;
        assert!(clock.running_time() >= ms(200));
        assert!(clock.wall_elapsed() >= ms(500));
    }

    #[tokio::test]
    async fn a_deadline_that_is_already_awaited_is_paused_too() {
        let clock = Clock::start(ms(200));
        let wait = async {
            tokio::time::sleep(ms(20)).await;
            let _pause = clock.pause();
            tokio::time::sleep(ms(300)).await;
        };
        tokio::join!(clock.deadline(), wait);
        assert!(clock.wall_elapsed() >= ms(500));
    }

    #[tokio::test]
    async fn a_busy_future_is_ended_and_a_waiting_one_is_not_charged() {
        let meter = Arc::new(Meter::default());
        let busy = async {
            loop {
                let until = std::time::Instant::now() + Duration::from_millis(5);
                while std::time::Instant::now() < until {
                    std::hint::spin_loop();
                }
                tokio::task::yield_now().await;
            }
        };
        let ended: Result<(), _> = CpuLimited::new(Box::pin(busy), meter.clone(), Duration::from_millis(30)).await;
        assert_eq!(ended, Err(CpuExhausted));
        assert!(meter.cpu() >= Duration::from_millis(30));

        let meter = Arc::new(Meter::default());
        let idle = tokio::time::sleep(Duration::from_millis(60));
        assert_eq!(CpuLimited::new(Box::pin(idle), meter.clone(), Duration::from_millis(30)).await, Ok(()));
        assert!(meter.cpu() < Duration::from_millis(30));
    }
}
