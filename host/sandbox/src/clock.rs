//! The clocks of a run: wall time, which stands still while the user is waited for, and time on a processor.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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
    waits: Mutex<Waits>,
    /// Whether the clock stands still.
    stopped: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Waits {
    /// Length of the waits that are over.
    over: Duration,
    since: Option<Instant>,
}

impl Clock {
    pub(crate) fn start(limit: Duration) -> Self {
        Self { started: Instant::now(), limit, waits: Mutex::default(), stopped: watch::Sender::new(false) }
    }

    /// Time since the start, waits included.
    pub(crate) fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time since the start, waits left out.
    pub(crate) fn elapsed(&self) -> Duration {
        let waits = self.waits();
        let until = waits.since.unwrap_or_else(Instant::now);
        until.duration_since(self.started).saturating_sub(waits.over)
    }

    /// Time until the deadline.
    pub(crate) fn remaining(&self) -> Duration {
        self.limit.saturating_sub(self.elapsed())
    }

    /// Stops the clock until the answer is dropped. A run waits for one thing at a time, so waits do not nest.
    pub(crate) fn pause(&self) -> Pause<'_> {
        self.waits().since.get_or_insert_with(Instant::now);
        self.stopped.send_replace(true);
        Pause(self)
    }

    /// Resolves when the deadline is reached. Cancel-safe.
    pub(crate) async fn deadline(&self) {
        let mut stopped = self.stopped.subscribe();
        loop {
            let standing = *stopped.borrow_and_update();
            let remaining = self.remaining();
            if remaining.is_zero() {
                return;
            }
            tokio::select! {
                changed = stopped.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(remaining), if !standing => {}
            }
        }
    }

    fn waits(&self) -> std::sync::MutexGuard<'_, Waits> {
        // Nothing that holds the lock can panic half-way.
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clock stands still as long as this lives.
#[derive(Debug)]
pub(crate) struct Pause<'a>(&'a Clock);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut waits = self.0.waits();
        if let Some(since) = waits.since.take() {
            waits.over += since.elapsed();
        }
        drop(waits);
        self.0.stopped.send_replace(false);
    }
}

/// Time on a processor is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuUsedUp;

/// A future that is billed for the processor time of its polls, and ends once that is used up. Epoch interruption bounds one poll of a
/// busy guest to about 10 ms, so the budget is exact to that. Counting epoch callbacks instead would bill every long host call for one.
pub(crate) struct Billed<F> {
    future: F,
    meter: Arc<Meter>,
    limit: Duration,
}

impl<F: Future + Unpin> Billed<F> {
    pub(crate) fn new(future: F, meter: Arc<Meter>, limit: Duration) -> Self {
        Self { future, meter, limit }
    }
}

impl<F: Future + Unpin> Future for Billed<F> {
    type Output = Result<F::Output, CpuUsedUp>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = processor_time();
        let polled = Pin::new(&mut self.future).poll(context);
        let used = self.meter.add_cpu(processor_time().saturating_sub(before));
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if used > self.limit => Poll::Ready(Err(CpuUsedUp)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Time that this thread has spent on a processor. Unlike the wall clock it does not bill a run for the machine's other work.
#[cfg(unix)]
pub(crate) fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(not(unix))]
pub(crate) fn processor_time() -> Duration {
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
        assert!(clock.elapsed() >= ms(200));
        assert!(clock.since_start() >= ms(500));
    }

    #[tokio::test]
    async fn a_deadline_that_is_awaited_already_stands_still_too() {
        let clock = Clock::start(ms(200));
        let wait = async {
            tokio::time::sleep(ms(20)).await;
            let _pause = clock.pause();
            tokio::time::sleep(ms(300)).await;
        };
        tokio::join!(clock.deadline(), wait);
        assert!(clock.since_start() >= ms(500));
    }

    #[tokio::test]
    async fn a_busy_future_is_ended_and_a_waiting_one_is_not_billed() {
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
        let ended: Result<(), _> = Billed::new(Box::pin(busy), meter.clone(), Duration::from_millis(30)).await;
        assert_eq!(ended, Err(CpuUsedUp));
        assert!(meter.cpu() >= Duration::from_millis(30));

        let meter = Arc::new(Meter::default());
        let idle = tokio::time::sleep(Duration::from_millis(60));
        assert_eq!(Billed::new(Box::pin(idle), meter.clone(), Duration::from_millis(30)).await, Ok(()));
        assert!(meter.cpu() < Duration::from_millis(30));
    }
}
