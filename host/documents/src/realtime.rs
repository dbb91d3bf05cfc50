//! Realtime events for listeners. Events are published after the commit that they report, and slow listeners may lose
//! them. The store is authoritative; events are hints.
//!
//! Each instance has its own listeners, and each listener has a queue bounded in events and bytes, so events of one
//! instance never affect listeners of another. Without a listener, an event is not even built.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use konnector_manifest::Doctype;
use konnector_store::InstanceId;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::doctype::{JOB_EVENTS, JOB_LOGS};
use crate::handles::Realtime;
use crate::instance::Instance;

/// Maximum number of document events queued for a listener: a burst of one large commit.
const MAX_DOCUMENT_EVENTS: usize = 1_024;
/// Maximum size in bytes of these document events. Two documents of the largest size fit; the queues of one instance
/// share the events in them.
const MAX_DOCUMENT_EVENT_BYTES: usize = 16 << 20;
/// Maximum number of transient events of runs queued for a listener: as many lines as a terminal shows.
const MAX_TRANSIENT_EVENTS: usize = 512;
/// Maximum size in bytes of these transient events.
const MAX_TRANSIENT_BYTES: usize = 1 << 20;

/// Kind of change of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangeKind {
    /// The document was created.
    Created,
    /// The document changed.
    Updated,
    /// The document was deleted.
    Deleted,
    /// A client sent a notification about a document that is not stored.
    Notified,
}

/// One event of the realtime API.
#[derive(Debug, Clone)]
pub struct RealtimeEvent {
    /// Instance of the document.
    pub instance: InstanceId,
    /// Kind of change.
    pub kind: ChangeKind,
    /// Type of the document.
    pub doctype: Doctype,
    /// Id of the document; for job events and log lines, that of the job.
    pub id: String,
    /// The document as the API shows it.
    pub doc: Map<String, Value>,
}

impl RealtimeEvent {
    /// Returns whether the event is output of a run (progress or log lines). Such events may be dropped, because only
    /// the most recent ones matter and a run may send any number of them.
    fn is_transient(&self) -> bool {
        self.doctype == *JOB_EVENTS || self.doctype == *JOB_LOGS
    }

    fn is_progress(&self) -> bool {
        self.doctype == *JOB_EVENTS && self.doc.get("type").and_then(Value::as_str) == Some("progress")
    }

    /// Returns the approximate size in bytes.
    fn weight(&self) -> usize {
        self.id.len() + konnector_store::approximate_size(&self.doc)
    }
}

/// The bus on which all events are published.
#[derive(Debug, Clone, Default)]
pub struct Bus(Arc<Mutex<HashMap<InstanceId, Vec<Arc<Queue>>>>>);

impl Bus {
    fn queues(&self) -> MutexGuard<'_, HashMap<InstanceId, Vec<Arc<Queue>>>> {
        self.0.lock()
    }

    /// Notifies all listeners of the instance; does nothing if there are none.
    pub fn publish(&self, event: RealtimeEvent) {
        let queues = match self.queues().get(&event.instance) {
            Some(queues) => queues.clone(),
            None => return,
        };
        let (weight, event) = (event.weight(), Arc::new(event));
        for queue in queues {
            queue.push(Arc::clone(&event), weight);
        }
    }

    /// Returns whether an instance has listeners. Otherwise no event needs to be built.
    #[must_use]
    pub fn has_listeners(&self, instance: &InstanceId) -> bool {
        self.queues().contains_key(instance)
    }

    /// Subscribes to all events of an instance from now on. A listener that falls behind receives [`Lagged`].
    #[must_use]
    pub fn subscribe(&self, instance: &InstanceId) -> Listener {
        let queue = Arc::new(Queue::default());
        self.queues().entry(instance.clone()).or_default().push(Arc::clone(&queue));
        Listener { bus: self.clone(), instance: instance.clone(), queue }
    }
}

/// Events that a listener missed because it was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lagged {
    /// Progress or log lines of jobs.
    Transient,
    /// Events of documents. Only the store has their current state.
    Documents,
}

/// Subscription to the events of one instance.
#[derive(Debug)]
pub struct Listener {
    bus: Bus,
    instance: InstanceId,
    queue: Arc<Queue>,
}

impl Listener {
    /// Returns the next event. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Lagged`], once, before the later events.
    pub async fn recv(&mut self) -> Result<Arc<RealtimeEvent>, Lagged> {
        loop {
            let woken = self.queue.wakeup.notified();
            if let Some(next) = self.queue.pop() {
                return next;
            }
            woken.await;
        }
    }

