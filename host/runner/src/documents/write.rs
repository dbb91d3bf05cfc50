//! Writes of documents, planned from the current state, committed atomically, and planned again after a conflict.

use konnector_manifest::json_budget::heap_bytes;
use konnector_manifest::{Doctype, Verb};
use konnector_sandbox::capability::{CapabilityError, Change, Item, Object, SaveOutcome, SavedDocument};
use konnector_store::{Changes, Document, Rev};
use serde_json::{Value, json};

use super::{RunDocuments, describe_locator, to_capability_error, to_denied_error};
use konnector_documents::Documents;
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::without_reserved_fields;

/// Maximum number of attempts of a batch after conflicts on its documents.
const MAX_ATTEMPTS: usize = 4;

/// Maximum memory in bytes of the stored documents of one call, not counting the first. The guest's input is bounded by
/// its [`JsonBudget`](konnector_manifest::json_budget::JsonBudget), but a small change may apply to a large document.
const MAX_STORED_BYTES: usize = 8 << 20;
/// Number of bytes of documents that are processed between two yields.
const YIELD_BYTES: usize = 1 << 20;

/// A planned write of one document.
pub(super) struct PlannedWrite {
    id: String,
    body: Object,
    /// The revision in the store.
    current_rev: Option<Rev>,
    written: SaveOutcome,
}

impl RunDocuments {
    /// Plans the write of an item, based on the stored document.
    pub(super) fn plan_item(&self, doctype: &Doctype, item: &Item) -> Result<PlannedWrite, CapabilityError> {
        let id = self.0.id_for_key(doctype.as_ref(), &item.key);
        let wanted = without_reserved_fields(item.body.clone());
        match self.stored(doctype, &id)? {
            Some(found) => self.plan_update(doctype, found, wanted),
            None => {
                self.0.permissions.check_document(Verb::Post, doctype, &id, &wanted).map_err(to_denied_error)?;
                let mut body = wanted;
                body.insert("cozyMetadata".to_owned(), self.metadata());
                Ok(PlannedWrite { id, body, current_rev: None, written: SaveOutcome::Created })
            }
        }
    }

    /// Plans the write of a change, based on the stored document.
    pub(super) fn plan_change(&self, doctype: &Doctype, change: &Change) -> Result<PlannedWrite, CapabilityError> {
        let id = self.document_id(doctype, &change.locator);
        let Some(found) = self.stored(doctype, &id)? else {
            self.0.permissions.check_document(Verb::Put, doctype, &id, &Object::new()).map_err(to_denied_error)?;
            return Err(CapabilityError::NotFound(describe_locator(doctype, &change.locator)));
        };
        self.0.permissions.check_document(Verb::Put, doctype, &id, &found.body).map_err(to_denied_error)?;
        if change.rev.as_ref().is_some_and(|rev| *rev != found.rev.to_string()) {
            return Err(CapabilityError::Conflict(format!(
                "{} is at revision {}; read it again",
                describe_locator(doctype, &change.locator),
                found.rev
            )));
        }
        self.plan_update(doctype, found, without_reserved_fields(change.body.clone()))
    }

    fn plan_update(&self, doctype: &Doctype, found: Document, wanted: Object) -> Result<PlannedWrite, CapabilityError> {
        let permissions = &self.0.permissions;
        let Document { id, rev, mut body } = found;
        if Documents::matches_selector(&body, &wanted) {
            return Ok(PlannedWrite {
                id,
                body: Object::new(),
                current_rev: Some(rev),
                written: SaveOutcome::Unchanged,
            });
        }
        // The rules must allow both the old and the new content.
        permissions.check_document(Verb::Put, doctype, &id, &body).map_err(to_denied_error)?;
        body.extend(wanted);
        permissions.check_document(Verb::Put, doctype, &id, &body).map_err(to_denied_error)?;
        if let Some(metadata) = body.get_mut("cozyMetadata").and_then(Value::as_object_mut) {
            metadata.insert("updatedAt".to_owned(), json!(self.0.domain.core().clock().now()));
        }
        Ok(PlannedWrite { id, body, current_rev: Some(rev), written: SaveOutcome::Updated })
    }

