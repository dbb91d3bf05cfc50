//! The changes of the documents of a type: each document once, at its last change, in the order of changes.
//!
//! Every commit that writes a document gives it the next number ([`note`]). Two entries say so: one under the number, which is read in that
//! order ([`changes`]), and one beside the document, which leads to the first and takes it away at the next change. So the feed of a type is
//! as long as there are documents and traces of deleted ones, and reading it costs what it answers.
//!
//! Numbers are given where batches are applied, one after the other: whoever has seen a number has seen all below it that there will be.

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
    /// Where the feed goes on behind it.
    pub seq: Seq,
    /// Id of the document.
    pub id: String,
    /// Its revision, which is that of the deletion where it was deleted.
    pub rev: Rev,
    /// Whether it was deleted.
    pub deleted: bool,
}

/// A place in a feed, as text `<number>-<8 digits>`, or `0` before everything. It is good for one store: one that was restored from a backup,
/// or another one, begins its feed anew for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seq(Option<Sequence>);

impl FromStr for Seq {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::Invalid {
            field: "since",
            reason: format!("{text:?} is not a last_seq of an earlier answer, nor 0 for all changes"),
        };
        let (number, epoch) = text.split_once('-').map_or((text, None), |(number, epoch)| (number, Some(epoch)));
        let last = number.parse().map_err(|_| invalid())?;
        // A number alone is that of another kind of database.
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

/// The entry under a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedEntry {
    pub(crate) id: String,
    pub(crate) rev: Rev,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) deleted: bool,
}

/// Puts a document at the end of its feed.
pub(crate) fn record(view: &mut View<'_>, document: &DocRef, rev: &Rev, deleted: bool) -> Result<()> {
    let (place, log) = remove_entry(view, document)?;
    view.append(log, FeedEntry { id: document.id.clone(), rev: rev.clone(), deleted }, place);
    Ok(())
}

/// Takes a document out of its feed.
pub(crate) fn remove(view: &mut View<'_>, document: &DocRef) -> Result<()> {
    let (place, _) = remove_entry(view, document)?;
    view.cancel_append(&place);
    view.remove(place);
    Ok(())
}

/// Removes the entry of a document's last change; answers its place and what the keys of its feed begin with.
fn remove_entry(view: &mut View<'_>, document: &DocRef) -> Result<(Vec<u8>, Vec<u8>)> {
    let place = key::of_document(Keyspace::Change, document)?;
    let log = key::changes(&document.instance, &document.doctype).from;
    if let Some(number) = view.get::<u64>(&place)? {
        view.remove(key::of_log_entry(&log, number));
    }
    Ok((place, log))
}

/// The key under which a document's last change is, by an entry that says its number; `None` for any other entry.
pub(crate) fn entry_key(key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    if key::keyspace_of(key) != Some(Keyspace::Change) {
        return None;
    }
    Some(key::of_log_entry(&key::change_log_of(key)?, view::decode(key, value).ok()?))
}

/// Up to `limit` changes behind `since`, or from the last one down to there.
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

/// The changes of some documents behind `since`.
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
        let Ok(place) = key::of_document(Keyspace::Change, &DocRef::new(instance, doctype, id)) else { continue };
        let Some(number) = view::read(kv, &place)? else { continue };
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

/// Makes places in the feeds of a store that was restored differ from those that were told before.
pub(crate) async fn renew_incarnation(store: &Store) -> Result<()> {
    let at = key::sequence();
    let Some(Sequence { last, .. }) = view::read(store.kv(), &at)? else { return Ok(()) };
    let sequence = Sequence { last, ..Sequence::new()? };
    let mut batch = Batch::default();
    batch.put(at, crate::frame::encode(|| "the sequence of changes".to_owned(), &sequence)?);
    // Without checks it cannot be refused.
    let _: CommitOutcome = store.kv().commit(batch).await?;
    Ok(())
}

/// The feed.
impl Store {
    /// Up to `limit` changes of documents of a type behind `since`, the oldest first; or from the newest down to there. All of them are
    /// durable. Cancel-safe.
    ///
    /// # Errors
    /// Like [`Store::get`]; [`Error::Poisoned`] when the disk failed a write.
    pub async fn changes(
        &self,
        instance: &InstanceId,
        doctype: &Doctype,
        since: &Seq,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<FeedChange>> {
        let changes = list(self.kv(), (instance, doctype), since, limit, direction)?;
        // Reads may be ahead of the disk, and after a crash the same numbers are given to other changes: nobody may have seen them before.
        let _: CommitOutcome = self.kv().commit(Batch::default()).await?;
        Ok(changes)
    }

    /// The last changes of these documents behind `since`, the oldest first; one that has none, or whose id cannot be one, is left out.
    /// Durable and cancel-safe like [`Store::changes`].
    ///
    /// # Errors
    /// Like [`Store::changes`].
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

    /// How many changes there are behind `since`, counted up to `most`.
    ///
    /// # Errors
    /// Like [`Store::get`].
    pub fn count_changes(&self, instance: &InstanceId, doctype: &Doctype, since: &Seq, most: usize) -> Result<usize> {
        let Some(Sequence { incarnation: epoch, .. }) = view::read(self.kv(), &key::sequence())? else { return Ok(0) };
        let range = range_after(instance, doctype, since, &epoch);
        Ok(self.kv().scan(&range.from, &range.to, most, false)?.len())
    }

    /// Forgets that documents of a type were deleted: their traces, and their places in the feed. A document that is created under the
    /// id of one of them begins with its first revision again.
    ///
    /// Works in many commits and can be repeated after a failure.
    ///
    /// # Errors
    /// Like [`Store::commit`].
    pub async fn purge_tombstones(&self, instance: &InstanceId, doctype: &Doctype) -> Result<()> {
        let mut range = key::tombstones(instance, doctype);
        loop {
            let page = self.kv().scan(&range.from, &range.to, PURGE_BATCH_SIZE, false)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            let behind = last.clone();
            let mut view = View::new(self.kv());
            for (key, _) in page {
                // Read through the view: one that is created again meanwhile keeps its revisions.
                if view.get::<crate::document::Tombstone>(&key)?.is_some() {
                    remove(&mut view, &DocRef::new(instance, doctype, key::document_id(&key)?))?;
                    view.remove(key);
                }
            }
            if self.kv().commit(view.into_batch()?).await? == CommitOutcome::Applied {
                range.start_after(&behind);
            }
        }
    }
}

/// Traces that are forgotten in one commit.
const PURGE_BATCH_SIZE: usize = 128;
