use serde::Serialize;

use super::SaveSummary;
use crate::Locator;
use crate::bindings::konnector::host::documents::{Change as WitChange, Item as WitItem, SavedDocument};
use crate::{Error, Result, host};

/// The contract's limit for one call.
const BATCH_SIZE: usize = 500;
/// Bytes of the documents in one call. The host limits the memory that their values use; ordinary documents reach
/// that limit at 300 to 800 KiB.
const MAX_BATCH_BYTES: usize = 256 << 10;

/// A document with the key that identifies it in later runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    key: String,
    body: String,
}

impl Item {
    /// Creates an item from a document and its key, which is the vendor's own number or another value that is unique
    /// for this account.
    ///
    /// # Errors
    ///
    /// [`Error::Bug`] if `body` is not a JSON object.
    pub fn new<T: Serialize>(key: impl Into<String>, body: T) -> Result<Self> {
        let value =
            serde_json::to_value(body).map_err(|error| Error::bug(format!("cannot serialise a document: {error}")))?;
        if !value.is_object() {
            return Err(Error::bug("a document must be a JSON object"));
        }
        Ok(Self { key: key.into(), body: value.to_string() })
    }
}

/// Saves documents of one doctype: creates those whose key is new, updates those that changed. Existing fields that the
/// new document lacks remain.
///
/// # Errors
///
/// [`Error::Denied`] if the manifest has no rule for it, and errors of the host.
pub fn save_documents(doctype: &str, items: impl IntoIterator<Item = Item>) -> Result<SaveSummary> {
    let items: Vec<_> = items.into_iter().map(|item| WitItem { key: item.key, body: item.body }).collect();
    let mut saved = SaveSummary::default();
    for written in write(doctype, &items)? {
        saved.count_outcome(written.outcome);
    }
    Ok(saved)
}

/// Sets fields of existing documents, including those of other apps; other fields remain.
///
/// # Errors
///
/// [`Error::Denied`] if the manifest has no rule for it, [`Error::Bug`] if a document does not exist, and errors of
/// the host.
pub fn update_documents<T: Serialize>(
    doctype: &str,
    changes: impl IntoIterator<Item = (Locator, T)>,
) -> Result<SaveSummary> {
    let change = |(locator, body): (Locator, T)| {
        let body = Item::new("", body)?.body;
        Ok(WitChange { locator, rev: None, body })
    };
    let changes = changes.into_iter().map(change).collect::<Result<Vec<_>>>()?;
    let mut saved = SaveSummary::default();
    for batch in batches(&changes, |change| change.body.len()) {
        for written in host::documents::update(doctype, batch)? {
            saved.count_outcome(written.outcome);
        }
    }
    Ok(saved)
}

/// Deletes the documents that were saved under these keys; returns the number of deleted documents.
///
/// # Errors
///
/// [`Error::Denied`] if the manifest has no rule for it, and errors of the host.
pub fn delete_documents<K: Into<String>>(doctype: &str, keys: impl IntoIterator<Item = K>) -> Result<u32> {
    let keys: Vec<_> = keys.into_iter().map(|key| Locator::Key(key.into())).collect();
    keys.chunks(BATCH_SIZE).map(|batch| Ok(host::documents::delete(doctype, batch)?)).sum()
}

pub(super) fn write(doctype: &str, items: &[WitItem]) -> Result<Vec<SavedDocument>> {
    let mut written = Vec::with_capacity(items.len());
    for batch in batches(items, |item| item.body.len()) {
        written.extend(host::documents::save(doctype, batch)?);
    }
    Ok(written)
}

/// Splits into batches of as many items as one call takes, but at least one.
fn batches<'a, T>(mut items: &'a [T], size: impl Fn(&T) -> usize + 'a) -> impl Iterator<Item = &'a [T]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits_in_batch = |item: &&T| {
            bytes += size(item);
            bytes <= MAX_BATCH_BYTES
        };
        let number = items.iter().take(BATCH_SIZE).take_while(fits_in_batch).count().max(1);
        let (batch, rest) = items.split_at_checked(number)?;
        items = rest;
        Some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MockHost;
    use serde_json::json;

    #[test]
    fn documents_are_recognised_by_their_key() {
        let host = MockHost::new();
        let save = |name: &str| save_documents("io.cozy.contacts", [Item::new("7", json!({ "name": name })).unwrap()]);
        assert_eq!(save("a").unwrap().created, 1);
        assert_eq!(save("b").unwrap().updated, 1);
        assert_eq!(save("b").unwrap().unchanged, 1);
        assert_eq!(host.documents("io.cozy.contacts"), [json!({ "name": "b" })]);
        assert_eq!(delete_documents("io.cozy.contacts", ["7", "8"]), Ok(1));
        assert!(host.documents("io.cozy.contacts").is_empty());
    }

    #[test]
    fn a_document_that_exists_is_changed_and_another_is_not_created() {
        let host = MockHost::new();
        let item = Item::new("7", json!({ "name": "a", "age": 7 })).unwrap();
        save_documents("io.cozy.contacts", [item]).unwrap().updated = 0;
        let change =
            |key: &str| update_documents("io.cozy.contacts", [(Locator::Key(key.into()), json!({ "name": "b" }))]);
        assert_eq!(change("7").unwrap().updated, 1);
        assert_eq!(change("7").unwrap().unchanged, 1);
        assert_eq!(host.documents("io.cozy.contacts"), [json!({ "name": "b", "age": 7 })]);
        insta::assert_snapshot!(change("8").unwrap_err(), @"the item was not found: io.cozy.contacts 8");
    }

    #[test]
    fn large_documents_are_several_calls() {
        let sizes = [MAX_BATCH_BYTES, 1, MAX_BATCH_BYTES - 1, MAX_BATCH_BYTES + 1, 0, 0];
        let lengths: Vec<_> = batches(&sizes, |size| *size).map(<[usize]>::len).collect();
        assert_eq!(lengths, [1, 2, 1, 2]);
        assert_eq!(batches(&[0; 1_001], |size| *size).map(<[usize]>::len).collect::<Vec<_>>(), [500, 500, 1]);
        assert_eq!(batches(&[], |size: &usize| *size).count(), 0);
    }

    #[test]
    fn more_than_one_call_takes_are_several_calls() {
        let host = MockHost::new();
        let items = (0..1201).map(|number| Item::new(format!("{number:04}"), json!({ "number": number })).unwrap());
        assert_eq!(save_documents("io.cozy.contacts", items).unwrap().created, 1201);
        assert_eq!(host.documents("io.cozy.contacts").len(), 1201);
        assert!(matches!(Item::new("x", 7), Err(Error::Bug(_))));
    }
}
