//! The layout of keys. Every key is at most 256 bytes long, and all entries of one instance share a prefix.
//!
//! ```text
//! 00 "format"                                              the format of the data folder
//! 00 "program"                                             the version of the program that wrote it last
//! 00 "sequence"                                            the last assigned change number
//! 01 <instance 16> 'd' <doctype ≤36> 00 <id ≤200>          document
//! 01 <instance 16> 't' <doctype ≤36> 00 <id ≤200>          tombstone of a deleted document
//! 01 <instance 16> 'n' <doctype ≤36> 00 <id ≤200>          number of a document's last change
//! 01 <instance 16> 'c' <doctype ≤36> 00 <number 8>         last change of a document, in the order of changes
//! 01 <instance 16> 'j' <doctype ≤36> 00 <id ≤200>          state of a job in the queue
//! 01 <instance 16> 's' <doctype ≤36> 00 <id ≤200>          when a trigger is due
//! 01 <instance 16> 'u' <index ≤64> 00 <text ≤161>          entry of a unique index
//! 01 <instance 16> 'k' <text ≤161>                         lock of a running job
//! 01 <instance 16> 'x' <doctype ≤36> 00                    the secondary indexes of a doctype
//! 01 <instance 16> 'x' <doctype ≤36> 00 <number 4>         how far one of them is built
//! 01 <instance 16> 'i' <doctype ≤36> 00 <number 4> <values ≤120> <id ≤76>   entry of a secondary index
//! 02 'r' <run at 8> <instance 16> <text ≤161>              job that waits for its time, in that order
//! 02 'q' <class 8> <instance 16> <lane 8> <run at 8> <text ≤161>   job whose time has come
//! 02 's' <text ≤161> 00 <number 4>                         place of a permit that a running job holds
//! 02 'l' <instance 16> <text ≤161>                         leased job
//! 02 'w' <due at 8> <instance 16> <text ≤161>              scheduled trigger, in the order of the due instant
//! ```
//!
//! Classes and lanes are the first bytes of hashes. If two of them collide, they delay each other; nothing worse
//! happens. A *text* longer than 160 bytes is truncated and ends with a hash; the entry then contains the full text.

use chrono::{DateTime, Utc};
use konnector_manifest::Doctype;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::id::{DocRef, InstanceId};

/// Maximum length of a document id, in bytes; the key of a document is then at most 255 bytes long.
const MAX_ID_BYTES: usize = 200;
/// Maximum length of a document type, in bytes.
const MAX_DOCTYPE_BYTES: usize = 200;
/// Maximum length of an index name, in bytes; the key of an entry is then at most 244 bytes long.
const MAX_INDEX_NAME_BYTES: usize = 64;
/// Length of the prefix before the kind of entry: the version and the instance.
const INSTANCE_PREFIX_BYTES: usize = 17;
/// Length of the prefix before the doctype: the instance prefix and the kind of entry.
const DOCUMENT_PREFIX_BYTES: usize = INSTANCE_PREFIX_BYTES + 1;
const MAX_DOCTYPE_KEY_BYTES: usize = 36;
const MAX_TEXT_KEY_BYTES: usize = 160;
/// Maximum number of bytes of an id in the key of a secondary index.
const MAX_ENTRY_ID_BYTES: usize = 76;
/// Prefix of the keys of ready jobs.
const READY_PREFIX: [u8; 2] = [2, b'q'];
/// Number of leading bytes of a long text that stay readable and sortable.
const TEXT_PREFIX_BYTES: usize = 128;

/// The kinds of entries that belong to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyspace {
    Document,
    Tombstone,
    /// The number of the document's last change.
    Change,
    Job,
    Schedule,
}

/// The kinds of entries that wait for a time, across all instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timeline {
    Delayed,
    Due,
}

