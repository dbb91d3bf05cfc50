//! The threads that run guests, and the order in which guests run.
//!
//! tokio's scheduler runs tasks in the order in which they wake, and prefers the task that woke last on a thread. A
//! guest that computes endlessly wakes itself whenever it yields, so it always goes first on its thread, and the timers
//! and sockets that the thread drives wait. Here, each task has a *runtime*, the CPU time that it used, and the task
//! with the least goes first ([`fair`]). A guest that wakes from a short sleep has less runtime than those that
//! compute, so it continues at the next tick of the epoch; guests that compute have equal shares.
//!
//! * A guest that computes continues until a task with less runtime waits ([`slice`]); the epoch ticks faster while one
//!   does.
//! * A separate thread ([`io`]), which no guest ever occupies, drives timers and sockets.
//! * The threads for guests have a lower priority than all other threads of the process: requests, the schedule and
//!   leases come first.
//! * A waiting task costs only its memory; it occupies no thread.

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

/// A task that can run.
type Runnable = async_task::Runnable<Arc<TaskRuntime>>;

/// The threads for guests. They end when the scheduler is dropped and all tasks have ended.
pub(crate) struct Scheduler {
    shared: Arc<RunQueue>,
}

impl Scheduler {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
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
        let (runtime, queue) = (Arc::clone(&account), Arc::clone(&self.shared));
        let alive = RunQueue::register_task(&self.shared);
        let future = async move {
            let _alive = alive;
            tokio::select! {
                biased;
                output = future => Some(output),
                () = _alive.stopped() => None,
            }
        };
        let schedule = move |runnable: Runnable, info: ScheduleInfo| queue.push(runnable, info.woken_while_running);
        let (runnable, task) = Builder::new()
            .propagate_panic(true)
            .metadata(account)
            .spawn(|_| ChargedTask::new(future, runtime), WithInfo(schedule));
        runnable.schedule();
        GuestTask(task)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
