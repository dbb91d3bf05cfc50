//! Outbox of document changes for `@event` triggers.
//!
//! A change that a trigger waits for is recorded in the commit that makes the change ([`Platform::commit`] does this
//! for every write), so it is not lost if the server is killed right after. The record is a separate document that is
//! due at once; the scheduler turns it into a job, or adds it to a debounce, in the commit that deletes it. Therefore
//! each change counts once, and writers of documents never conflict on a trigger that others write to.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use konnector_store::{Changes, DocRef, DocumentWrite};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::document::BY_DOCTYPE;
use super::event::{DocumentChange, raises_events};
use super::plan::TriggerPlan;
use super::step::TriggerEvent;
use crate::Result;
use crate::Triggers;
use crate::job::TriggerPayload;
use konnector_documents::doctype::{FILES, PENDING_EVENTS};
use konnector_documents::instance::Instance;
use konnector_documents::rate::RateKind as Rate;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::{Object, new_id, retry_on_conflict, to_object, without_reserved_fields};
use konnector_files::File;

/// Maximum number of ancestor directories of a file that are read; more than can be nested.
const MAX_DIRECTORIES: usize = 256;

/// A change that a trigger waits for.
#[derive(Debug, Serialize, Deserialize)]
struct PendingEvent {
    trigger: String,
    #[serde(flatten)]
    payload: TriggerPayload,
}

impl Triggers {
    /// Stages records for the triggers that wait for some of these changes.
    pub(crate) fn stage_events(&self, changes: &mut Changes) -> Result<()> {
        let mut notes = Vec::new();
        for written in changes.document_writes() {
            self.collect_pending_events(written, &mut notes)?;
        }
        for (note, body) in notes {
            changes.create(note.clone(), body);
            // Due regardless of the clock, ordered by their ids, which are ordered by time.
            changes.schedule(note, Some(DateTime::<Utc>::UNIX_EPOCH));
        }
        Ok(())
    }

    fn collect_pending_events(&self, written: DocumentWrite<'_>, notes: &mut Vec<(DocRef, Object)>) -> Result<()> {
        let DocumentWrite { document: at, previous_rev: replaces, body } = written;
        if !raises_events(&at.doctype) || at.instance.is_global() {
            return Ok(());
        }
        let doctype: &str = at.doctype.as_ref();
        let waiting = self.context.core.store().lookup_prefix(
            &at.instance,
            BY_DOCTYPE,
            &format!("{doctype}/"),
            None,
            usize::MAX,
        )?;
        if waiting.is_empty() {
            return Ok(());
        }
        let before = self.context.core.document_before(written)?;
        // A deleted document is reported with its last content.
        let (kind, doc, old) = match (body, &before, replaces) {
            (Some(body), _, None) => (ChangeKind::Created, body, None),
            (Some(body), Some(before), Some(_)) => (ChangeKind::Updated, body, Some(before)),
            (None, Some(before), _) => (ChangeKind::Deleted, before, None),
            // The commit will conflict.
            (_, None, _) => return Ok(()),
        };
        let instance = self.instance_of(at)?;
        let directories =
            if at.doctype == *FILES { self.ancestor_directories(&instance, [Some(doc), old])? } else { Vec::new() };
        let change = DocumentChange { doctype: &at.doctype, id: &at.id, kind, doc, old, directories: &directories };
        for (_, id) in waiting {
            let Ok(trigger) = self.get(&instance, &id) else { continue };
            let Ok(TriggerPlan::Event(rules)) = trigger.plan(&instance) else { continue };
            if !rules.matches(change) {
                continue;
            }
            let mut event = json!({ "domain": instance.domain, "verb": kind, "doc": event_document(at, doc) });
            if let (Some(old), Some(members)) = (old, event.as_object_mut()) {
                members.insert("old".to_owned(), json!(event_document(at, old)));
            }
            // A debounce counts changes and drops their content.
            let occasion =
                if trigger.debounce.is_some() { TriggerPayload::default() } else { TriggerPayload::from_event(&event) };
            notes.push((
                instance.doc(&PENDING_EVENTS, new_id()),
                to_object(&PendingEvent { trigger: id, payload: occasion })?,
            ));
        }
        Ok(())
    }

    /// Returns the ancestor directories of a file, of both its current and its previous version.
    fn ancestor_directories(&self, instance: &Instance, versions: [Option<&Object>; 2]) -> Result<Vec<String>> {
        let mut directories = Vec::new();
        for version in versions.into_iter().flatten() {
            let mut next = version.get("dir_id").and_then(serde_json::Value::as_str).map(str::to_owned);
            while let Some(id) = next.filter(|id| !id.is_empty() && directories.len() < MAX_DIRECTORIES) {
                let above = self.context.core.load::<File>(&instance.doc(&FILES, id.as_str()))?;
                directories.push(id);
                next = above.map(|above| above.value.dir_id);
            }
        }
        Ok(directories)
    }

    /// Returns the trigger of a record.
    pub(super) fn pending_event_trigger(&self, at: &DocRef) -> Option<String> {
        Some(self.context.core.load::<PendingEvent>(at).ok()??.value.trigger)
    }

    /// Turns a record into a job or a part of a debounce, and deletes the record.
    pub(super) async fn process_pending_event(&self, instance: &Instance, at: &DocRef) -> Result<usize> {
        let is_counted = AtomicBool::new(false);
        retry_on_conflict(|| async {
            let Some(note) = self.context.core.load::<PendingEvent>(at)? else { return Ok(0) };
            let transition = self.load_transition(instance, &note.value.trigger)?;
            let mut changes = Changes::new();
            let collected = transition.as_ref().is_none_or(|transition| transition.trigger.debounce.is_some());
            // Once, even if the commit conflicts.
            if !is_counted.load(Ordering::Relaxed)
                && !collected
                && let Err(crate::Error::RetryLater { until, .. }) =
                    self.context.core.rate_limits().check(instance, Rate::Event)
            {
                tracing::warn!(trigger = note.value.trigger, %until, "the hourly limit of events is reached; this one waits");
                changes.schedule(at.clone(), Some(until));
                self.context.core.commit(changes).await?;
                return Ok(0);
            }
            is_counted.store(true, Ordering::Relaxed);
            changes.purge(at.clone(), &note.rev);
            let applied = match transition {
                Some(transition) => {
                    let event = TriggerEvent::Received(note.value.payload);
                    Some(self.stage_transition(instance, transition, event, &mut changes)?)
                }
                None => None,
            };
            self.context.core.commit(changes).await?;
            let Some(applied) = applied else { return Ok(0) };
            self.notify_applied(instance, &applied)?;
            Ok(applied.jobs.len())
        })
        .await
    }
}

/// Returns a document as listeners see it.
fn event_document(at: &DocRef, doc: &Object) -> Object {
    let mut document = without_reserved_fields(doc.clone());
    document.insert("_id".to_owned(), json!(at.id));
    document.insert("_type".to_owned(), json!(at.doctype));
    document
}