/// A range of keys, `from <= key < to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl KeyRange {
    /// Returns the range of all keys that start with `prefix`.
    pub(crate) fn with_prefix(prefix: Vec<u8>) -> Self {
        let mut to = prefix.clone();
        // The successor of a prefix: drop trailing 0xff bytes, then increment the last byte.
        while to.pop_if(|byte| *byte == u8::MAX).is_some() {}
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        Self { from: prefix, to }
    }

    /// Restricts the range to the keys after `key`.
    pub(crate) fn start_after(&mut self, key: &[u8]) {
        let next = [key, &[0]].concat();
        if next > self.from {
            self.from = next;
        }
    }
}

pub(crate) fn format() -> Vec<u8> {
    b"\0format".to_vec()
}

pub(crate) fn program() -> Vec<u8> {
    b"\0program".to_vec()
}

pub(crate) fn sequence() -> Vec<u8> {
    b"\0sequence".to_vec()
}

/// Returns the range of all possible keys.
pub(crate) fn all() -> KeyRange {
    KeyRange { from: Vec::new(), to: vec![u8::MAX] }
}

/// Returns the instance that owns the entry under a key; `None` if no instance owns it.
pub(crate) fn instance(key: &[u8]) -> Option<InstanceId> {
    let ([1], rest) = key.split_first_chunk::<1>()? else { return None };
    rest.first_chunk::<16>().map(|bytes| InstanceId::from_bytes(*bytes))
}

/// Returns the part of an instance's key after the kind of entry.
pub(crate) fn instance_suffix(key: &[u8]) -> Option<&[u8]> {
    key.get(DOCUMENT_PREFIX_BYTES..)
}

/// Returns the key of another entry of the same document.
pub(crate) fn with_keyspace(key: &[u8], space: Keyspace) -> Vec<u8> {
    let mut key = key.to_vec();
    if let Some(letter) = key.get_mut(INSTANCE_PREFIX_BYTES) {
        *letter = space.letter();
    }
    key
}

/// Returns the name of the index in the key of a unique index entry.
pub(crate) fn index_name(key: &[u8]) -> Option<&str> {
    let path = key.get(DOCUMENT_PREFIX_BYTES..)?;
    str::from_utf8(path.split(|byte| *byte == 0).next()?).ok()
}

/// Splits a key of a secondary index after the zero byte that ends the doctype. The first part includes the letter of
/// the kind.
pub(crate) fn split_doctype(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = key.get(DOCUMENT_PREFIX_BYTES..)?.iter().position(|byte| *byte == 0)?;
    key.split_at_checked(DOCUMENT_PREFIX_BYTES + end + 1)
}

/// Returns the key of the index catalog of the same type.
pub(crate) fn catalog_of(of_type: &[u8]) -> Vec<u8> {
    let mut key = of_type.to_vec();
    if let Some(letter) = key.get_mut(INSTANCE_PREFIX_BYTES) {
        *letter = b'x';
    }
    key
}

/// Returns the key of a document's entry, given the part of a key up to its doctype, with any letter.
pub(crate) fn of_doctype_and_id(of_type: &[u8], space: Keyspace, id: &str) -> Vec<u8> {
    let mut key = with_keyspace(of_type, space);
    key.extend(id.as_bytes());
    key
}

/// Returns the key of a document's entry of one kind.
///
/// # Errors
///
/// [`Error::Invalid`] for an empty id, [`Error::TooLarge`] for one over 200 bytes, or a doctype over 200 bytes.
pub(crate) fn of_document(space: Keyspace, document: &DocRef) -> Result<Vec<u8>> {
    if document.id.is_empty() {
        return Err(Error::Invalid {
            field: "document id",
            reason: format!("it is empty (type {})", document.doctype),
        });
    }
    if document.id.len() > MAX_ID_BYTES {
        let what = format!("the id of document {document}");
        return Err(Error::TooLarge { what, size: document.id.len(), limit: MAX_ID_BYTES });
    }
    let doctype = document.doctype.as_ref();
    if doctype.len() > MAX_DOCTYPE_BYTES {
        let what = format!("the doctype {doctype}");
        return Err(Error::TooLarge { what, size: doctype.len(), limit: MAX_DOCTYPE_BYTES });
    }
    Ok(document_key(space, document))
}

