//! Subscriptions of one websocket.

use std::collections::HashSet;
use std::sync::Arc;

use konnector_manifest::{Doctype, Verb};
use konnector_platform::Platform;
use konnector_platform::doctype::FILES;
use konnector_platform::instance::Instance;
use konnector_platform::principal::Principal;
use konnector_platform::realtime::RealtimeEvent;
use konnector_store::Map;

use super::protocol::{RealtimeError, Topic};

/// Maximum number of topics of one websocket.
const MAX_TOPICS: usize = 1_000;
/// Maximum total size of the topics of one websocket in bytes.
const MAX_TOPICS_SIZE: usize = 64 << 10;

/// Topics of a websocket whose client has authenticated.
pub struct Subscriptions {
    platform: Platform,
    instance: Arc<Instance>,
    principal: Principal,
    topics: HashSet<Topic>,
    /// Total size of the topics in bytes.
    size: usize,
}

impl Subscriptions {
    pub fn new(platform: Platform, instance: Arc<Instance>, principal: Principal) -> Self {
        Self { platform, instance, principal, topics: HashSet::new(), size: 0 }
    }

    /// Adds a topic, if the rules permit reading its documents.
    pub fn add(&mut self, topic: Topic) -> Result<(), RealtimeError> {
        let doctype: Doctype =
            topic.doctype.parse().map_err(|_| RealtimeError::InvalidDoctype(topic.doctype.clone()))?;
        if !self.may_read(&doctype, topic.id.as_deref()) {
            return Err(RealtimeError::Forbidden(topic.doctype));
        }
        if self.topics.contains(&topic) {
            return Ok(());
        }
        let size = self.size + topic.size();
        if self.topics.len() >= MAX_TOPICS || size > MAX_TOPICS_SIZE {
            return Err(RealtimeError::TooManyTopics(MAX_TOPICS));
        }
        self.size = size;
        self.topics.insert(topic);
        Ok(())
    }

    pub fn remove(&mut self, topic: &Topic) {
        if self.topics.remove(topic) {
            self.size -= topic.size();
        }
    }

    /// Returns whether an event matches one of the topics.
    pub fn matches(&self, event: &RealtimeEvent) -> bool {
        let topic = |id: Option<&str>| Topic { doctype: event.doctype.to_string(), id: id.map(str::to_owned) };
        event.instance == self.instance.id
            && (self.topics.contains(&topic(None)) || self.topics.contains(&topic(Some(&event.id))))
    }

    fn may_read(&self, doctype: &Doctype, id: Option<&str>) -> bool {
        let rules = &self.principal.permissions;
        if rules.allows_type(Verb::Get, doctype) {
            return true;
        }
        let Some(id) = id else { return false };
        if *doctype == *FILES {
            let file = self.platform.files().get(&self.instance, id);
            return file.is_ok_and(|file| {
                self.platform.files().is_allowed(&self.instance, rules, &[Verb::Get], &file).unwrap_or_default()
            });
        }
        let found = self.platform.documents().get_unchecked(&self.instance.doc(doctype, id)).ok().flatten();
        let body = found.map_or_else(Map::new, |document| document.body);
        rules.allows_document(Verb::Get, doctype, id, &body)
    }
}
