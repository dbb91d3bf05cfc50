//! The change feed of a document type. It contains each document once, at its last change, in the order of changes.
//!
//! Every commit that writes a document assigns it the next number ([`record`]). Two entries store this: one under the
//! number, which is read in that order ([`list`]), and one next to the document, which points to the first so that the
//! next change can remove it. Therefore, the length of a feed is the number of documents and tombstones, and the cost
//! of a read depends only on the number of changes returned.
//!
//! Numbers are assigned where batches are applied, one after the other. Therefore, a reader that has seen a number has
//! seen all lower numbers that will ever exist.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use konnector_manifest::Doctype;
use konnector_query::Direction;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{DocRef, InstanceId};
use crate::key::{self, KeyRange, Keyspace};
use crate::kv::{Batch, CommitOutcome, Kv, Sequence};
use crate::rev::Rev;
use crate::store::Store;
use crate::view::{self, View};

mod backfill;
mod check;

pub(crate) use backfill::backfill_feeds;
pub(crate) use check::{check_change, check_in_feed, check_position};

/// The last change of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedChange {
    /// The position of this change; pass it as `since` to continue after it.
    pub seq: Seq,
    /// Id of the document.
    pub id: String,
    /// Revision of the document; for a deleted one, the revision of the deletion.
    pub rev: Rev,
    /// Whether the document was deleted.
    pub deleted: bool,
}

/// A position in a feed, as a string `<number>-<8 digits>`, or `0` for the start. It is valid for one store. In another
/// store, or in one restored from a backup, the feed starts from the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seq(Option<Sequence>);

impl FromStr for Seq {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::Invalid {
            field: "since",
            reason: format!(
                "{text:?} is not a valid position; use the last_seq of an earlier response, or 0 for all changes"
            ),
        };
        let (number, epoch) = text.split_once('-').map_or((text, None), |(number, epoch)| (number, Some(epoch)));
        let last = number.parse().map_err(|_| invalid())?;
        // A number alone is a position in a database of another kind.
        Ok(Self(epoch.map(|epoch| Sequence { last, incarnation: epoch.to_owned() })))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(Sequence { last, incarnation: epoch }) => write!(f, "{last}-{epoch}"),
            None => f.write_str("0"),
        }
    }
}

/// A log entry, stored under its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedEntry {
    pub(crate) id: String,
    pub(crate) rev: Rev,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) deleted: bool,
}

/// Adds a document to the end of its feed.
pub(crate) fn record(view: &mut View<'_>, document: &DocRef, rev: &Rev, deleted: bool) -> Result<()> {
    let (number_key, log) = remove_entry(view, document)?;
    view.append(log, FeedEntry { id: document.id.clone(), rev: rev.clone(), deleted }, number_key);
    Ok(())
}

/// Removes a document from its feed.
pub(crate) fn remove(view: &mut View<'_>, document: &DocRef) -> Result<()> {
    let (number_key, _) = remove_entry(view, document)?;
    view.cancel_append(&number_key);
    view.remove(number_key);
    Ok(())
}

/// Removes the entry of a document's last change; returns the key of its number and the key prefix of its feed.
fn remove_entry(view: &mut View<'_>, document: &DocRef) -> Result<(Vec<u8>, Vec<u8>)> {
    let number_key = key::of_document(Keyspace::Change, document)?;
    let log = key::changes(&document.instance, &document.doctype).from;
    if let Some(number) = view.get::<u64>(&number_key)? {
        view.remove(key::of_log_entry(&log, number));
    }
    Ok((number_key, log))
}

/// Returns the key of a document's last change, given the entry that stores its number; `None` for any other entry.
pub(crate) fn entry_key(key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    if key::keyspace_of(key) != Some(Keyspace::Change) {
        return None;
    }
    Some(key::of_log_entry(&key::change_log_of(key)?, view::decode(key, value).ok()?))
}

/// Returns up to `limit` changes after `since`, in ascending order or, backward, from the last change down.
pub(crate) fn list(
    kv: &dyn Kv,
    (instance, doctype): (&InstanceId, &Doctype),
    since: &Seq,
    limit: usize,
    direction: Direction,
) -> Result<Vec<FeedChange>> {
    let Some(Sequence { incarnation: epoch, .. }) = view::read(kv, &key::sequence())? else { return Ok(Vec::new()) };
    let range = range_after(instance, doctype, since, &epoch);
    let entries = kv.scan(&range.from, &range.to, limit, direction == Direction::Backward)?;
    entries.into_iter().map(|(key, value)| change(&key, view::decode(&key, &value)?, &epoch)).collect()
}