/// Returns the range of all changes to documents of a doctype.
pub(crate) fn changes(instance: &InstanceId, doctype: &Doctype) -> KeyRange {
    KeyRange::with_prefix(doctype_prefix(instance, b'c', doctype))
}

/// Returns the key prefix of the changes of a doctype, given the key of any entry of a document of the doctype.
pub(crate) fn change_log_of(key: &[u8]) -> Option<Vec<u8>> {
    let (of_type, _) = split_doctype(key)?;
    let mut log = of_type.to_vec();
    *log.get_mut(INSTANCE_PREFIX_BYTES)? = b'c';
    Some(log)
}

/// Returns the key of the log entry with a number.
pub(crate) fn of_log_entry(log: &[u8], number: u64) -> Vec<u8> {
    [log, &number.to_be_bytes()].concat()
}

/// Returns the number in the key of a log entry.
///
/// # Errors
///
/// [`Error::Corrupt`] for any other key.
pub(crate) fn log_number(key: &[u8]) -> Result<u64> {
    let number = split_doctype(key).and_then(|(_, number)| number.try_into().ok()).map(u64::from_be_bytes);
    number.ok_or_else(|| Error::Corrupt {
        what: format!("key {}", key.escape_ascii()),
        reason: "it is not the key of a change".into(),
    })
}

/// Returns the range of the tombstones of a doctype.
pub(crate) fn tombstones(instance: &InstanceId, doctype: &Doctype) -> KeyRange {
    KeyRange::with_prefix(doctype_prefix(instance, b't', doctype))
}

/// Returns the range of all documents of a doctype.
pub(crate) fn documents(instance: &InstanceId, doctype: &Doctype) -> KeyRange {
    KeyRange::with_prefix(doctype_prefix(instance, b'd', doctype))
}

/// Returns the range of all documents of an instance.
pub(crate) fn all_documents(instance: &InstanceId) -> KeyRange {
    KeyRange::with_prefix(instance_prefix(instance, b'd'))
}

/// Returns the id in the key of a document.
///
/// # Errors
///
/// [`Error::Corrupt`] for any other key.
pub(crate) fn document_id(key: &[u8]) -> Result<&str> {
    let path = key.get(DOCUMENT_PREFIX_BYTES..).unwrap_or_default();
    let id = path.splitn(2, |byte| *byte == 0).nth(1).and_then(|id| str::from_utf8(id).ok());
    id.ok_or_else(|| Error::Corrupt {
        what: format!("key {}", key.escape_ascii()),
        reason: "it is not the key of a document".into(),
    })
}

/// Returns the range of everything that belongs to an instance, except its places on timelines.
pub(crate) fn of_instance(instance: &InstanceId) -> KeyRange {
    let mut prefix = instance_prefix(instance, 0);
    prefix.pop();
    KeyRange::with_prefix(prefix)
}

/// Returns the range of everything that belongs to any instance, in the order of the instances.
pub(crate) fn all_instances() -> KeyRange {
    KeyRange::with_prefix(vec![1])
}

/// Returns the kind of an entry that belongs to a document; `None` for any other key.
pub(crate) fn keyspace_of(key: &[u8]) -> Option<Keyspace> {
    let letter = key.strip_prefix(&[1])?.get(INSTANCE_PREFIX_BYTES - 1)?;
    let spaces = [Keyspace::Document, Keyspace::Tombstone, Keyspace::Change, Keyspace::Job, Keyspace::Schedule];
    spaces.into_iter().find(|space| space.letter() == *letter)
}

/// Returns whether a key belongs to a document.
pub(crate) fn is_document(key: &[u8]) -> bool {
    key.first() == Some(&1) && key.get(INSTANCE_PREFIX_BYTES) == Some(&b'd')
}

/// Returns the key of a unique index entry.
///
/// # Errors
///
/// [`Error::Invalid`] for an index name that is empty, over 64 bytes or contains a zero byte.
pub(crate) fn of_unique(instance: &InstanceId, index: &str, text: &str) -> Result<Vec<u8>> {
    let mut key = unique_prefix(instance, index)?;
    key.extend(truncated_text(text));
    Ok(key)
}

