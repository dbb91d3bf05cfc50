//! The user's documents, for a run. Writes are keyed: a natural key stands for one id, so saving again what is there changes nothing.

use std::sync::Arc;

use async_trait::async_trait;
use konnector_manifest::{Doctype, Verb};
use konnector_sandbox::capability::{Document, Documents, Error, Item, Object, Page, Saved, Written};
use konnector_store::{Changes, Rev};
use serde_json::json;

use super::{Scope, denied, told};
use crate::Platform;
use crate::doctype::{self, ACCOUNTS};
use crate::realtime::Happened;
use crate::stored::public;

/// How many items one call may save.
const MOST_ITEMS: usize = 500;
/// How often a batch is tried again when somebody else changed one of its documents.
const TRIES: usize = 4;

/// The interface `documents`.
pub struct RunDocuments(pub Arc<Scope>);

/// One item with what is there already.
struct Planned {
    id: String,
    body: Object,
    before: Option<Rev>,
    written: Written,
}

impl RunDocuments {
    fn readable(doctype: &str) -> Result<Doctype, Error> {
        let parsed: Doctype =
            doctype.parse().map_err(|error| Error::Invalid(format!("'{doctype}' is no document type: {error}")))?;
        if doctype::is_readable(&parsed) && parsed != *ACCOUNTS {
            return Ok(parsed);
        }
        Err(Error::Denied(format!(
            "documents of the type {doctype} are not for konnectors; use the interfaces account and files"
        )))
    }

    fn writable(doctype: &str) -> Result<Doctype, Error> {
        let parsed = Self::readable(doctype)?;
        if doctype::is_writable(&parsed) {
            return Ok(parsed);
        }
        Err(Error::Denied(format!("documents of the type {doctype} cannot be written directly")))
    }

    /// What saving an item means, given what is there.
    fn plan(&self, doctype: &Doctype, item: &Item) -> Result<Planned, Error> {
        let scope = &self.0;
        let id = scope.keyed_id(doctype.as_ref(), &item.key);
        let wanted = public(item.body.clone());
        let found =
            scope.platform.store.get(&scope.instance.doc(doctype, id.as_str())).map_err(|error| told(error.into()))?;
        let Some(found) = found else {
            scope.permissions.check_document(Verb::Post, doctype, &id, &wanted).map_err(denied)?;
            let mut body = wanted;
            body.insert("cozyMetadata".to_owned(), self.metadata());
            return Ok(Planned { id, body, before: None, written: Written::Created });
        };
        if Platform::matching(&found.body, &wanted) {
            return Ok(Planned { id, body: found.body, before: Some(found.rev), written: Written::Unchanged });
        }
        scope.permissions.check_document(Verb::Put, doctype, &id, &found.body).map_err(denied)?;
        let mut body = found.body;
        body.extend(wanted);
        scope.permissions.check_document(Verb::Put, doctype, &id, &body).map_err(denied)?;
        let now = scope.platform.clock.now();
        if let Some(metadata) = body.get_mut("cozyMetadata").and_then(serde_json::Value::as_object_mut) {
            metadata.insert("updatedAt".to_owned(), json!(now));
        }
        Ok(Planned { id, body, before: Some(found.rev), written: Written::Updated })
    }

    fn metadata(&self) -> serde_json::Value {
        let now = self.0.platform.clock.now();
        let mut metadata = crate::file::made(now, &self.0.instance.domain);
        metadata.extend(self.0.origin());
        metadata.insert(
            "updatedByApps".to_owned(),
            json!([{ "slug": self.0.konnector.slug, "version": self.0.konnector.version, "date": now }]),
        );
        json!(metadata)
    }

    async fn try_save(&self, doctype: &Doctype, items: &[Item]) -> Result<Option<Vec<Saved>>, Error> {
        let scope = &self.0;
        let planned = items.iter().map(|item| self.plan(doctype, item)).collect::<Result<Vec<_>, _>>()?;
        let mut changes = Changes::new();
        scope.fence(&mut changes);
        for plan in &planned {
            let at = scope.instance.doc(doctype, plan.id.as_str());
            match (&plan.before, plan.written) {
                (_, Written::Unchanged) => {}
                (None, _) => {
                    changes.create(at, plan.body.clone());
                }
                (Some(rev), _) => {
                    changes.put(at, rev, plan.body.clone());
                }
            }
        }
        let revs = match scope.platform.store.commit(changes).await {
            Ok(revs) => revs,
            Err(error) if error.is_conflict() => return Ok(None),
            Err(error) => return Err(told(error.into())),
        };
        let mut revs = revs.into_iter();
        let mut saved = Vec::with_capacity(planned.len());
        for plan in planned {
            let rev = match plan.written {
                Written::Unchanged => plan.before,
                Written::Created | Written::Updated => revs.next(),
            };
            if plan.written != Written::Unchanged {
                let happened = if plan.written == Written::Created { Happened::Created } else { Happened::Updated };
                scope.platform.publish(&scope.instance.doc(doctype, plan.id.as_str()), happened, plan.body);
            }
            saved.push(Saved {
                id: plan.id,
                rev: rev.map(|rev| rev.to_string()).unwrap_or_default(),
                written: plan.written,
            });
        }
        Ok(Some(saved))
    }
}