/// Returns the changes of some documents after `since`.
fn list_for(
    kv: &dyn Kv,
    (instance, doctype): (&InstanceId, &Doctype),
    since: &Seq,
    ids: impl IntoIterator<Item = String>,
) -> Result<Vec<FeedChange>> {
    let Some(Sequence { incarnation: epoch, .. }) = view::read(kv, &key::sequence())? else { return Ok(Vec::new()) };
    let (range, log) = (range_after(instance, doctype, since, &epoch), key::changes(instance, doctype).from);
    let mut found = BTreeMap::new();
    for id in ids {
        let Ok(number_key) = key::of_document(Keyspace::Change, &DocRef::new(instance, doctype, id)) else { continue };
        let Some(number) = view::read(kv, &number_key)? else { continue };
        let key = key::of_log_entry(&log, number);
        if key >= range.from
            && let Some(record) = view::read::<FeedEntry>(kv, &key)?
        {
            found.insert(number, change(&key, record, &epoch)?);
        }
    }
    Ok(found.into_values().collect())
}

fn change(key: &[u8], record: FeedEntry, epoch: &str) -> Result<FeedChange> {
    let seq = Seq(Some(Sequence { last: key::log_number(key)?, incarnation: epoch.to_owned() }));
    let FeedEntry { id, rev, deleted } = record;
    Ok(FeedChange { seq, id, rev, deleted })
}

fn range_after(instance: &InstanceId, doctype: &Doctype, since: &Seq, epoch: &str) -> KeyRange {
    let mut range = key::changes(instance, doctype);
    if let Some(seen) = since.0.as_ref().filter(|seen| seen.incarnation == epoch) {
        let last = key::of_log_entry(&range.from, seen.last);
        range.start_after(&last);
    }
    range
}

/// Makes the positions of a restored store differ from those returned before the restore.
pub(crate) async fn renew_incarnation(store: &Store) -> Result<()> {
    let sequence_key = key::sequence();
    let Some(Sequence { last, .. }) = view::read(store.kv(), &sequence_key)? else { return Ok(()) };
    let sequence = Sequence { last, ..Sequence::new()? };
    let mut batch = Batch::default();
    batch.put(sequence_key, crate::frame::encode(|| "the sequence of changes".to_owned(), &sequence)?);
    // Without checks, the commit cannot be rejected.
    let _: CommitOutcome = store.kv().commit(batch).await?;
    Ok(())
}

/// The change feed.
impl Store {
    /// Returns up to `limit` changes of documents of a doctype after `since`, from the oldest one up or from the newest
    /// one down. All of them are durable. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As [`Store::get`]; [`Error::Poisoned`] if the disk failed a write.
    pub async fn changes(
        &self,
        instance: &InstanceId,
        doctype: &Doctype,
        since: &Seq,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<FeedChange>> {
        let changes = list(self.kv(), (instance, doctype), since, limit, direction)?;
        // Reads may be ahead of the disk, and after a crash the same numbers are assigned to other changes, so no
        // caller may have seen them before.
        let _: CommitOutcome = self.kv().commit(Batch::default()).await?;
        Ok(changes)
    }

    /// Returns the last change of each of these documents after `since`, the oldest first; omits documents without a
    /// change and invalid ids. Durable and cancel-safe like [`Store::changes`].
    ///
    /// # Errors
    ///
    /// As [`Store::changes`].
    pub async fn changes_for(
        &self,
        instance: &InstanceId,
        doctype: &Doctype,
        since: &Seq,
        ids: impl IntoIterator<Item = String> + Send,
    ) -> Result<Vec<FeedChange>> {
        let changes = list_for(self.kv(), (instance, doctype), since, ids)?;
        let _: CommitOutcome = self.kv().commit(Batch::default()).await?;
        Ok(changes)
    }

    /// Counts the changes after `since`, up to `most`.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn count_changes(&self, instance: &InstanceId, doctype: &Doctype, since: &Seq, most: usize) -> Result<usize> {
        let Some(Sequence { incarnation: epoch, .. }) = view::read(self.kv(), &key::sequence())? else { return Ok(0) };
        let range = range_after(instance, doctype, since, &epoch);
        Ok(self.kv().scan(&range.from, &range.to, most, false)?.len())
    }

    /// Deletes the tombstones of a doctype and their positions in the feed. A document that is created again under one
    /// of these ids starts with its first revision.
    ///
    /// Works in multiple commits and can be repeated after a failure.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    pub async fn purge_tombstones(&self, instance: &InstanceId, doctype: &Doctype) -> Result<()> {
        let mut range = key::tombstones(instance, doctype);
        loop {
            let page = self.kv().scan(&range.from, &range.to, PURGE_BATCH_SIZE, false)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            let last_key = last.clone();
            let mut view = View::new(self.kv());
            for (key, _) in page {
                // Read through the view, so a document that is created again in the meantime keeps its revisions.
                if view.get::<crate::document::Tombstone>(&key)?.is_some() {
                    remove(&mut view, &DocRef::new(instance, doctype, key::document_id(&key)?))?;
                    view.remove(key);
                }
            }
            if self.kv().commit(view.into_batch()?).await? == CommitOutcome::Applied {
                range.start_after(&last_key);
            }
        }
    }
}

/// Number of tombstones deleted in one commit.
const PURGE_BATCH_SIZE: usize = 128;