/// Returns the range of all unique index entries whose text may start with `prefix`. If the prefix is long, the range
/// contains others too.
///
/// # Errors
///
/// As [`of_unique`].
pub(crate) fn unique_range(instance: &InstanceId, index: &str, prefix: &str) -> Result<KeyRange> {
    let mut key = unique_prefix(instance, index)?;
    key.extend(prefix.as_bytes().iter().take(TEXT_PREFIX_BYTES));
    Ok(KeyRange::with_prefix(key))
}

/// Returns the key of the catalog of a doctype's secondary indexes.
pub(crate) fn of_catalog(instance: &InstanceId, doctype: &Doctype) -> Vec<u8> {
    doctype_prefix(instance, b'x', doctype)
}

/// Returns the key of the build progress of a secondary index.
pub(crate) fn of_build_progress(instance: &InstanceId, doctype: &Doctype, number: u32) -> Vec<u8> {
    let mut key = doctype_prefix(instance, b'x', doctype);
    key.extend(number.to_be_bytes());
    key
}

/// Returns the key prefix of a secondary index.
pub(crate) fn entries_prefix(instance: &InstanceId, doctype: &Doctype, number: u32) -> Vec<u8> {
    let mut key = doctype_prefix(instance, b'i', doctype);
    key.extend(number.to_be_bytes());
    key
}

/// Returns the key of a secondary index entry, with at most 120 bytes of values.
pub(crate) fn of_index_entry(
    instance: &InstanceId,
    doctype: &Doctype,
    number: u32,
    values: &[u8],
    id: &str,
) -> Vec<u8> {
    let mut key = entries_prefix(instance, doctype, number);
    key.extend(values);
    key.extend(entry_id(id));
    key
}

/// Returns a document's id as it appears at the end of an entry's key; only a truncated id has 76 bytes.
pub(crate) fn entry_id(id: &str) -> Vec<u8> {
    let id = id.as_bytes();
    if id.len() < MAX_ENTRY_ID_BYTES { id.to_vec() } else { truncate_with_hash(id, MAX_ENTRY_ID_BYTES - 33, "~", 16) }
}

pub(crate) fn of_lock(instance: &InstanceId, name: &str) -> Vec<u8> {
    let mut key = instance_prefix(instance, b'k');
    key.extend(truncated_text(name));
    key
}

pub(crate) fn of_slot(permit: &str, number: u32) -> Vec<u8> {
    let mut key = vec![2, b's'];
    key.extend(truncated_text(permit));
    key.push(0);
    key.extend(number.to_be_bytes());
    key
}

/// The parts of the key of a ready job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadyKey {
    pub(crate) key: Vec<u8>,
    pub(crate) class: [u8; 8],
    pub(crate) instance: [u8; 16],
    pub(crate) lane: [u8; 8],
}

impl ReadyKey {
    /// Returns `None` for any other key.
    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        let (class, rest) = key.strip_prefix(&READY_PREFIX)?.split_first_chunk()?;
        let (instance, rest) = rest.split_first_chunk()?;
        let (lane, _) = rest.split_first_chunk()?;
        Some(Self { key: key.to_vec(), class: *class, instance: *instance, lane: *lane })
    }
}

pub(crate) fn of_ready(class: &str, lock: Option<&str>, run_at: DateTime<Utc>, job: &DocRef) -> Vec<u8> {
    let mut key = READY_PREFIX.to_vec();
    key.extend(short_hash(class));
    key.extend(job.instance.as_bytes());
    key.extend(lock.map(short_hash).unwrap_or_default());
    key.extend(encode_time(run_at));
    key.extend(truncated_text(&job.to_string()));
    key
}

/// Returns the range of all ready jobs.
pub(crate) fn ready() -> KeyRange {
    KeyRange::with_prefix(READY_PREFIX.to_vec())
}

