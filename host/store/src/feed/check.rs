//! Checks feeds. The documents and tombstones are authoritative. Entries that do not match them are removed, and a
//! document without a place in its feed is added to its end, as if it had changed.

use super::FeedEntry;
use crate::document::{self, Tombstone};
use crate::error::Result;
use crate::fsck::{Checker, SourceEntry};
use crate::key::{self, Keyspace};
use crate::kv::Sequence;
use crate::rev::Rev;
use crate::view;

const CHANGE: &str = "an entry of a feed";
const NUMBER: &str = "the number of a document's last change";

/// Checks that a document or tombstone is in its feed.
pub(crate) fn check_in_feed(check: &mut Checker<'_>, key: &[u8], bytes: &[u8], rev: &Rev, deleted: bool) -> Result<()> {
    let Some(log) = key::change_log_of(key) else { return Ok(()) };
    let (number_key, id) = (key::with_keyspace(key, Keyspace::Change), key::document_id(key)?.to_owned());
    let record = FeedEntry { id, rev: rev.clone(), deleted };
    if let SourceEntry::Found(number) = check.read_source::<u64>(&number_key)?
        && let SourceEntry::Found(found) = check.read_source::<FeedEntry>(&key::of_log_entry(&log, number))?
        && found == record
    {
        return Ok(());
    }
    check.report_missing_change(key, bytes, log, &record, number_key)
}

/// Checks that a feed entry belongs to a document's last change.
pub(crate) fn check_change(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let parts = view::decode::<FeedEntry>(key, bytes).ok().zip(key::split_doctype(key)).zip(key::log_number(key).ok());
    let Some(((record, (of_type, _)), number)) = parts else {
        check.report_stray(key, bytes, CHANGE, "it cannot be read");
        return Ok(());
    };
    let key_in = |space| key::of_doctype_and_id(of_type, space, &record.id);
    let current = if record.deleted {
        match check.read_source::<Tombstone>(&key_in(Keyspace::Tombstone))? {
            SourceEntry::Found(tombstone) => Some(tombstone.rev),
            SourceEntry::Absent => None,
            SourceEntry::Unreadable => return Ok(()),
        }
    } else {
        match check.read_source::<document::DocumentRecord>(&key_in(Keyspace::Document))? {
            SourceEntry::Found(document) => Some(document.rev),
            SourceEntry::Absent => None,
            SourceEntry::Unreadable => return Ok(()),
        }
    };
    let last_number = match check.read_source::<Sequence>(&key::sequence())? {
        SourceEntry::Found(sequence) => sequence.last,
        SourceEntry::Absent => 0,
        SourceEntry::Unreadable => return Ok(()),
    };
    let stored = check.read_source::<u64>(&key_in(Keyspace::Change))?;
    let is_current_number = matches!(stored, SourceEntry::Found(stored) if stored == number);
    let reason = if number > last_number {
        format!("the number {number} was not assigned yet")
    } else if current.as_ref() != Some(&record.rev) || !is_current_number {
        format!("the document {:?} has changed since", record.id)
    } else {
        return Ok(());
    };
    check.report_stray(key, bytes, CHANGE, reason);
    Ok(())
}

/// Checks that the number next to a document points to an entry of the feed.
pub(crate) fn check_position(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let leads = match super::entry_key(key, bytes) {
        Some(entry) => check.kv.get(&entry)?.is_some(),
        None => false,
    };
    if !leads {
        check.report_stray(key, bytes, NUMBER, "it points to no entry of the feed");
    }
    Ok(())
}
