//! CPU time of a run's requests to the internal API.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::clock::{CpuExhausted, thread_cpu_time};
use crate::meter::{Counter, Meter};

/// Maximum CPU time of one request. A hundred times what a page of 1,000 documents takes, and short enough that a run
/// cannot keep a thread of the server busy with one request.
const MAX_REQUEST_CPU: Duration = Duration::from_secs(5);

/// Bills the run for a request to the internal API; an extension of the request. Polls of the request itself are
/// already billed; work on other threads must go through [`meter`](Self::meter) or
/// [`meter_blocking`](Self::meter_blocking).
#[derive(Clone)]
pub struct RequestCpuMeter(Arc<RequestCpu>);

struct RequestCpu {
    meter: Arc<Meter>,
    run_limit: Duration,
    /// Number of nanoseconds that this request used, on this thread and others.
    used_ns: Counter,
    request_limit: Duration,
}

impl RequestCpuMeter {
    pub(crate) fn new(meter: Arc<Meter>, run_limit: Duration) -> Self {
        Self(Arc::new(RequestCpu { meter, run_limit, used_ns: Counter::default(), request_limit: MAX_REQUEST_CPU }))
    }

    #[cfg(test)]
    fn with_request_limit(meter: Arc<Meter>, run_limit: Duration, request_limit: Duration) -> Self {
        Self(Arc::new(RequestCpu { meter, run_limit, used_ns: Counter::default(), request_limit }))
    }

    /// Bills the run for a future that is polled on another thread.
    ///
    /// # Errors
    ///
    /// If the budget of the request or of the run is exhausted; the future is dropped.
    pub async fn meter<F: Future>(&self, work: F) -> Result<F::Output, CpuExhausted> {
        poll_metered(work, |used| self.charge(used)).await
    }

    /// Bills the run for work that blocks another thread.
    pub fn meter_blocking<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu_time();
        let result = work();
        self.charge(thread_cpu_time().saturating_sub(before));
        result
    }

    /// Limits the request where its polls are already billed to the run.
    pub(crate) async fn limit<F: Future>(&self, request: F) -> Result<F::Output, CpuExhausted> {
        poll_metered(request, |used| self.charge_request(used)).await
    }

    fn charge(&self, used: Duration) -> bool {
        let run_total = self.0.meter.add_cpu(used);
        self.charge_request(used) || run_total > self.0.run_limit
    }

    /// Adds to the request's time; returns whether its budget is exhausted.
    fn charge_request(&self, used: Duration) -> bool {
        self.0.used_ns.add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX));
        Duration::from_nanos(self.0.used_ns.get()) > self.0.request_limit
    }
}

impl std::fmt::Debug for RequestCpuMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestCpuMeter").field("request_ns", &self.0.used_ns.get()).finish_non_exhaustive()
    }
}

/// Polls a future until `charge`, which receives the time of each poll, reports that the budget is exhausted.
async fn poll_metered<F: Future>(work: F, charge: impl Fn(Duration) -> bool) -> Result<F::Output, CpuExhausted> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let before = thread_cpu_time();
        let polled = work.as_mut().poll(context);
        let used_up = charge(thread_cpu_time().saturating_sub(before));
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if used_up => Poll::Ready(Err(CpuExhausted)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes for this many milliseconds of CPU time.
    fn compute(milliseconds: u64) {
        let before = thread_cpu_time();
        while thread_cpu_time() < before + Duration::from_millis(milliseconds) {
            std::hint::spin_loop();
        }
    }

    async fn compute_forever() {
        loop {
            compute(2);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn work_on_other_threads_counts_and_ends_at_the_cpu_limit_of_the_run() {
        let meter = Arc::new(Meter::default());
        let request_meter = RequestCpuMeter::new(Arc::clone(&meter), Duration::from_millis(30));
        request_meter.meter_blocking(|| compute(10));
        assert!(meter.cpu() >= Duration::from_millis(10));
        let thread_meter = request_meter.clone();
        let work = async move { thread_meter.meter(compute_forever()).await };
        assert_eq!(tokio::spawn(work).await.unwrap(), Err(CpuExhausted));
        assert!(meter.cpu() >= Duration::from_millis(30));
    }

    #[tokio::test]
    async fn a_request_ends_at_its_own_cpu_limit_and_is_charged_once() {
        let meter = Arc::new(Meter::default());
        let request_meter =
            RequestCpuMeter::with_request_limit(Arc::clone(&meter), Duration::MAX, Duration::from_millis(30));
        request_meter.meter_blocking(|| compute(15));
        let charged = meter.cpu();
        let request = async {
            compute(10);
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(request_meter.limit(request).await, Ok(7));
        assert_eq!(request_meter.limit(compute_forever()).await, Err(CpuExhausted));
        assert_eq!(meter.cpu(), charged, "the polls of the run are billed by the run");
    }
}