    /// Returns the next event, if one is queued.
    ///
    /// # Errors
    ///
    /// As [`Listener::recv`].
    pub fn try_recv(&mut self) -> Option<Result<Arc<RealtimeEvent>, Lagged>> {
        self.queue.pop()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut queues = self.bus.queues();
        if let Some(of_instance) = queues.get_mut(&self.instance) {
            of_instance.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
            if of_instance.is_empty() {
                queues.remove(&self.instance);
            }
        }
    }
}

/// Queue of one listener.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    wakeup: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<(Arc<RealtimeEvent>, usize)>,
    documents: QueueSize,
    transient: QueueSize,
    lost_documents: bool,
    lost_transient: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct QueueSize {
    events: usize,
    bytes: usize,
}

impl QueueSize {
    const fn add(&mut self, weight: usize) {
        self.events += 1;
        self.bytes += weight;
    }

    const fn remove(&mut self, weight: usize) {
        self.events -= 1;
        self.bytes -= weight;
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }

    fn push(&self, event: Arc<RealtimeEvent>, weight: usize) {
        self.state().push(event, weight);
        self.wakeup.notify_one();
    }

    fn pop(&self) -> Option<Result<Arc<RealtimeEvent>, Lagged>> {
        self.state().pop()
    }
}

impl QueueState {
    fn push(&mut self, event: Arc<RealtimeEvent>, weight: usize) {
        if !event.is_transient() {
            self.push_document(event, weight);
            return;
        }
        // Only the newest progress of a job matters.
        if event.is_progress()
            && let Some(before) =
                self.events.iter_mut().rev().find(|(before, _)| before.is_progress() && before.id == event.id)
        {
            self.transient.remove(before.1);
            self.transient.add(weight);
            *before = (event, weight);
            return;
        }
        self.transient.add(weight);
        self.events.push_back((event, weight));
        while self.transient.events > MAX_TRANSIENT_EVENTS
            || (self.transient.bytes > MAX_TRANSIENT_BYTES && self.transient.events > 1)
        {
            self.drop_oldest_transient();
        }
    }

    fn push_document(&mut self, event: Arc<RealtimeEvent>, weight: usize) {
        self.documents.add(weight);
        self.events.push_back((event, weight));
        // One event always fits, regardless of its size.
        if self.documents.events > MAX_DOCUMENT_EVENTS
            || (self.documents.bytes > MAX_DOCUMENT_EVENT_BYTES && self.documents.events > 1)
        {
            self.events.retain(|(event, _)| event.is_transient());
            self.documents = QueueSize::default();
            self.lost_documents = true;
        }
    }

    fn drop_oldest_transient(&mut self) {
        let oldest = self.events.iter().position(|(event, _)| event.is_transient());
        if let Some((_, weight)) = oldest.and_then(|oldest| self.events.remove(oldest)) {
            self.transient.remove(weight);
            self.lost_transient = true;
        }
    }

    fn pop(&mut self) -> Option<Result<Arc<RealtimeEvent>, Lagged>> {
        if std::mem::take(&mut self.lost_documents) {
            return Some(Err(Lagged::Documents));
        }
        if std::mem::take(&mut self.lost_transient) {
            return Some(Err(Lagged::Transient));
        }
        let (event, weight) = self.events.pop_front()?;
        let size = if event.is_transient() { &mut self.transient } else { &mut self.documents };
        size.remove(weight);
        Some(Ok(event))
    }
}

impl Realtime {
    /// Subscribes to all events of an instance from now on; see [`Bus::subscribe`].
    #[must_use]
    pub fn subscribe(&self, instance: &InstanceId) -> Listener {
        self.core.bus().subscribe(instance)
    }

    /// Publishes an event to the listeners of its instance.
    pub fn publish(&self, event: RealtimeEvent) {
        self.core.bus().publish(event);
    }

