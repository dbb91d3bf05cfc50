//! Limits how much and how often a run may send to its watchers.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Duration;

use konnector_store::DocRef;
use tokio::time::{Instant, sleep_until};

use konnector_documents::doctype::JOB_EVENTS;
use konnector_documents::realtime::{ChangeKind, RealtimeEvent};
use konnector_documents::stored::Object;
use konnector_jobs::JobContext;
use tracing::Instrument as _;

/// Minimum interval between two events of a run, because users cannot see more.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum number of events in a burst after a pause.
const MAX_BURST: u32 = 20;

/// Publishes the events of one run.
pub struct ThrottledPublisher {
    domain: JobContext,
    job: DocRef,
    state: Mutex<ThrottleState>,
}

struct ThrottleState {
    /// When the next event may be published; up to a burst in the past.
    next: Instant,
    /// The newest progress that came too early. It is published by a task at the next slot.
    pending: Option<Object>,
}

impl ThrottledPublisher {
    pub fn new(domain: JobContext, job: DocRef) -> Arc<Self> {
        Arc::new(Self {
            domain,
            job,
            state: Mutex::new(ThrottleState { next: earliest_slot(Instant::now()), pending: None }),
        })
    }

    fn state(&self) -> MutexGuard<'_, ThrottleState> {
        self.state.lock()
    }

    /// Publishes progress. Of several events that come too fast, only the newest is published, a little later.
    pub fn publish_progress(self: &Arc<Self>, doc: Object) {
        if !self.has_listeners() {
            return;
        }
        let mut state = self.state();
        if state.pending.is_none() && state.try_acquire() {
            drop(state);
            self.publish(doc);
            return;
        }
        let (waits, next) = (state.pending.replace(doc).is_some(), state.next);
        drop(state);
        if !waits {
            let publisher = Arc::clone(self);
            self.domain.core().tasks().spawn(
                async move {
                    tokio::select! {
                        () = publisher.domain.core().draining().cancelled() => {}
                        () = sleep_until(next) => {}
                    }
                    publisher.flush();
                }
                .in_current_span(),
            );
        }
    }

    /// Publishes a message, which may be dropped if there are too many.
    pub fn publish_message(&self, doc: Object) {
        if self.has_listeners() && self.state().try_acquire() {
            self.flush();
            self.publish(doc);
        }
    }

    /// Publishes an event that watchers must not miss.
    pub fn publish_now(&self, doc: Object) {
        self.flush();
        self.publish(doc);
    }

    fn has_listeners(&self) -> bool {
        self.domain.core().bus().has_listeners(&self.job.instance)
    }

    /// Publishes the pending progress.
    pub fn flush(&self) {
        let held = self.state().pending.take();
        if let Some(doc) = held {
            self.state().try_acquire();
            self.publish(doc);
        }
    }

    fn publish(&self, doc: Object) {
        self.domain.core().bus().publish(RealtimeEvent {
            instance: self.job.instance.clone(),
            kind: ChangeKind::Created,
            doctype: JOB_EVENTS.clone(),
            id: self.job.id.clone(),
            doc,
        });
    }
}

/// Returns the earliest slot that a burst may use.
fn earliest_slot(now: Instant) -> Instant {
    now.checked_sub(PUBLISH_INTERVAL * MAX_BURST).unwrap_or(now)
}

impl ThrottleState {
    /// Returns whether another event may be published now, and uses up its slot.
    fn try_acquire(&mut self) -> bool {
        let now = Instant::now();
        if self.next > now {
            return false;
        }
        self.next = self.next.max(earliest_slot(now)) + PUBLISH_INTERVAL;
        true
    }
}
