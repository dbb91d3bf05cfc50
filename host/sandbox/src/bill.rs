//! Processor time of the requests that a run makes to our own API.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::clock::{CpuUsedUp, processor_time};
use crate::meter::{Counter, Meter};

/// Processor time of one request: a hundred times what a page of 1,000 documents takes, and short enough that a run cannot keep a thread of
/// the server busy with one request.
const MAX_REQUEST_CPU: Duration = Duration::from_secs(5);

/// Who pays for a request to our own API: an extension of the request. What is done where the request is polled is paid for already; work on
/// other threads is to go through [`bill`](Self::bill) or [`bill_blocking`](Self::bill_blocking).
#[derive(Clone)]
pub struct CpuBill(Arc<Inner>);

struct Inner {
    meter: Arc<Meter>,
    run_limit: Duration,
    /// Nanoseconds used for this request, here and on other threads.
    request: Counter,
    request_limit: Duration,
}

impl CpuBill {
    pub(crate) fn new(meter: Arc<Meter>, run_limit: Duration) -> Self {
        Self(Arc::new(Inner { meter, run_limit, request: Counter::default(), request_limit: MAX_REQUEST_CPU }))
    }

    #[cfg(test)]
    fn with_request_limit(meter: Arc<Meter>, run_limit: Duration, request_limit: Duration) -> Self {
        Self(Arc::new(Inner { meter, run_limit, request: Counter::default(), request_limit }))
    }

    /// Bills the run for a future that is polled on another thread.
    ///
    /// # Errors
    /// The time of the request or of the run is used up; the future is dropped.
    pub async fn bill<F: Future>(&self, work: F) -> Result<F::Output, CpuUsedUp> {
        metered(work, |used| self.charge(used)).await
    }

    /// Bills the run for work that blocks another thread.
    pub fn bill_blocking<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = processor_time();
        let done = work();
        self.charge(processor_time().saturating_sub(before));
        done
    }

    /// Keeps the request within its limit, where the run is billed for the polls anyway.
    pub(crate) async fn watch<F: Future>(&self, request: F) -> Result<F::Output, CpuUsedUp> {
        metered(request, |used| self.note(used)).await
    }

    fn charge(&self, used: Duration) -> bool {
        let of_run = self.0.meter.add_cpu(used);
        self.note(used) || of_run > self.0.run_limit
    }

    /// Returns whether the time of the request is used up.
    fn note(&self, used: Duration) -> bool {
        self.0.request.add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX));
        Duration::from_nanos(self.0.request.get()) > self.0.request_limit
    }
}

impl std::fmt::Debug for CpuBill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuBill").field("request_ns", &self.0.request.get()).finish_non_exhaustive()
    }
}

/// Polls a future until `charge`, which is told the time of each poll, says that it is enough.
async fn metered<F: Future>(work: F, charge: impl Fn(Duration) -> bool) -> Result<F::Output, CpuUsedUp> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let before = processor_time();
        let polled = work.as_mut().poll(context);
        let used_up = charge(processor_time().saturating_sub(before));
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if used_up => Poll::Ready(Err(CpuUsedUp)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes for that many milliseconds of processor time.
    fn compute(milliseconds: u64) {
        let before = processor_time();
        while processor_time() < before + Duration::from_millis(milliseconds) {
            std::hint::spin_loop();
        }
    }

    async fn compute_on() {
        loop {
            compute(2);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn work_elsewhere_is_billed_and_ends_with_the_time_of_the_run() {
        let meter = Arc::new(Meter::default());
        let bill = CpuBill::new(Arc::clone(&meter), Duration::from_millis(30));
        bill.bill_blocking(|| compute(10));
        assert!(meter.cpu() >= Duration::from_millis(10));
        let of_thread = bill.clone();
        let work = async move { of_thread.bill(compute_on()).await };
        assert_eq!(tokio::spawn(work).await.unwrap(), Err(CpuUsedUp));
        assert!(meter.cpu() >= Duration::from_millis(30));
    }

    #[tokio::test]
    async fn one_request_ends_with_its_own_time_and_is_billed_once() {
        let meter = Arc::new(Meter::default());
        let bill = CpuBill::with_request_limit(Arc::clone(&meter), Duration::MAX, Duration::from_millis(30));
        bill.bill_blocking(|| compute(15));
        let elsewhere = meter.cpu();
        let request = async {
            compute(10);
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(bill.watch(request).await, Ok(7));
        assert_eq!(bill.watch(compute_on()).await, Err(CpuUsedUp));
        assert_eq!(meter.cpu(), elsewhere, "the polls of the run are billed by the run");
    }
}