pub(crate) fn ready_of_class(class: [u8; 8]) -> KeyRange {
    KeyRange::with_prefix([READY_PREFIX.as_slice(), &class].concat())
}

pub(crate) fn ready_of_instance(class: [u8; 8], instance: [u8; 16]) -> KeyRange {
    KeyRange::with_prefix([READY_PREFIX.as_slice(), &class, &instance].concat())
}

pub(crate) fn ready_of_lane(class: [u8; 8], instance: [u8; 16], lane: [u8; 8]) -> KeyRange {
    KeyRange::with_prefix([READY_PREFIX.as_slice(), &class, &instance, &lane].concat())
}

/// Hashes a text to eight bytes.
fn short_hash(text: &str) -> [u8; 8] {
    Sha256::digest(text).first_chunk().copied().unwrap_or_default()
}

pub(crate) fn of_lease(job: &DocRef) -> Vec<u8> {
    cross_instance(b'l', &[], job)
}

pub(crate) fn leases() -> KeyRange {
    KeyRange::with_prefix(vec![2, b'l'])
}

pub(crate) fn of_timeline(timeline: Timeline, time: DateTime<Utc>, document: &DocRef) -> Vec<u8> {
    cross_instance(timeline.letter(), &encode_time(time), document)
}

/// Returns the range of the entries up to and including `until`, or of all entries.
pub(crate) fn timeline(timeline: Timeline, until: Option<DateTime<Utc>>) -> KeyRange {
    let all = KeyRange::with_prefix(vec![2, timeline.letter()]);
    match until {
        None => all,
        Some(until) => {
            let last = [&[2, timeline.letter()], encode_time(until).as_slice()].concat();
            KeyRange { from: all.from, to: KeyRange::with_prefix(last).to }
        }
    }
}

impl Keyspace {
    fn letter(self) -> u8 {
        match self {
            Self::Document => b'd',
            Self::Tombstone => b't',
            Self::Change => b'n',
            Self::Job => b'j',
            Self::Schedule => b's',
        }
    }
}

impl Timeline {
    fn letter(self) -> u8 {
        match self {
            Self::Delayed => b'r',
            Self::Due => b'w',
        }
    }
}

fn instance_prefix(instance: &InstanceId, letter: u8) -> Vec<u8> {
    let mut key = vec![1];
    key.extend(instance.as_bytes());
    key.push(letter);
    key
}

fn doctype_prefix(instance: &InstanceId, letter: u8, doctype: &Doctype) -> Vec<u8> {
    let mut key = instance_prefix(instance, letter);
    key.extend(doctype_segment(doctype));
    key.push(0);
    key
}

fn document_key(kind: Keyspace, document: &DocRef) -> Vec<u8> {
    let mut key = doctype_prefix(&document.instance, kind.letter(), &document.doctype);
    key.extend(document.id.as_bytes());
    key
}

fn unique_prefix(instance: &InstanceId, index: &str) -> Result<Vec<u8>> {
    if index.is_empty() || index.len() > MAX_INDEX_NAME_BYTES || index.contains('\0') {
        let reason = format!("{index:?} is not valid: expected 1 to {MAX_INDEX_NAME_BYTES} bytes without a zero byte");
        return Err(Error::Invalid { field: "index name", reason });
    }
    let mut key = instance_prefix(instance, b'u');
    key.extend(index.as_bytes());
    key.push(0);
    Ok(key)
}

fn cross_instance(letter: u8, time: &[u8], document: &DocRef) -> Vec<u8> {
    let mut key = vec![2, letter];
    key.extend(time);
    key.extend(document.instance.as_bytes());
    key.extend(truncated_text(&document.to_string()));
    key
}

/// Sorts in the order of the instants, before and after 1970; the store has microsecond precision.
fn encode_time(time: DateTime<Utc>) -> [u8; 8] {
    (time.timestamp_micros() ^ i64::MIN).to_be_bytes()
}

