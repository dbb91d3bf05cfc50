//! One turn of a task on a thread: how much of it is used, and whether somebody else should go on.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::demand::Demand;
use super::fair::Runtime;
use crate::clock::processor_time;

/// After this time a busy guest yields even when nobody waits: the clocks of its own run (deadline, processor time, cancellation) are polled
/// by the task that polls the guest. A little less than the ordinary tick of the epoch, so that each such tick ends a turn.
const MAX_SLICE: Duration = Duration::from_millis(8);

thread_local! {
    static CURRENT: RefCell<Option<Slice>> = const { RefCell::new(None) };
}

struct Slice {
    demand: Arc<Demand>,
    /// Of the task, at the beginning of the turn and now.
    at_start: Runtime,
    now: Runtime,
    started: Instant,
    processor: Duration,
}

impl Slice {
    fn runtime(&self) -> Runtime {
        let used = processor_time().saturating_sub(self.processor);
        self.at_start.saturating_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Begins a turn on this thread.
pub(super) fn begin(demand: Arc<Demand>, at_start: Runtime) {
    let slice = Slice { demand, at_start, now: at_start, started: Instant::now(), processor: processor_time() };
    CURRENT.with_borrow_mut(|current| *current = Some(slice));
}

/// Adds to the task's runtime what it has used since the beginning of the turn, and returns it. `None` where no turn was begun.
pub(super) fn charge() -> Option<Runtime> {
    CURRENT.with_borrow_mut(|current| {
        let slice = current.as_mut()?;
        slice.now = slice.runtime();
        Some(slice.now)
    })
}

/// Ends the turn; returns the task's runtime when it was last charged.
pub(super) fn end() -> Option<Runtime> {
    CURRENT.with_borrow_mut(Option::take).map(|slice| slice.now)
}

/// Whether the task on this thread should let others go on. Where no scheduler of ours runs it, the answer is always yes.
pub(crate) fn should_yield() -> bool {
    CURRENT.with_borrow(|current| {
        let Some(slice) = current else { return true };
        slice.started.elapsed() >= MAX_SLICE
            || slice.demand.least_waiting().is_some_and(|least| least < slice.runtime())
    })
}
