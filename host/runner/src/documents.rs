//! The user's documents for a run, within the manifest's rules.

mod find;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use konnector_manifest::{Doctype, Verb};
use konnector_sandbox::capability::{
    CapabilityError, Change, Document, Documents, Item, Locator, Object, Page, Query, SavedDocument,
};
use konnector_store::Changes;

use super::{RunContext, to_capability_error, to_denied_error};
use konnector_documents::doctype::{self, ACCOUNTS};
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::without_reserved_fields;
use konnector_documents::{HIDDEN_FROM_KONNECTORS_MESSAGE, is_hidden_from_konnectors};

/// Implementation of the interface `documents`.
pub struct RunDocuments(pub Arc<RunContext>);

impl RunDocuments {
    fn parse_readable(doctype: &str) -> Result<Doctype, CapabilityError> {
        let parsed: Doctype = doctype
            .parse()
            .map_err(|error| CapabilityError::Invalid(format!("'{doctype}' is not a valid doctype: {error}")))?;
        if doctype::is_readable(&parsed) && parsed != *ACCOUNTS {
            return Ok(parsed);
        }
        Err(CapabilityError::Denied(format!(
            "konnectors cannot access documents of the doctype {doctype}; use the interfaces account and files"
        )))
    }

    fn parse_writable(doctype: &str) -> Result<Doctype, CapabilityError> {
        let parsed = Self::parse_readable(doctype)?;
        if doctype::is_writable(&parsed) {
            return Ok(parsed);
        }
        Err(CapabilityError::Denied(format!("documents of the doctype {doctype} cannot be written directly")))
    }

    /// Checks that a rule allows a verb on documents of a doctype, before any document is read.
    fn check_verb(&self, verb: Verb, doctype: &Doctype) -> Result<(), CapabilityError> {
        if is_hidden_from_konnectors(verb, doctype) {
            return Err(CapabilityError::Denied(HIDDEN_FROM_KONNECTORS_MESSAGE.to_owned()));
        }
        self.0.permissions.check_any(verb, doctype).map_err(to_denied_error)
    }

    fn document_id(&self, doctype: &Doctype, locator: &Locator) -> String {
        match locator {
            Locator::Id(id) => id.clone(),
            Locator::Key(key) => self.0.id_for_key(doctype.as_ref(), key),
        }
    }

    /// Returns a stored document; `None` also for an id that is not valid.
    fn stored(&self, doctype: &Doctype, id: &str) -> Result<Option<konnector_store::Document>, CapabilityError> {
        match self.0.domain.core().store().get(&self.0.instance.doc(doctype, id)) {
            Err(konnector_store::Error::Invalid { .. } | konnector_store::Error::TooLarge { .. }) => Ok(None),
            found => found.map_err(|error| to_capability_error(error.into())),
        }
    }
}

/// Describes a locator for error messages.
fn describe_locator(doctype: &Doctype, locator: &Locator) -> String {
    match locator {
        Locator::Id(id) => format!("{doctype}/{id}"),
        Locator::Key(key) => format!("{doctype} with the key '{key}'"),
    }
}

#[async_trait]
impl Documents for RunDocuments {
    async fn get(&self, doctype: &str, locator: &Locator) -> Result<Document, CapabilityError> {
        let doctype = Self::parse_readable(doctype)?;
        let id = self.document_id(&doctype, locator);
        let Some(found) = self.stored(&doctype, &id)? else {
            self.0.permissions.check_document(Verb::Get, &doctype, &id, &Object::new()).map_err(to_denied_error)?;
            return Err(CapabilityError::NotFound(describe_locator(&doctype, locator)));
        };
        self.0.permissions.check_document(Verb::Get, &doctype, &id, &found.body).map_err(to_denied_error)?;
        Ok(to_guest_document(found))
    }

    async fn find(&self, doctype: &str, query: Query) -> Result<Page, CapabilityError> {
        let doctype = Self::parse_readable(doctype)?;
        self.check_verb(Verb::Get, &doctype)?;
        self.page(&doctype, &query).await
    }

    async fn check_save(&self, doctype: &str) -> Result<(), CapabilityError> {
        self.check_verb(Verb::Post, &Self::parse_writable(doctype)?)
    }

    async fn save(&self, doctype: &str, items: Vec<Item>) -> Result<Vec<SavedDocument>, CapabilityError> {
        let doctype = Self::parse_writable(doctype)?;
        self.check_verb(Verb::Post, &doctype)?;
        let mut keys = std::collections::HashSet::new();
        if let Some(twice) = items.iter().find(|item| !keys.insert(item.key.as_str())) {
            return Err(CapabilityError::Invalid(format!(
                "the key '{}' occurs twice; each key identifies one document",
                twice.key
            )));
        }
        self.write(&doctype, &items, |item| self.plan_item(&doctype, item)).await
    }

    async fn update(&self, doctype: &str, changes: Vec<Change>) -> Result<Vec<SavedDocument>, CapabilityError> {
        let doctype = Self::parse_writable(doctype)?;
        self.check_verb(Verb::Put, &doctype)?;
        let mut ids = std::collections::HashSet::new();
        if let Some(twice) = changes.iter().find(|change| !ids.insert(self.document_id(&doctype, &change.locator))) {
            return Err(CapabilityError::Invalid(format!(
                "two changes apply to {}; combine them into one",
                describe_locator(&doctype, &twice.locator)
            )));
        }
        self.write(&doctype, &changes, |change| self.plan_change(&doctype, change)).await
    }

    async fn delete(&self, doctype: &str, locators: Vec<Locator>) -> Result<u32, CapabilityError> {
        let scope = &self.0;
        let doctype = Self::parse_writable(doctype)?;
        self.check_verb(Verb::Delete, &doctype)?;
        let mut changes = Changes::new();
        let mut deleted = Vec::new();
        let mut ids = std::collections::HashSet::new();
        for id in locators.iter().map(|locator| self.document_id(&doctype, locator)).filter(|id| ids.insert(id.clone()))
        {
            if let Some(found) = self.stored(&doctype, &id)? {
                scope.permissions.check_document(Verb::Delete, &doctype, &id, &found.body).map_err(to_denied_error)?;
                let document = scope.instance.doc(&doctype, id);
                changes.delete(document.clone(), &found.rev);
                deleted.push((document, found.body));
            }
        }
        scope.domain.core().commit(changes).await.map_err(to_capability_error)?;
        let count = deleted.len();
        for (document, body) in deleted {
            scope.domain.core().publish(&document, ChangeKind::Deleted, body);
        }
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// Converts a document to the form that the guest sees.
fn to_guest_document(found: konnector_store::Document) -> Document {
    Document { id: found.id, rev: found.rev.to_string(), body: without_reserved_fields(found.body) }
}