/// Encodes a doctype in at most 36 bytes. `~` occurs in no doctype, so a truncated one equals no other.
fn doctype_segment(doctype: &Doctype) -> Vec<u8> {
    let text = doctype.as_ref().as_bytes();
    if text.len() <= MAX_DOCTYPE_KEY_BYTES {
        text.to_vec()
    } else {
        truncate_with_hash(text, MAX_DOCTYPE_KEY_BYTES - 17, "~", 8)
    }
}

/// Encodes a text in at most 161 bytes; only a truncated text has 161.
fn truncated_text(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    if text.len() <= MAX_TEXT_KEY_BYTES { text.to_vec() } else { truncate_with_hash(text, TEXT_PREFIX_BYTES, "~", 16) }
}

fn truncate_with_hash(text: &[u8], keep: usize, mark: &str, hash_bytes: usize) -> Vec<u8> {
    let hash: Vec<u8> = Sha256::digest(text).iter().take(hash_bytes).copied().collect();
    let mut key: Vec<u8> = text.iter().take(keep).copied().collect();
    key.extend(mark.as_bytes());
    key.extend(hex::encode(hash).as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn document(doctype: &str, id: &str) -> DocRef {
        DocRef::new(&InstanceId::global(), &doctype.parse().unwrap(), id)
    }

    #[test]
    fn the_longest_names_make_keys_of_at_most_256_bytes() {
        let longest = document(&format!("io.{}", "x".repeat(197)), &"i".repeat(200));
        for space in [Keyspace::Document, Keyspace::Tombstone, Keyspace::Change, Keyspace::Job, Keyspace::Schedule] {
            assert!(of_document(space, &longest).unwrap().len() <= 256);
        }
        let entry = of_index_entry(&longest.instance, &longest.doctype, u32::MAX, &[0xff; 120], &longest.id);
        assert!(entry.len() <= 256);
        let index = of_unique(&InstanceId::global(), &"n".repeat(64), &"t".repeat(5000)).unwrap();
        assert!(index.len() <= 256);
        assert!(of_timeline(Timeline::Due, Utc::now(), &longest).len() <= 256);
        assert!(of_ready("class", Some("lock"), Utc::now(), &longest).len() <= 256);
        assert!(of_slot(&"p".repeat(300), u32::MAX).len() <= 256);
        assert!(of_document(Keyspace::Document, &document("io.x", &"i".repeat(201))).is_err());
        assert!(of_document(Keyspace::Document, &document("io.x", "")).is_err());
    }

    #[test]
    fn a_type_does_not_reach_into_another_one() {
        let short: Doctype = "io.cozy.bills".parse().unwrap();
        let range = documents(&InstanceId::global(), &short);
        for other in ["io.cozy.bill", "io.cozy.bills.archive", "io.cozy.billsx"] {
            let key = of_document(Keyspace::Document, &document(other, "1")).unwrap();
            assert!(key < range.from || key >= range.to, "{other}");
        }
    }

    proptest! {
        #[test]
        fn times_sort_like_their_keys(a in -4_000_000_000_000_000_i64..4_000_000_000_000_000, b in any::<i32>()) {
            let a = DateTime::from_timestamp_micros(a).unwrap();
            let b = a + TimeDelta::microseconds(b.into());
            prop_assert_eq!(a.cmp(&b), encode_time(a).cmp(&encode_time(b)));
        }

        #[test]
        fn a_prefix_range_holds_exactly_the_keys_that_start_with_it(prefix in proptest::collection::vec(250_u8.., 1..4), key in proptest::collection::vec(250_u8.., 0..6)) {
            prop_assume!(prefix.iter().any(|byte| *byte < u8::MAX));
            let range = KeyRange::with_prefix(prefix.clone());
            prop_assert_eq!(range.from <= key && key < range.to, key.starts_with(&prefix));
        }

        #[test]
        fn distinct_texts_have_distinct_keys(a in "[a-c]{155,165}", b in "[a-c]{155,165}") {
            prop_assert_eq!(a == b, truncated_text(&a) == truncated_text(&b));
        }
    }
}
