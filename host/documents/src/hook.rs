//! Extension points through which higher layers take part in commits and in the documents that they own, so that this
//! crate knows none of them.
//!
//! A hook holds the state of its layer, not a [`Core`]: each call passes the core, with the lease of the caller.

use async_trait::async_trait;
use konnector_store::{Changes, Document, Rev};

use crate::instance::Instance;
use crate::principal::Principal;
use crate::stored::{Object, carry_reserved_fields};
use crate::{Core, Result};

/// Takes part in every commit.
pub trait CommitHook: Send + Sync {
    /// Adds the effects of the written documents to `changes`. Returns a guard if the commit needs one.
    ///
    /// # Errors
    ///
    /// If the changes are not allowed; nothing is committed then.
    fn stage(&self, core: &Core, changes: &mut Changes) -> Result<Option<Box<dyn CommitGuard>>>;
}

/// Surrounds a commit: holds locks, and counts the effects once they are durable. Dropping it without
/// [`CommitGuard::committed`] undoes what it counted.
#[async_trait]
pub trait CommitGuard: Send {
    /// Acquires what the commit needs, and checks again what may have changed since the changes were staged.
    ///
    /// # Errors
    ///
    /// If the changes are not allowed; nothing is committed then.
    async fn begin(&mut self, core: &Core) -> Result<()>;

    /// Records that the commit is durable.
    fn committed(self: Box<Self>);
}

/// Work that follows a durable commit.
pub type AfterCommit = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Rules of one doctype: what `/data` checks, seals, shows and deletes besides the document itself.
pub trait DocumentRule: Send + Sync {
    /// Returns a deleted document that this principal may still read.
    ///
    /// # Errors
    ///
    /// If the store fails.
    fn find_deleted(
        &self,
        _core: &Core,
        _instance: &Instance,
        _principal: &Principal,
        _id: &str,
    ) -> Result<Option<Document>> {
        Ok(None)
    }

    /// Shows in a document what only this principal may see.
    ///
    /// # Errors
    ///
    /// If the hidden parts cannot be read.
    fn reveal(
        &self,
        _core: &Core,
        _instance: &Instance,
        _principal: &Principal,
        _document: &mut Document,
    ) -> Result<()> {
        Ok(())
    }

    /// Checks and completes a document before its creation.
    ///
    /// # Errors
    ///
    /// If this principal may not create it.
    fn prepare_create(
        &self,
        _core: &Core,
        _instance: &Instance,
        _principal: &Principal,
        _id: &str,
        _body: &mut Object,
    ) -> Result<()> {
        Ok(())
    }

    /// Checks and completes the new content of a document. Carries over the reserved fields that stay valid.
    ///
    /// # Errors
    ///
    /// If this principal may not make this change.
    fn prepare_update(
        &self,
        _core: &Core,
        _instance: &Instance,
        _principal: &Principal,
        before: &Document,
        body: &mut Object,
    ) -> Result<()> {
        carry_reserved_fields(&before.body, body, |_| true);
        Ok(())
    }

    /// Adds the effects of an update to its commit; `generation` is that of the new revision.
    ///
    /// # Errors
    ///
    /// If the store fails.
    fn stage_update(
        &self,
        _core: &Core,
        _instance: &Instance,
        _principal: &Principal,
        _update: DocumentUpdate<'_>,
        _changes: &mut Changes,
    ) -> Result<()> {
        Ok(())
    }

    /// Checks the deletion of a document.
    ///
    /// # Errors
    ///
    /// If this principal may not delete it.
    fn check_delete(&self, _principal: &Principal, _before: &Document) -> Result<()> {
        Ok(())
    }

    /// Adds the effects of a deletion to its commit; returns the work that follows it.
    ///
    /// # Errors
    ///
    /// If the store fails.
    fn stage_delete(
        &self,
        _core: &Core,
        _instance: &Instance,
        _before: &Document,
        _changes: &mut Changes,
    ) -> Result<Option<AfterCommit>> {
        Ok(None)
    }
}

/// Update of a document whose effects are staged.
#[derive(Debug, Clone, Copy)]
pub struct DocumentUpdate<'a> {
    /// The document before.
    pub before: &'a Document,
    /// Its new content.
    pub body: &'a Object,
    /// Its new revision's generation.
    pub generation: u64,
}

impl<'a> DocumentUpdate<'a> {
    /// Describes an update; `given` is the new revision if another database made it.
    pub(crate) fn new(before: &'a Document, body: &'a Object, given: Option<&Rev>) -> Self {
        let generation = given.map_or(before.rev.generation() + 1, Rev::generation);
        Self { before, body, generation }
    }
}

/// Rule of doctypes without rules of their own.
pub(crate) struct PlainDocuments;

impl DocumentRule for PlainDocuments {}
