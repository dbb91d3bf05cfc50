//! Changes to the documents of a doctype since a given sequence (CouchDB's changes feed).

use konnector_manifest::{Doctype, Verb};
use konnector_query::Direction;
use konnector_store::{FeedChange, Seq};

use crate::document::check_readable;
use crate::handles::Documents;
use crate::instance::Instance;
use crate::principal::Principal;
use crate::{Error, Result};

/// Maximum number of changes on a page.
const MAX_PAGE_SIZE: usize = 10_000;
/// How many changes after a page are counted.
const MAX_PENDING_COUNT: usize = 1_000;

/// Where a page of changes starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// After a sequence from an earlier page; [`Seq::default`] is the beginning.
    Seq(Seq),
    /// Only future changes.
    Now,
}

/// Query for changes.
#[derive(Debug, Clone)]
pub struct ChangesQuery {
    /// Position after which the page starts.
    pub since: Since,
    /// Maximum number of changes; at most 10,000 are returned.
    pub limit: usize,
    /// [`Direction::Backward`] returns the newest first.
    pub direction: Direction,
    /// Only changes of documents with these ids.
    pub ids: Option<Vec<String>>,
}

/// A page of the changes feed of a doctype.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// Latest change of each document.
    pub changes: Vec<FeedChange>,
    /// Position after which the next page starts.
    pub last_seq: Seq,
    /// How many changes remain after this page, counted up to 1,000.
    pub pending: usize,
}

impl Documents {
    /// Returns a page of durable changes to documents of a doctype. Deletions are included as long as their tombstones
    /// exist, which is until the whole doctype or the instance is deleted. A purged document (a job that is too old) is
    /// not included.
    ///
    /// The caller checks the permissions. Cancel-safe.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn changes(&self, instance: &Instance, doctype: &Doctype, query: ChangesQuery) -> Result<ChangePage> {
        let ChangesQuery { since, limit, direction, ids } = query;
        let (store, id, limit) = (&self.core.store(), &instance.id, limit.min(MAX_PAGE_SIZE));
        let since = match since {
            Since::Seq(seq) => seq,
            Since::Now => {
                let newest = store.changes(id, doctype, &Seq::default(), 1, Direction::Backward).await?.pop();
                newest.map(|change| change.seq).unwrap_or_default()
            }
        };
        if let Some(ids) = ids {
            let mut changes = store.changes_for(id, doctype, &since, ids).await?;
            if direction == Direction::Backward {
                changes.reverse();
            }
            let pending = changes.len().saturating_sub(limit);
            changes.truncate(limit);
            let last = changes.last().map_or(since, |change| change.seq.clone());
            return Ok(ChangePage { changes, last_seq: last, pending });
        }
        let changes = store.changes(id, doctype, &since, limit, direction).await?;
        let last = changes.last().map_or_else(|| since.clone(), |change| change.seq.clone());
        let pending = match direction {
            Direction::Forward => store.count_changes(id, doctype, &last, MAX_PENDING_COUNT)?,
            Direction::Backward => store
                .count_changes(id, doctype, &since, changes.len() + MAX_PENDING_COUNT)?
                .saturating_sub(changes.len()),
        };
        Ok(ChangePage { changes, last_seq: last, pending })
    }

    /// Like [`Documents::changes`], for `/data`.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for a doctype that `/data` may not read, or without a rule on the whole doctype.
    pub async fn document_changes(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        query: ChangesQuery,
    ) -> Result<ChangePage> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        if !self.doctype_exists(&instance.id, doctype)? {
            return Err(Error::NotFound(crate::document::MissingReason::Doctype.as_str().to_owned()));
        }
        self.changes(instance, doctype, query).await
    }

    /// Returns the last changes of some documents, which contain their newest revisions.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for a doctype that `/data` may not read, or without a rule on the whole doctype.
    pub async fn newest_revisions(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        ids: Vec<String>,
    ) -> Result<Vec<FeedChange>> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        Ok(self.core.store().changes_for(&instance.id, doctype, &Seq::default(), ids).await?)
    }
}