    /// Notifies listeners about a document that is not stored.
    pub fn notify(&self, instance: &Instance, doctype: &Doctype, id: &str, body: Map<String, Value>) {
        self.core.publish(&instance.doc(doctype, id), ChangeKind::Notified, body);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn instance(number: u8) -> InstanceId {
        format!("{number:032x}").parse().unwrap()
    }

    fn event(of: u8, doctype: &str, id: &str, doc: Value) -> RealtimeEvent {
        let Value::Object(doc) = doc else { panic!("{doc}") };
        let (happened, doctype) = (ChangeKind::Created, doctype.parse().unwrap());
        RealtimeEvent { instance: instance(of), kind: happened, doctype, id: id.to_owned(), doc }
    }

    fn progress(done: u64) -> RealtimeEvent {
        event(1, "io.cozy.jobs.events", "job", json!({ "type": "progress", "done": done }))
    }

    #[tokio::test]
    async fn one_instance_costs_the_listeners_of_another_nothing() {
        let bus = Bus::default();
        let (mut one, mut other) = (bus.subscribe(&instance(1)), bus.subscribe(&instance(2)));
        bus.publish(event(2, "io.cozy.bills", "mine", json!({})));
        for number in 0..300_000 {
            bus.publish(progress(number));
        }
        for number in 0..2 * MAX_DOCUMENT_EVENTS {
            bus.publish(event(1, "io.cozy.bills", &number.to_string(), json!({})));
        }
        assert_eq!(other.recv().await.unwrap().id, "mine");
        assert_eq!(other.try_recv().map(|event| event.map(|event| event.id.clone())), None);
        assert_eq!(one.recv().await.unwrap_err(), Lagged::Documents);
        let newest = one.recv().await.unwrap();
        assert_eq!(newest.doc["done"], 299_999, "the newest progress alone");
    }

    #[tokio::test]
    async fn hints_push_no_document_out() {
        let bus = Bus::default();
        let mut listener = bus.subscribe(&instance(1));
        bus.publish(event(1, "io.cozy.bills", "bill", json!({})));
        for number in 0..10_000 {
            bus.publish(event(1, "io.cozy.jobs.logs", "job", json!({ "message": number })));
        }
        assert_eq!(listener.recv().await.unwrap_err(), Lagged::Transient);
        assert_eq!(listener.recv().await.unwrap().id, "bill");
        let first = listener.recv().await.unwrap();
        assert_eq!(first.doc["message"], 10_000 - MAX_TRANSIENT_EVENTS, "the newest lines are kept");
    }

    #[test]
    fn nobody_is_remembered_who_is_gone() {
        let bus = Bus::default();
        let (one, other) = (bus.subscribe(&instance(1)), bus.subscribe(&instance(1)));
        drop(one);
        assert!(bus.has_listeners(&instance(1)));
        drop(other);
        assert!(!bus.has_listeners(&instance(1)));
    }

    #[tokio::test]
    async fn a_document_of_any_size_is_told() {
        let bus = Bus::default();
        let mut listener = bus.subscribe(&instance(1));
        bus.publish(event(1, "io.cozy.bills", "large", json!({ "text": "x".repeat(2 * MAX_DOCUMENT_EVENT_BYTES) })));
        assert_eq!(listener.recv().await.unwrap().id, "large");
    }

    proptest! {
        /// For any events and any timing of the listener, the queue never exceeds its limits, nothing is delivered
        /// twice or out of order, and every loss is reported.
        #[test]
        fn queues_are_bounded_and_say_what_they_lose(
            steps in proptest::collection::vec((0_usize..4, 0_usize..3_000_000, any::<bool>()), 0..200),
        ) {
            let bus = Bus::default();
            let mut listener = bus.subscribe(&instance(1));
            let (mut published, mut taken, mut lost) = (0_u64, Vec::new(), false);
            for (kind, size, takes) in steps {
                let doctype = if kind == 0 { "io.cozy.jobs.logs" } else { "io.cozy.bills" };
                let size = if kind == 1 { size } else { size % 1_000 };
                published += 1;
                bus.publish(event(1, doctype, "id", json!({ "number": published, "text": "x".repeat(size) })));
                {
                    let waiting = listener.queue.state();
                    prop_assert!(waiting.documents.events <= MAX_DOCUMENT_EVENTS && waiting.transient.events <= MAX_TRANSIENT_EVENTS);
                    prop_assert!(waiting.documents.bytes <= MAX_DOCUMENT_EVENT_BYTES || waiting.documents.events == 1);
                    prop_assert!(waiting.transient.bytes <= MAX_TRANSIENT_BYTES || waiting.transient.events == 1);
                    prop_assert_eq!(waiting.events.len(), waiting.documents.events + waiting.transient.events);
                }
                if takes {
                    match listener.try_recv() {
                        Some(Ok(event)) => taken.push(event.doc["number"].as_u64().unwrap()),
                        Some(Err(_)) => lost = true,
                        None => {}
                    }
                }
            }
            while let Some(next) = listener.try_recv() {
                match next {
                    Ok(event) => taken.push(event.doc["number"].as_u64().unwrap()),
                    Err(_) => lost = true,
                }
            }
            prop_assert!(taken.is_sorted_by(|one, other| one < other), "{:?}", taken);
            prop_assert!(lost || taken.len() as u64 == published);
            let waiting = listener.queue.state();
            prop_assert_eq!((waiting.documents.bytes, waiting.transient.bytes), (0, 0));
        }
    }
}
