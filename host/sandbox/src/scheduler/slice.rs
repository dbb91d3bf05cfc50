//! One turn of a task on a thread, which determines the time used and whether another task should continue.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fair::VirtualRuntime;
use super::waiting_runtime::WaitingRuntime;
use crate::clock::thread_cpu_time;

/// Time after which a busy guest yields even if no task waits, because the task that polls the guest also polls the
/// clocks of its run (deadline, CPU time, cancellation). A little less than the ordinary tick of the epoch, so
/// each such tick ends a turn.
const MAX_SLICE: Duration = Duration::from_millis(8);

thread_local! {
    static CURRENT: RefCell<Option<TimeSlice>> = const { RefCell::new(None) };
}

struct TimeSlice {
    waiting_runtime: Arc<WaitingRuntime>,
    /// Runtime of the task at the beginning of the turn; `charged_runtime` is the one that was last charged.
    start_runtime: VirtualRuntime,
    charged_runtime: VirtualRuntime,
    started: Instant,
    start_cpu: Duration,
}

impl TimeSlice {
    fn runtime(&self) -> VirtualRuntime {
        let used = thread_cpu_time().saturating_sub(self.start_cpu);
        self.start_runtime.saturating_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Begins a turn on this thread.
pub(super) fn begin(demand: Arc<WaitingRuntime>, at_start: VirtualRuntime) {
    let slice = TimeSlice {
        waiting_runtime: demand,
        start_runtime: at_start,
        charged_runtime: at_start,
        started: Instant::now(),
        start_cpu: thread_cpu_time(),
    };
    CURRENT.with_borrow_mut(|current| *current = Some(slice));
}

/// Adds the time used since the beginning of the turn to the task's runtime, and returns the runtime; `None` if no turn
/// was begun.
pub(super) fn charge() -> Option<VirtualRuntime> {
    CURRENT.with_borrow_mut(|current| {
        let slice = current.as_mut()?;
        slice.charged_runtime = slice.runtime();
        Some(slice.charged_runtime)
    })
}

/// Ends the turn; returns the task's runtime when it was last charged.
pub(super) fn end() -> Option<VirtualRuntime> {
    CURRENT.with_borrow_mut(Option::take).map(|slice| slice.charged_runtime)
}

/// Returns whether the task on this thread should yield to others. Always true if no [`Scheduler`](super::Scheduler)
/// runs it.
pub(crate) fn should_yield() -> bool {
    CURRENT.with_borrow(|current| {
        let Some(slice) = current else { return true };
        slice.started.elapsed() >= MAX_SLICE || slice.waiting_runtime.get().is_some_and(|least| least < slice.runtime())
    })
}
