//! What changed in the documents of a type since somebody last looked: CouchDB's feed of changes.

use konnector_manifest::{Doctype, Verb};
use konnector_query::Direction;
use konnector_store::{FeedChange, Seq};

use crate::document::check_readable;
use crate::instance::Instance;
use crate::token::Principal;
use crate::{Error, Platform, Result};

/// Changes of one page, at most.
const MAX_PAGE_SIZE: usize = 10_000;
/// How many changes behind a page are counted.
const MAX_PENDING_COUNT: usize = 1_000;

/// From where on changes are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Behind a place that an earlier page told; [`Seq::default`] is the beginning.
    Seq(Seq),
    /// Only those to come.
    Now,
}

/// Which changes are asked for.
#[derive(Debug, Clone)]
pub struct ChangesQuery {
    /// From where on.
    pub since: Since,
    /// At most so many; never more than 10,000 are answered.
    pub limit: usize,
    /// [`Direction::Backward`] tells the newest first.
    pub direction: Direction,
    /// Only those of documents with these ids.
    pub ids: Option<Vec<String>>,
}

/// A part of the feed of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// Each document once, at its last change.
    pub changes: Vec<FeedChange>,
    /// Where the next page goes on.
    pub last_seq: Seq,
    /// How many changes are left behind this page, counted up to 1,000.
    pub pending: usize,
}

impl Platform {
    /// A page of the changes of documents of a type, durable ones only. Deletions are among them for as long as their traces are kept: until
    /// the whole type is deleted, or the instance. A purged document (a job that is too old) is not.
    ///
    /// Who may see them is the caller's to check. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn changes(&self, instance: &Instance, doctype: &Doctype, wanted: ChangesQuery) -> Result<ChangePage> {
        let ChangesQuery { since, limit, direction, ids } = wanted;
        let (store, id, limit) = (&self.store, &instance.id, limit.min(MAX_PAGE_SIZE));
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

    /// The same for `/data`.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] by the doctype, or without a rule on the whole type.
    pub async fn document_changes(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        wanted: ChangesQuery,
    ) -> Result<ChangePage> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        if !self.doctype_exists(&instance.id, doctype)? {
            return Err(Error::NotFound(crate::document::MissingReason::Doctype.as_str().to_owned()));
        }
        self.changes(instance, doctype, wanted).await
    }

    /// The last changes of some documents, which tell their newest revisions.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] by the doctype, or without a rule on the whole type.
    pub async fn newest_revisions(
        &self,
        instance: &Instance,
        principal: &Principal,
        doctype: &Doctype,
        ids: Vec<String>,
    ) -> Result<Vec<FeedChange>> {
        check_readable(doctype)?;
        principal.check_type(Verb::Get, doctype)?;
        Ok(self.store.changes_for(&instance.id, doctype, &Seq::default(), ids).await?)
    }
}
