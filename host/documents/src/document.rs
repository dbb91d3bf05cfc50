//! The user's JSON documents, as `/data` reads and writes them: CouchDB's revisions and conflicts, the permission
//! rules, and the [rules](crate::hook::DocumentRule) of doctypes that have some.

use konnector_manifest::{Doctype, Verb};
use konnector_store::{Changes, DocRef, Document, DocumentStamp, InstanceId, Rev, Seq};
use serde_json::Value;

use crate::doctype;
use crate::handles::Documents;
use crate::hook::DocumentUpdate;
use crate::instance::Instance;
use crate::principal::Principal;
use crate::realtime::ChangeKind;
use crate::stored::{Object, new_id, retry_on_conflict, without_reserved_fields};
use crate::{Error, Result};

/// Why `/data` found nothing, in CouchDB's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingReason {
    /// The document never existed.
    Never,
    /// The document was deleted.
    Deleted,
    /// No document of this doctype exists.
    Doctype,
}

impl MissingReason {
    /// Returns CouchDB's term.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "missing",
            Self::Deleted => "deleted",
            Self::Doctype => "wrong_doctype",
        }
    }
}

/// Maximum number of documents on a page, which is held in memory.
const MAX_PAGE_SIZE: usize = 1_000;

/// One page of the documents of a doctype.
#[derive(Debug, Clone)]
pub struct DocumentPage {
    /// The documents, without the platform's reserved fields.
    pub documents: Vec<Document>,
    /// Id after which the next page starts.
    pub next: Option<String>,
}

impl DocumentPage {
    /// Lists never show secrets to anyone (cozy-stack, account documents).
    fn listed(page: konnector_store::ListPage) -> Self {
        let konnector_store::ListPage { documents, has_more: more } = page;
        let next = documents.last().filter(|_| more).map(|document| document.id.clone());
        let documents = documents
            .into_iter()
            .map(|Document { id, rev, body }| Document { id, rev, body: without_reserved_fields(body) })
            .collect();
        Self { documents, next }
    }
}

/// Rejects doctypes that `/data` may not read.
///
/// # Errors
///
/// [`Error::Forbidden`].
pub fn check_readable(doctype: &Doctype) -> Result<()> {
    if doctype::is_readable(doctype) {
        Ok(())
    } else {
        // Cozy's text.
        Err(Error::Forbidden(format!("reserved doctype {doctype} unreadable")))
    }
}

/// Rejects doctypes that `/data` may not write.
///
/// # Errors
///
/// [`Error::Forbidden`].
pub fn check_writable(doctype: &Doctype) -> Result<()> {
    if doctype::is_writable(doctype) {
        Ok(())
    } else {
        // Cozy's text.
        Err(Error::Forbidden(format!("reserved doctype {doctype} unwritable")))
    }
}

pub fn check_document_id(id: &str) -> Result<()> {
    if id.is_empty() || id.starts_with('_') || id.len() > 200 || id.chars().any(char::is_control) {
        return Err(Error::BadRequest(format!(
            "the id '{id}' is not valid; an id has 1 to 200 characters and does not begin with _"
        )));
    }
    Ok(())
}

impl Documents {
    /// Returns a document, as this principal may see it.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] by the doctype or the rules; [`Error::NotFound`] with CouchDB's reason as text.
    pub fn read(&self, instance: &Instance, principal: &Principal, doctype: &Doctype, id: &str) -> Result<Document> {
        check_readable(doctype)?;
        check_document_id(id)?;
        let document = match self.read_allowed(principal, Verb::Get, &instance.doc(doctype, id)) {
            Err(Error::NotFound(reason)) => {
                let deleted = self.core.rule(doctype).find_deleted(&self.core, instance, principal, id)?;
                let deleted = deleted.ok_or(Error::NotFound(reason))?;
                principal.check_document(Verb::Get, doctype, id, &deleted.body)?;
                deleted
            }
            found => found?,
        };
        self.view(instance, principal, doctype, document)
    }

    /// Returns a document if the rules allow this verb on it. Does not reveal the document's existence to callers
    /// without read access.
    fn read_allowed(&self, principal: &Principal, verb: Verb, at: &DocRef) -> Result<Document> {
        let found = self.core.store().get(at)?;
        let nothing = Object::new();
        let body = found.as_ref().map_or(&nothing, |document| &document.body);
        principal.check_document(verb, &at.doctype, &at.id, body)?;
        match found {
            Some(document) => Ok(document),
            None => Err(Error::NotFound(self.missing_reason(at)?.as_str().to_owned())),
        }
    }

    fn missing_reason(&self, at: &DocRef) -> Result<MissingReason> {
        if self.core.store().was_deleted(at)? {
            return Ok(MissingReason::Deleted);
        }
        Ok(if self.doctype_exists(&at.instance, &at.doctype)? { MissingReason::Never } else { MissingReason::Doctype })
    }

