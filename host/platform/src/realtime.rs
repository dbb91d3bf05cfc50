//! What happens, told to whoever listens. Events are published after the commit that they report, and may be lost by a slow listener:
//! the store is the truth, this is the hint.

use konnector_manifest::Doctype;
use konnector_store::InstanceId;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::broadcast;

use crate::Platform;
use crate::instance::Instance;

/// What happened to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Happened {
    /// It is new.
    Created,
    /// It changed.
    Updated,
    /// It is gone.
    Deleted,
    /// Somebody tells of it; it is stored nowhere.
    Notified,
}

/// One event of the realtime API.
#[derive(Debug, Clone)]
pub struct Event {
    /// Whose it is.
    pub instance: InstanceId,
    /// What happened.
    pub happened: Happened,
    /// Type of the document.
    pub doctype: Doctype,
    /// Id of the document; for job events and log lines, that of the job.
    pub id: String,
    /// The document as the API shows it.
    pub doc: Map<String, Value>,
}

/// The one place where events are published.
#[derive(Debug, Clone)]
pub struct Bus(broadcast::Sender<Event>);

impl Default for Bus {
    fn default() -> Self {
        Self(broadcast::channel(1_024).0)
    }
}

impl Bus {
    /// Tells all listeners; nobody listening is fine.
    pub fn publish(&self, event: Event) {
        drop(self.0.send(event));
    }

    /// Everything published from now on. A listener that falls 1,024 events behind is told how many it missed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}

impl Platform {
    /// Tells listeners of a document that is stored nowhere.
    pub fn notify(&self, instance: &Instance, doctype: &Doctype, id: &str, body: Map<String, Value>) {
        self.publish(&instance.doc(doctype, id), Happened::Notified, body);
    }
}
