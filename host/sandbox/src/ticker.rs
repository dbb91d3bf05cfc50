//! The thread that makes busy guests look whether they should yield.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

use crate::error::Error;
use crate::scheduler::Demand;

/// How often a guest looks when nobody waits for its thread: often enough for the clocks of its own run.
const TICK: Duration = Duration::from_millis(10);
/// How often while somebody waits. A run that wakes from a sleep gets its turn after one tick or two; a switch costs microseconds, so guests
/// that share a thread lose less than a hundredth to it.
const HURRIED_TICK: Duration = Duration::from_millis(1);
/// Ticks without a run after which the thread sleeps. Waking it costs more than a short run does.
const IDLE_TICKS: u32 = 100;

/// Advances the engine's epoch while runs are going on, and a second longer; an idle server sleeps.
#[derive(Debug)]
pub(crate) struct Ticker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    demand: Arc<Demand>,
    /// The next tick comes soon.
    hurried: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    runs: usize,
    stopped: bool,
    asleep: bool,
}

impl Ticker {
    /// Starts the thread. It is no task of a runtime, because it must go on when all threads of the runtime are busy.
    pub(crate) fn start(engine: &Engine, demand: Arc<Demand>) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            demand,
            hurried: AtomicBool::new(false),
        });
        let (engine, of_thread) = (engine.weak(), Arc::clone(&shared));
        std::thread::Builder::new()
            .name("konnector-epoch".to_owned())
            .spawn(move || of_thread.tick(&engine))
            .map_err(|error| Error::Engine(format!("cannot start the epoch thread: {error}")))?;
        Ok(Self(shared))
    }

    /// Ticks as long as the answer lives.
    pub(crate) fn keep_ticking(&self) -> Ticking {
        let mut state = self.0.state();
        state.runs += 1;
        if state.asleep {
            self.0.changed.notify_all();
        }
        drop(state);
        Ticking(Arc::clone(&self.0))
    }

    /// What the scheduler calls when a task waits.
    pub(crate) fn hurry(&self) -> Hurry {
        Hurry(Arc::clone(&self.0))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.state().stopped = true;
        self.0.changed.notify_all();
    }
}

/// One run that wants ticks.
#[derive(Debug)]
pub(crate) struct Ticking(Arc<Shared>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.state().runs -= 1;
    }
}

/// Makes the ticks come fast.
#[derive(Debug)]
pub(crate) struct Hurry(Arc<Shared>);

impl Hurry {
    /// A task waits and no thread is free: tick fast as long as [`Demand`] says so.
    pub(crate) fn up(&self) {
        if self.0.hurried.swap(true, Ordering::SeqCst) {
            return;
        }
        // Between its look at `hurried` and its sleep, the thread holds the lock.
        drop(self.0.state());
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, engine: &EngineWeak) {
        let mut idle_ticks = 0;
        while !self.wait(&mut idle_ticks) {
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    }

    /// Waits for the next tick, and first for a run when there has been none for a while. Returns whether the thread is to end.
    fn wait(&self, idle_ticks: &mut u32) -> bool {
        // In this order: who waits from now on finds `hurried` unset, and sets it.
        self.hurried.store(false, Ordering::SeqCst);
        if self.demand.is_there() {
            self.hurried.store(true, Ordering::SeqCst);
        }
        let mut state = self.state();
        *idle_ticks = if state.runs == 0 { *idle_ticks + 1 } else { 0 };
        if *idle_ticks > IDLE_TICKS {
            state.asleep = true;
            let idle = |state: &mut State| state.runs == 0 && !state.stopped;
            state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
            *idle_ticks = 0;
        }
        let in_no_hurry = |state: &mut State| !state.stopped && !self.hurried.load(Ordering::SeqCst);
        let waited = self.changed.wait_timeout_while(state, TICK, in_no_hurry);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let stopped = state.stopped;
        drop(state);
        if !stopped && !timeout.timed_out() {
            std::thread::sleep(HURRIED_TICK);
        }
        stopped
    }
}