    /// Returns whether documents of a doctype were ever written, or indexed, since the doctype was last deleted as a
    /// whole.
    pub fn doctype_exists(&self, instance: &InstanceId, doctype: &Doctype) -> Result<bool> {
        let changed = self.core.store().count_changes(instance, doctype, &Seq::default(), 1)? > 0;
        Ok(changed || !self.core.store().list_indexes(instance, doctype)?.is_empty())
    }

    /// Removes the platform's reserved fields, and shows what only this principal may see.
    fn view(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        mut document: Document,
    ) -> Result<Document> {
        self.core.rule(doctype).reveal(&self.core, instance, principal, &mut document)?;
        let Document { id, rev, body } = document;
        Ok(Document { id, rev, body: without_reserved_fields(body) })
    }

    /// Lists the doctypes that have documents.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn doctypes(&self, instance: &Instance) -> Result<Vec<Doctype>> {
        Ok(self.core.store().doctypes(&instance.id)?.into_iter().filter(doctype::is_readable).collect())
    }

    /// Returns a page of the documents of a doctype, in the order of their ids. `limit` is 1 to 1,000.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] without a rule on the whole doctype.
    pub fn list(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DocumentPage> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        Ok(DocumentPage::listed(self.core.store().page(&instance.id, doctype, after, limit.clamp(1, MAX_PAGE_SIZE))?))
    }

    /// Like [`Documents::list`], in descending order from the last id, or from the id before `before`.
    ///
    /// # Errors
    ///
    /// As [`Documents::list`].
    pub fn list_back(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        before: Option<&str>,
        limit: usize,
    ) -> Result<DocumentPage> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        Ok(DocumentPage::listed(self.core.store().page_backward(
            &instance.id,
            doctype,
            before,
            limit.clamp(1, MAX_PAGE_SIZE),
        )?))
    }

    /// Returns a document with the platform's reserved fields and without checking permissions, because the caller
    /// decides who may see what.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn get_unchecked(&self, doc_ref: &DocRef) -> Result<Option<Document>> {
        Ok(self.core.store().get(doc_ref)?)
    }

    /// Returns the id after which a page begins that skips this many documents, or `None` if the list ends before that.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn skip(
        &self,
        instance: &Instance,
        doctype: &Doctype,
        after: Option<&str>,
        count: usize,
    ) -> Result<Option<String>> {
        Ok(self.core.store().skip_documents(&instance.id, doctype, after, count).await?)
    }

    /// Returns a stamp that changes with each write of a document, for a
    /// [`RevalidatingCache`](crate::revalidating_cache::RevalidatingCache); `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn stamp(&self, doc_ref: &DocRef) -> Result<Option<DocumentStamp>> {
        Ok(self.core.store().stamp(doc_ref)?)
    }

    /// Returns the number of writes to the whole store so far, or `None` if the store cannot determine it.
    #[must_use]
    pub fn write_count(&self) -> Option<u64> {
        self.core.store().write_count()
    }

    /// Counts the documents of a doctype.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] without a rule on the whole doctype.
    pub async fn count(&self, instance: &Instance, principal: &Principal, doctype: &Doctype) -> Result<usize> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        Ok(self.core.store().count(&instance.id, doctype).await?)
    }

    /// Returns a document as lists show it, without secrets for any caller; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] without a rule on the whole doctype.
    pub fn read_without_secrets(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        id: &str,
    ) -> Result<Option<Document>> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        if check_document_id(id).is_err() {
            return Ok(None);
        }
        let found = self.core.store().get(&instance.doc(doctype, id))?;
        Ok(found.map(|Document { id, rev, body }| Document { id, rev, body: without_reserved_fields(body) }))
    }

    /// Deletes every document of a doctype. The triggers of deleted accounts are deleted too.
    ///
    /// Cancel safety: documents deleted so far stay deleted; the others still exist.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] by the doctype, or without a rule on the whole doctype.
    pub async fn delete_all(&self, instance: &Instance, principal: &Principal, doctype: &Doctype) -> Result<()> {
        check_writable(doctype)?;
        principal.check_type(Verb::Delete, doctype)?;
        let mut after: Option<String> = None;
        loop {
            let page = self.core.store().page(&instance.id, doctype, after.as_deref(), 100)?.documents;
            let Some(last) = page.last() else {
                // A deleted database has neither indexes nor tombstones.
                self.delete_designs(instance, doctype).await?;
                return Ok(self.core.store().purge_tombstones(&instance.id, doctype).await?);
            };
            after = Some(last.id.clone());
            for document in page {
                match self.delete(instance, principal, doctype, &document.id, &document.rev).await {
                    // It was changed or deleted concurrently, so it is no longer the listed document.
                    Ok(_) | Err(Error::Conflict(_) | Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Creates a document under a new id, or under `id` if the client chose one.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] by the doctype or the rules, [`Error::Conflict`] if the id is taken.
    pub async fn create(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        id: Option<String>,
        body: Object,
    ) -> Result<Document> {
        self.create_with_rev(instance, principal, doctype, id.unwrap_or_else(new_id), body, None).await
    }

    /// Like [`Documents::create`], with a revision of another database.
    pub async fn create_with_rev(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        id: String,
        body: Object,
        given: Option<&Rev>,
    ) -> Result<Document> {
        check_writable(doctype)?;
        check_document_id(&id)?;
        let mut body = without_reserved_fields(body);
        principal.check_document(Verb::Post, doctype, &id, &body)?;
        self.core.rule(doctype).prepare_create(&self.core, instance, principal, &id, &mut body)?;
        let at = instance.doc(doctype, id.as_str());
        let mut changes = Changes::new();
        changes.create(at.clone(), body.clone());
        if let Some(given) = given {
            changes.with_rev(given);
        }
        let rev = self.core.commit_one(changes).await?;
        self.core.publish(&at, ChangeKind::Created, body.clone());
        self.view(instance, principal, doctype, Document { id, rev, body })
    }

    /// Replaces a document. The platform's reserved fields stay.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if `rev` is not the newest revision, [`Error::NotFound`] if it does not exist.
    pub async fn update(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        id: &str,
        rev: &Rev,
        body: Object,
    ) -> Result<Document> {
        self.update_with_rev(instance, principal, doctype, (id, rev), body, None).await
    }

    /// Like [`Documents::update`], with a revision of another database.
    pub async fn update_with_rev(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        (id, rev): (&str, &Rev),
        body: Object,
        given: Option<&Rev>,
    ) -> Result<Document> {
        check_writable(doctype)?;
        check_document_id(id)?;
        let at = instance.doc(doctype, id);
        let mut body = without_reserved_fields(body);
        let Some(before) = self.core.store().get(&at)? else {
            principal.check_document(Verb::Put, doctype, id, &body)?;
            return Err(Error::NotFound(self.missing_reason(&at)?.as_str().to_owned()));
        };
        // The rules must allow both the former document and the new one.
        principal.check_document(Verb::Put, doctype, id, &before.body)?;
        principal.check_document(Verb::Put, doctype, id, &body)?;
        let rule = self.core.rule(doctype);
        rule.prepare_update(&self.core, instance, principal, &before, &mut body)?;
        // Another document of the commit, for example a trigger of the account, may change concurrently.
        let rev = retry_on_conflict(|| async {
            let mut changes = Changes::new();
            changes.put(at.clone(), rev, body.clone());
            if let Some(given) = given {
                changes.with_rev(given);
            }
            let update = DocumentUpdate::new(&before, &body, given);
            rule.stage_update(&self.core, instance, principal, update, &mut changes)?;
            self.core.commit_one(changes).await
        })
        .await?;
        self.core.publish(&at, ChangeKind::Updated, body.clone());
        self.view(instance, principal, doctype, Document { id: id.to_owned(), rev, body })
    }

    /// Deletes a document; returns the revision of its tombstone. The triggers of an account are deleted with it, and
    /// its konnector cleans up at the vendor if it can.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if `rev` is not the newest revision, [`Error::NotFound`] if it does not exist.
    pub async fn delete(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        id: &str,
        rev: &Rev,
    ) -> Result<Rev> {
        self.delete_with_rev(instance, principal, doctype, (id, rev), None).await
    }

    /// Like [`Documents::delete`], with a revision of another database.
    pub async fn delete_with_rev(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        (id, rev): (&str, &Rev),
        given: Option<&Rev>,
    ) -> Result<Rev> {
        check_writable(doctype)?;
        check_document_id(id)?;
        let at = instance.doc(doctype, id);
        let before = self.read_allowed(principal, Verb::Delete, &at)?;
        let rule = self.core.rule(doctype);
        rule.check_delete(principal, &before)?;
        let mut changes = Changes::new();
        changes.delete(at.clone(), rev);
        if let Some(given) = given {
            changes.with_rev(given);
        }
        let after_commit = rule.stage_delete(&self.core, instance, &before, &mut changes)?;
        let rev = self.core.commit_one(changes).await?;
        self.core.publish(&at, ChangeKind::Deleted, before.body);
        if let Some(work) = after_commit {
            work.await?;
        }
        Ok(rev)
    }

    /// Returns whether the top-level fields of a document equal those of the selector.
    pub fn matches_selector(body: &Object, selector: &Object) -> bool {
        selector.iter().all(|(name, wanted)| body.get(name).unwrap_or(&Value::Null) == wanted)
    }
}
