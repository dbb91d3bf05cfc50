//! The threads that run guests, and who of the guests goes on.
//!
//! tokio's scheduler gives turns in the order in which tasks wake, and prefers the task that woke last on a thread: a guest that computes
//! without end wakes itself whenever it yields, so on its thread it always goes first, and what its thread had to drive (timers, sockets)
//! waits behind it. Here each task has a *runtime*, the processor time that it used, and the least goes first ([`fair`]). A guest that wakes
//! from a short sleep has less than those that compute, so it goes on at the next tick of the epoch; guests that compute have even shares.
//!
//! * A guest that computes goes on until somebody with less runtime waits ([`slice`]); the epoch ticks faster while somebody does.
//! * Timers and sockets are driven by a thread of its own ([`io`](Io)), which no guest ever occupies.
//! * The threads for guests have a lower priority than all others of the process: requests, the schedule and leases come first.
//! * A task that waits for something costs its memory; it has no thread.

mod fair;
mod io;
mod run_queue;
mod slice;
mod task;
#[cfg(test)]
mod tests;
mod thread;
mod waiting_runtime;

use std::future::Future;
use std::sync::Arc;

use async_task::{Builder, ScheduleInfo, WithInfo};

pub(crate) use slice::should_yield;
pub use task::GuestTask;
pub(crate) use waiting_runtime::WaitingRuntime;

use self::io::IoRuntime;
use self::run_queue::RunQueue;
use self::task::{ChargedTask, TaskRuntime};
use crate::error::Error;
use crate::ticker::FastTicks;

/// A task whose turn may come.
type Runnable = async_task::Runnable<Arc<TaskRuntime>>;

/// The threads for guests. They end when this is dropped and their tasks are gone.
pub(crate) struct Scheduler {
    shared: Arc<RunQueue>,
}

impl Scheduler {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(threads: usize, demand: Arc<WaitingRuntime>, hurry: FastTicks) -> Result<Self, Error> {
        let threads = threads.max(1);
        let io = Arc::new(IoRuntime::start()?);
        let scheduler = Self { shared: Arc::new(RunQueue::new(threads, demand, hurry)) };
        for number in 0..threads {
            thread::start(number, Arc::clone(&scheduler.shared), Arc::clone(&io))?;
        }
        Ok(scheduler)
    }

    /// Runs a future on the threads for guests.
    pub(crate) fn spawn<F>(&self, future: F) -> GuestTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let account = Arc::new(TaskRuntime::default());
        let (of_task, of_queue) = (Arc::clone(&account), Arc::clone(&self.shared));
        let alive = RunQueue::register_task(&self.shared);
        let future = async move {
            let _alive = alive;
            tokio::select! {
                biased;
                output = future => Some(output),
                () = _alive.stopped() => None,
            }
        };
        let schedule = move |runnable: Runnable, info: ScheduleInfo| of_queue.push(runnable, info.woken_while_running);
        let (runnable, task) = Builder::new()
            .propagate_panic(true)
            .metadata(account)
            .spawn(|_| ChargedTask::new(future, of_task), WithInfo(schedule));
        runnable.schedule();
        GuestTask(task)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
