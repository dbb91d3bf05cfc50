//! Checks feeds: the documents and the traces of deleted ones decide. What does not fit is removed, and a document that has no place in its feed
//! comes to its end, as if it had changed.

use super::Record;
use crate::document::{self, Tombstone};
use crate::error::Result;
use crate::fsck::{Checker, Primary};
use crate::key::{self, Space};
use crate::kv::Sequence;
use crate::rev::Rev;
use crate::view;

const CHANGE: &str = "an entry of a feed";
const NUMBER: &str = "the number of a document's last change";

/// Checks that a document, or the trace of a deleted one, is in its feed.
pub(crate) fn check_numbered(
    check: &mut Checker<'_>,
    key: &[u8],
    bytes: &[u8],
    rev: &Rev,
    deleted: bool,
) -> Result<()> {
    let Some(log) = key::changes_beside(key) else { return Ok(()) };
    let (place, id) = (key::in_space(key, Space::Change), key::document_id(key)?.to_owned());
    let record = Record { id, rev: rev.clone(), deleted };
    if let Primary::Is(number) = check.look::<u64>(&place)?
        && let Primary::Is(found) = check.look::<Record>(&key::numbered(&log, number))?
        && found == record
    {
        return Ok(());
    }
    check.missing_change(key, bytes, log, &record, place)
}

/// Checks that an entry of a feed is that of a document's last change.
pub(crate) fn check_change(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let parts = view::decode::<Record>(key, bytes).ok().zip(key::split_type(key)).zip(key::number(key).ok());
    let Some(((record, (of_type, _)), number)) = parts else {
        check.stray(key, bytes, CHANGE, "it cannot be read");
        return Ok(());
    };
    let at = |space| key::of_type_and_id(of_type, space, &record.id);
    let current = if record.deleted {
        match check.look::<Tombstone>(&at(Space::Tombstone))? {
            Primary::Is(trace) => Some(trace.rev),
            Primary::Absent => None,
            Primary::Unreadable => return Ok(()),
        }
    } else {
        match check.look::<document::Record>(&at(Space::Document))? {
            Primary::Is(document) => Some(document.rev),
            Primary::Absent => None,
            Primary::Unreadable => return Ok(()),
        }
    };
    let given = match check.look::<Sequence>(&key::sequence())? {
        Primary::Is(sequence) => sequence.last,
        Primary::Absent => 0,
        Primary::Unreadable => return Ok(()),
    };
    let placed = matches!(check.look::<u64>(&at(Space::Change))?, Primary::Is(place) if place == number);
    let reason = if number > given {
        format!("the number {number} was not given yet")
    } else if current.as_ref() != Some(&record.rev) || !placed {
        format!("the document {:?} changed since", record.id)
    } else {
        return Ok(());
    };
    check.stray(key, bytes, CHANGE, reason);
    Ok(())
}

/// Checks that the number beside a document leads to an entry of the feed.
pub(crate) fn check_number(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let leads = match super::entry_at(key, bytes) {
        Some(entry) => check.kv.get(&entry)?.is_some(),
        None => false,
    };
    if !leads {
        check.stray(key, bytes, NUMBER, "it leads nowhere");
    }
    Ok(())
}
