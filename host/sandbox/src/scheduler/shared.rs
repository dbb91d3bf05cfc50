//! What the threads for guests share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Runnable;
use super::demand::Demand;
use super::fair::{FairQueue, Runtime};
use crate::ticker::Hurry;

pub(super) struct Shared {
    state: Mutex<State>,
    /// A task came, or the threads are to end.
    changed: Condvar,
    demand: Arc<Demand>,
    hurry: Hurry,
    /// Tasks that are not gone yet.
    alive: AtomicUsize,
    stopped: CancellationToken,
}

struct State {
    queue: FairQueue<Runnable>,
    /// Threads that wait for a task.
    idle: usize,
}

impl Shared {
    pub(super) fn new(threads: usize, demand: Arc<Demand>, hurry: Hurry) -> Self {
        Self {
            state: Mutex::new(State { queue: FairQueue::new(threads), idle: 0 }),
            changed: Condvar::new(),
            demand,
            hurry,
            alive: AtomicUsize::new(0),
            stopped: CancellationToken::new(),
        }
    }

    pub(super) const fn demand(&self) -> &Arc<Demand> {
        &self.demand
    }

    /// Has a task wait for its turn. A task that yields on its thread needs nobody to be woken: the thread looks for the next one right after.
    pub(super) fn push(&self, runnable: Runnable, yields: bool) {
        let runtime = runnable.metadata().runtime();
        let mut state = self.state();
        state.queue.push(runtime, runnable);
        self.demand.set(state.queue.least_waiting());
        let idle = state.idle > 0;
        drop(state);
        if yields {
            return;
        }
        if idle {
            self.changed.notify_one();
        } else {
            self.hurry.up();
        }
    }

    /// Ends the turn of a thread, if it had one, and waits for its next. `None` when the threads are to end.
    pub(super) fn next(&self, thread: usize, ended: Option<Runtime>) -> Option<(Runtime, Runnable)> {
        let mut state = self.state();
        if let Some(runtime) = ended {
            state.queue.end(thread, runtime);
        }
        let next = loop {
            if let Some(next) = state.queue.begin(thread) {
                break next;
            }
            if self.stopped.is_cancelled() && self.alive.load(Ordering::SeqCst) == 0 {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        };
        let least = state.queue.least_waiting();
        self.demand.set(least);
        let waits_in_vain = least.is_some() && state.idle == 0;
        drop(state);
        if waits_in_vain {
            self.hurry.up();
        }
        Some(next)
    }

    /// Ends all tasks at their next turn, and then the threads.
    pub(super) fn stop(&self) {
        self.stopped.cancel();
        self.wake_all();
    }

    /// For a new task: the threads go on as long as the guard lives.
    pub(super) fn keep_alive(this: &Arc<Self>) -> Alive {
        this.alive.fetch_add(1, Ordering::SeqCst);
        Alive(Arc::clone(this))
    }

    fn wake_all(&self) {
        // Between its look at `alive` and its wait, a thread holds the lock.
        drop(self.state());
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Part of each task.
pub(super) struct Alive(Arc<Shared>);

impl Alive {
    /// Resolves when the task is to end.
    pub(super) async fn stopped(&self) {
        self.0.stopped.cancelled().await;
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if self.0.alive.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.stopped.is_cancelled() {
            self.0.wake_all();
        }
    }
}