    fn metadata(&self) -> Value {
        let now = self.0.domain.core().clock().now();
        let mut metadata = konnector_files::new_cozy_metadata(now, &self.0.instance.domain);
        metadata.extend(self.0.provenance());
        metadata.insert(
            "updatedByApps".to_owned(),
            json!([{ "slug": self.0.konnector.slug, "version": self.0.konnector.version, "date": now }]),
        );
        json!(metadata)
    }

    /// Writes all items or none.
    pub(super) async fn write<T: Sync>(
        &self,
        doctype: &Doctype,
        items: &[T],
        plan: impl Fn(&T) -> Result<PlannedWrite, CapabilityError> + Send + Sync,
    ) -> Result<Vec<SavedDocument>, CapabilityError> {
        for _ in 0..MAX_ATTEMPTS {
            let planned = plan_all(items, &plan).await?;
            if let Some(saved) = self.commit(doctype, planned).await? {
                return Ok(saved);
            }
        }
        Err(CapabilityError::Conflict(format!(
            "documents of the doctype {doctype} are being changed concurrently; try again"
        )))
    }

    /// Commits planned writes; returns `None` on a conflict.
    async fn commit(
        &self,
        doctype: &Doctype,
        planned: Vec<PlannedWrite>,
    ) -> Result<Option<Vec<SavedDocument>>, CapabilityError> {
        let scope = &self.0;
        let mut changes = Changes::new();
        for plan in &planned {
            let document = scope.instance.doc(doctype, plan.id.as_str());
            match (&plan.current_rev, plan.written) {
                (_, SaveOutcome::Unchanged) => {}
                (None, _) => {
                    changes.create(document, plan.body.clone());
                }
                (Some(before), _) => {
                    changes.put(document, before, plan.body.clone());
                }
            }
            // Each document is serialised to JSON here.
            tokio::task::yield_now().await;
        }
        let revs = match scope.domain.core().commit(changes).await {
            Ok(revs) => revs,
            Err(error) if error.is_conflict() => return Ok(None),
            Err(error) => return Err(to_capability_error(error)),
        };
        let mut revs = revs.into_iter();
        let mut saved = Vec::with_capacity(planned.len());
        for plan in planned {
            let rev = match plan.written {
                SaveOutcome::Unchanged => plan.current_rev,
                SaveOutcome::Created | SaveOutcome::Updated => revs.next(),
            };
            if plan.written != SaveOutcome::Unchanged {
                let happened =
                    if plan.written == SaveOutcome::Created { ChangeKind::Created } else { ChangeKind::Updated };
                scope.domain.core().publish(&scope.instance.doc(doctype, plan.id.as_str()), happened, plan.body);
            }
            saved.push(SavedDocument {
                id: plan.id,
                rev: rev.map(|rev| rev.to_string()).unwrap_or_default(),
                outcome: plan.written,
            });
        }
        Ok(Some(saved))
    }
}

/// Plans all items, within [`MAX_STORED_BYTES`].
async fn plan_all<T: Sync>(
    items: &[T],
    plan: &(impl Fn(&T) -> Result<PlannedWrite, CapabilityError> + Send + Sync),
) -> Result<Vec<PlannedWrite>, CapabilityError> {
    let mut planned = Vec::with_capacity(items.len());
    let (mut stored, mut portion) = (0, 0);
    for item in items {
        let plan = plan(item)?;
        let heap = heap_bytes(&plan.body);
        if plan.current_rev.is_some() {
            if stored > 0 && stored + heap > MAX_STORED_BYTES {
                return Err(CapabilityError::Invalid(format!(
                    "the stored documents take more than {} MiB in total; change fewer at a time",
                    MAX_STORED_BYTES >> 20
                )));
            }
            stored += heap;
        }
        portion += heap;
        if portion > YIELD_BYTES {
            portion = 0;
            tokio::task::yield_now().await;
        }
        planned.push(plan);
    }
    Ok(planned)
}
