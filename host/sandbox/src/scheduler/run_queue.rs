//! State shared by the threads for guests.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::Runnable;
use super::fair::{FairQueue, VirtualRuntime};
use super::waiting_runtime::WaitingRuntime;
use crate::ticker::FastTicks;

pub(super) struct RunQueue {
    state: Mutex<RunQueueState>,
    /// Notified when a task was pushed, or the threads must end.
    changed: Condvar,
    waiting_runtime: Arc<WaitingRuntime>,
    fast_ticks: FastTicks,
    /// Number of tasks that have not ended yet.
    alive_tasks: AtomicUsize,
    stopped: CancellationToken,
}

struct RunQueueState {
    queue: FairQueue<Runnable>,
    /// Number of threads that wait for a task.
    idle_threads: usize,
}

impl RunQueue {
    pub(super) fn new(threads: usize, demand: Arc<WaitingRuntime>, hurry: FastTicks) -> Self {
        Self {
            state: Mutex::new(RunQueueState { queue: FairQueue::new(threads), idle_threads: 0 }),
            changed: Condvar::new(),
            waiting_runtime: demand,
            fast_ticks: hurry,
            alive_tasks: AtomicUsize::new(0),
            stopped: CancellationToken::new(),
        }
    }

    pub(super) const fn demand(&self) -> &Arc<WaitingRuntime> {
        &self.waiting_runtime
    }

    /// Queues a task. A task that yields on its thread wakes no other thread, because its own thread fetches the next
    /// task immediately afterwards.
    pub(super) fn push(&self, runnable: Runnable, yields: bool) {
        let runtime = runnable.metadata().runtime();
        let mut state = self.state();
        state.queue.push(runtime, runnable);
        self.waiting_runtime.set(state.queue.min_waiting_runtime());
        let idle = state.idle_threads > 0;
        drop(state);
        if yields {
            return;
        }
        if idle {
            self.changed.notify_one();
        } else {
            self.fast_ticks.request();
        }
    }

    /// Ends the turn of a thread, if it had one, and waits for its next task. Returns `None` if the threads must end.
    pub(super) fn next_task(&self, thread: usize, ended: Option<VirtualRuntime>) -> Option<(VirtualRuntime, Runnable)> {
        let mut state = self.state();
        if let Some(runtime) = ended {
            state.queue.end_turn(thread, runtime);
        }
        let next = loop {
            if let Some(next) = state.queue.start_turn(thread) {
                break next;
            }
            if self.stopped.is_cancelled() && self.alive_tasks.load(Ordering::SeqCst) == 0 {
                return None;
            }
            state.idle_threads += 1;
            self.changed.wait(&mut state);
            state.idle_threads -= 1;
        };
        let least = state.queue.min_waiting_runtime();
        self.waiting_runtime.set(least);
        let waits_in_vain = least.is_some() && state.idle_threads == 0;
        drop(state);
        if waits_in_vain {
            self.fast_ticks.request();
        }
        Some(next)
    }

    /// Ends all tasks at their next turn, and then the threads.
    pub(super) fn stop(&self) {
        self.stopped.cancel();
        self.wake_all();
    }

    /// Registers a new task. The threads keep running until the guard is dropped.
    pub(super) fn register_task(this: &Arc<Self>) -> AliveGuard {
        this.alive_tasks.fetch_add(1, Ordering::SeqCst);
        AliveGuard(Arc::clone(this))
    }

    fn wake_all(&self) {
        // A thread holds the lock between checking `alive_tasks` and waiting.
        drop(self.state());
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, RunQueueState> {
        // No code panics while it holds the lock.
        self.state.lock()
    }
}

/// Held by each task until it ends.
pub(super) struct AliveGuard(Arc<RunQueue>);

impl AliveGuard {
    /// Resolves when the task must end.
    pub(super) async fn stopped(&self) {
        self.0.stopped.cancelled().await;
    }
}

impl Drop for AliveGuard {
    fn drop(&mut self) {
        if self.0.alive_tasks.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.stopped.is_cancelled() {
            self.0.wake_all();
        }
    }
}
