//! Creates the feeds of a store that has none.

use super::FeedEntry;
use crate::document::{self, Tombstone};
use crate::error::Result;
use crate::frame;
use crate::key::{self, Keyspace};
use crate::kv::Sequence;
use crate::view;

/// Assigns a number to each document and each tombstone, in the order of their keys. Idempotent.
pub(crate) fn backfill_feeds(db: &sled::Db) -> Result<()> {
    let describe = || "the sequence of changes".to_owned();
    let range = key::all_instances();
    let mut last: u64 = 0;
    for entry in db.range(range.from..range.to) {
        let (key, value) = entry?;
        let deleted = match key::keyspace_of(&key) {
            Some(Keyspace::Document) => false,
            Some(Keyspace::Tombstone) => true,
            _ => continue,
        };
        let rev = if deleted {
            view::decode::<Tombstone>(&key, &value).map(|tombstone| tombstone.rev)
        } else {
            view::decode::<document::DocumentRecord>(&key, &value).map(|record| record.rev)
        };
        let (Ok(rev), Some(log)) = (rev, key::change_log_of(&key)) else {
            tracing::error!(entry = %key.escape_ascii(), "left an unreadable entry out of the feed; run konnector fsck");
            continue;
        };
        last += 1;
        let record = FeedEntry { id: key::document_id(&key)?.to_owned(), rev, deleted };
        db.insert(key::of_log_entry(&log, last), frame::encode(describe, &record)?)?;
        db.insert(key::with_keyspace(&key, Keyspace::Change), frame::encode(describe, &last)?)?;
    }
    if last > 0 {
        let epoch = Sequence::new()?.incarnation;
        db.insert(key::sequence(), frame::encode(describe, &Sequence { last, incarnation: epoch })?)?;
    }
    Ok(())
}
