//! How much a run may say of itself to whoever watches it, and how often.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use konnector_store::DocRef;
use tokio::time::{Instant, sleep_until};

use crate::Platform;
use crate::doctype::JOB_EVENTS;
use crate::realtime::{Event, Happened};
use crate::stored::Object;

/// Between two events of a run: more often, nobody can see it.
const INTERVAL: Duration = Duration::from_millis(50);
/// Events that may come at once, after a pause.
const BURST: u32 = 20;

/// Publishes the events of one run.
pub struct Publisher {
    platform: Platform,
    job: DocRef,
    state: Mutex<State>,
}

struct State {
    /// When the next event may be published; in the past as far as a burst goes.
    next: Instant,
    /// The newest progress, where it came too early. Somebody publishes it in its time.
    held: Option<Object>,
}

impl Publisher {
    pub fn new(platform: Platform, job: DocRef) -> Arc<Self> {
        Arc::new(Self { platform, job, state: Mutex::new(State { next: earliest(Instant::now()), held: None }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Progress: of several that come too fast, the newest is published a little later.
    pub fn progress(self: &Arc<Self>, doc: Object) {
        if !self.is_heard() {
            return;
        }
        let mut state = self.state();
        if state.held.is_none() && state.may() {
            drop(state);
            self.tell(doc);
            return;
        }
        let (waits, next) = (state.held.replace(doc).is_some(), state.next);
        drop(state);
        if !waits {
            let publisher = Arc::clone(self);
            self.platform.tasks().spawn(async move {
                tokio::select! {
                    () = publisher.platform.stopping().cancelled() => {}
                    () = sleep_until(next) => {}
                }
                publisher.flush();
            });
        }
    }

    /// A message that may be left out when there are too many.
    pub fn message(&self, doc: Object) {
        if self.is_heard() && self.state().may() {
            self.flush();
            self.tell(doc);
        }
    }

    /// What a watcher must not miss.
    pub fn important(&self, doc: Object) {
        self.flush();
        self.tell(doc);
    }

    fn is_heard(&self) -> bool {
        self.platform.bus.has_listeners(&self.job.instance)
    }

    /// Publishes what was held back.
    pub fn flush(&self) {
        let held = self.state().held.take();
        if let Some(doc) = held {
            self.state().may();
            self.tell(doc);
        }
    }

    fn tell(&self, doc: Object) {
        self.platform.bus.publish(Event {
            instance: self.job.instance.clone(),
            happened: Happened::Created,
            doctype: JOB_EVENTS.clone(),
            id: self.job.id.clone(),
            doc,
        });
    }
}

/// Since when the events of a burst count.
fn earliest(now: Instant) -> Instant {
    now.checked_sub(INTERVAL * BURST).unwrap_or(now)
}

impl State {
    /// Whether another event may be published now; it counts as published.
    fn may(&mut self) -> bool {
        let now = Instant::now();
        if self.next > now {
            return false;
        }
        self.next = self.next.max(earliest(now)) + INTERVAL;
        true
    }
}
