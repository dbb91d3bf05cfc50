//! The thread that makes busy guests check whether they should yield.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

use crate::error::Error;
use crate::scheduler::WaitingRuntime;

/// Interval at which a guest checks when no task waits for its thread; short enough for the clocks of its own run.
const TICK_INTERVAL: Duration = Duration::from_millis(10);
/// Interval while a task waits. A run that wakes from a sleep gets its turn after one or two ticks; a switch costs
/// microseconds, so guests that share a thread lose less than 1 % to it.
const FAST_TICK_INTERVAL: Duration = Duration::from_millis(1);
/// Ticks without a run after which the thread sleeps. Waking it costs more than a short run.
const MAX_IDLE_TICKS: u32 = 100;

/// Advances the engine's epoch while runs are active and one second longer; an idle server sleeps.
#[derive(Debug)]
pub(crate) struct Ticker(Arc<TickerShared>);

#[derive(Debug)]
struct TickerShared {
    state: Mutex<TickerState>,
    changed: Condvar,
    waiting_runtime: Arc<WaitingRuntime>,
    /// Whether the next tick follows after [`FAST_TICK_INTERVAL`].
    is_fast: AtomicBool,
}

#[derive(Debug, Default)]
struct TickerState {
    runs: usize,
    is_stopped: bool,
    is_asleep: bool,
}

impl Ticker {
    /// Starts the thread. It is not a task of a runtime, because it must continue when all threads of the runtime are
    /// busy.
    pub(crate) fn start(engine: &Engine, demand: Arc<WaitingRuntime>) -> Result<Self, Error> {
        let shared = Arc::new(TickerShared {
            state: Mutex::default(),
            changed: Condvar::new(),
            waiting_runtime: demand,
            is_fast: AtomicBool::new(false),
        });
        let (engine, of_thread) = (engine.weak(), Arc::clone(&shared));
        std::thread::Builder::new()
            .name("konnector-epoch".to_owned())
            .spawn(move || of_thread.run(&engine))
            .map_err(|error| Error::Engine(format!("cannot start the epoch thread: {error}")))?;
        Ok(Self(shared))
    }

    /// Ticks until the guard is dropped.
    pub(crate) fn keep_ticking(&self) -> TickGuard {
        let mut state = self.0.state();
        state.runs += 1;
        if state.is_asleep {
            self.0.changed.notify_all();
        }
        drop(state);
        TickGuard(Arc::clone(&self.0))
    }

    /// Returns the handle through which the scheduler requests fast ticks when a task waits.
    pub(crate) fn fast_ticks(&self) -> FastTicks {
        FastTicks(Arc::clone(&self.0))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.state().is_stopped = true;
        self.0.changed.notify_all();
    }
}

/// Keeps the ticker active for one run.
#[derive(Debug)]
pub(crate) struct TickGuard(Arc<TickerShared>);

impl Drop for TickGuard {
    fn drop(&mut self) {
        self.0.state().runs -= 1;
    }
}

/// Handle that requests fast ticks.
#[derive(Debug)]
pub(crate) struct FastTicks(Arc<TickerShared>);

impl FastTicks {
    /// Requests fast ticks, because a task waits and no thread is free; they last while [`WaitingRuntime`] reports a
    /// task.
    pub(crate) fn request(&self) {
        if self.0.is_fast.swap(true, Ordering::SeqCst) {
            return;
        }
        // The thread holds the lock between checking `is_fast` and sleeping.
        drop(self.0.state());
        self.0.changed.notify_all();
    }
}

impl TickerShared {
    fn state(&self) -> parking_lot::MutexGuard<'_, TickerState> {
        self.state.lock()
    }

    fn run(&self, engine: &EngineWeak) {
        let mut idle_ticks = 0;
        while !self.wait_for_tick(&mut idle_ticks) {
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    }

    /// Waits for the next tick; if there has been no run for a while, first waits for one. Returns whether the thread
    /// must end.
    fn wait_for_tick(&self, idle_ticks: &mut u32) -> bool {
        // The order matters, because a task that starts to wait from now on finds `is_fast` unset, and sets it.
        self.is_fast.store(false, Ordering::SeqCst);
        if self.waiting_runtime.is_some() {
            self.is_fast.store(true, Ordering::SeqCst);
        }
        let mut state = self.state();
        *idle_ticks = if state.runs == 0 { *idle_ticks + 1 } else { 0 };
        if *idle_ticks > MAX_IDLE_TICKS {
            state.is_asleep = true;
            let idle = |state: &mut TickerState| state.runs == 0 && !state.is_stopped;
            self.changed.wait_while(&mut state, idle);
            state.is_asleep = false;
            *idle_ticks = 0;
        }
        let is_slow = |state: &mut TickerState| !state.is_stopped && !self.is_fast.load(Ordering::SeqCst);
        let timeout = self.changed.wait_while_for(&mut state, is_slow, TICK_INTERVAL);
        let stopped = state.is_stopped;
        drop(state);
        if !stopped && !timeout.timed_out() {
            std::thread::sleep(FAST_TICK_INTERVAL);
        }
        stopped
    }
}