#[async_trait]
impl Documents for RunDocuments {
    async fn get(&self, doctype: &str, id: &str) -> Result<Document, Error> {
        let scope = &self.0;
        let doctype = Self::readable(doctype)?;
        let found = scope.platform.store.get(&scope.instance.doc(&doctype, id)).map_err(|error| told(error.into()))?;
        let Some(found) = found else {
            scope.permissions.check_document(Verb::Get, &doctype, id, &Object::new()).map_err(denied)?;
            return Err(Error::NotFound(format!("{doctype}/{id}")));
        };
        scope.permissions.check_document(Verb::Get, &doctype, id, &found.body).map_err(denied)?;
        Ok(Document { id: found.id, rev: found.rev.to_string(), body: public(found.body) })
    }

    async fn query(&self, doctype: &str, selector: Object, limit: u32, cursor: Option<String>) -> Result<Page, Error> {
        let scope = &self.0;
        let doctype = Self::readable(doctype)?;
        if !scope.permissions.allows_any(Verb::Get, &doctype) {
            scope.permissions.check_type(Verb::Get, &doctype).map_err(denied)?;
        }
        let limit = limit.clamp(1, 1_000) as usize;
        let mut items = Vec::new();
        let mut after = cursor;
        loop {
            let page = scope
                .platform
                .store
                .list(&scope.instance.id, &doctype, after.as_deref(), 500)
                .map_err(|error| told(error.into()))?;
            if page.is_empty() {
                return Ok(Page { items, next: None });
            }
            for document in page {
                after = Some(document.id.clone());
                let allowed = scope.permissions.allows_document(Verb::Get, &doctype, &document.id, &document.body);
                if allowed && Platform::matching(&document.body, &selector) {
                    items.push(Document {
                        id: document.id,
                        rev: document.rev.to_string(),
                        body: public(document.body),
                    });
                    if items.len() == limit {
                        return Ok(Page { items, next: after });
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn save(&self, doctype: &str, items: Vec<Item>) -> Result<Vec<Saved>, Error> {
        let doctype = Self::writable(doctype)?;
        if !self.0.permissions.allows_any(Verb::Post, &doctype) {
            self.0.permissions.check_type(Verb::Post, &doctype).map_err(denied)?;
        }
        if items.len() > MOST_ITEMS {
            return Err(Error::Invalid(format!(
                "{} items are too many for one call; save at most {MOST_ITEMS} at a time",
                items.len()
            )));
        }
        let mut keys = std::collections::HashSet::new();
        if let Some(twice) = items.iter().find(|item| !keys.insert(item.key.as_str())) {
            return Err(Error::Invalid(format!("the key '{}' occurs twice; a key stands for one document", twice.key)));
        }
        for _ in 0..TRIES {
            if let Some(saved) = self.try_save(&doctype, &items).await? {
                return Ok(saved);
            }
        }
        Err(Error::Conflict(format!("documents of the type {doctype} are being changed by somebody else")))
    }

    async fn delete(&self, doctype: &str, keys: Vec<String>) -> Result<u32, Error> {
        let scope = &self.0;
        let doctype = Self::writable(doctype)?;
        if !scope.permissions.allows_any(Verb::Delete, &doctype) {
            scope.permissions.check_type(Verb::Delete, &doctype).map_err(denied)?;
        }
        let mut changes = Changes::new();
        scope.fence(&mut changes);
        let mut deleted = Vec::new();
        for key in keys {
            let at = scope.instance.doc(&doctype, scope.keyed_id(doctype.as_ref(), &key));
            if let Some(found) = scope.platform.store.get(&at).map_err(|error| told(error.into()))? {
                scope.permissions.check_document(Verb::Delete, &doctype, &at.id, &found.body).map_err(denied)?;
                changes.delete(at.clone(), &found.rev);
                deleted.push((at, found.body));
            }
        }
        scope.platform.store.commit(changes).await.map_err(|error| told(error.into()))?;
        let count = deleted.len();
        for (at, body) in deleted {
            scope.platform.publish(&at, Happened::Deleted, body);
        }
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
