//! Checks unique indexes. They are derived from the claims of documents. Indexes that the schema does not know are not
//! checked.

use super::UniqueRecord;
use crate::error::Result;
use crate::fsck::{Checker, FsckProblem, SourceEntry};
use crate::id::DocRef;
use crate::key::{self, Keyspace};
use crate::view;

/// Checks that a document owns its key in an index.
pub(crate) fn check_unique_key(check: &mut Checker<'_>, document: &DocRef, index: &str, text: &str) -> Result<()> {
    let unique_key = key::of_unique(&document.instance, index, text)?;
    let what = format!("the key {text:?} in the index {index}");
    if let SourceEntry::Found(UniqueRecord { value: holder, .. }) = check.read_source::<UniqueRecord>(&unique_key)?
        && holder != document.id
    {
        let other = DocRef::new(&document.instance, &document.doctype, holder);
        if owns_key(check, &other, index, text)? {
            let (of, holder) = (document.to_string(), other.to_string());
            check.report(FsckProblem::Contested { what, of, holder });
            return Ok(());
        }
    }
    let record = UniqueRecord { key: text.to_owned(), value: document.id.clone() };
    check.expect_entry(unique_key, &record, &what, document)
}

/// Checks that a document claims an entry.
pub(crate) fn check_entry(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let (Some(instance), Some(index)) = (key::instance(key), key::index_name(key).map(str::to_owned)) else {
        check.report(FsckProblem::Unknown { what: format!("entry {}", key.escape_ascii()) });
        return Ok(());
    };
    let description = format!("a key in the index {index}");
    let Some(doctype) = check.schema.index_doctype(&index) else {
        check.read_or_report::<UniqueRecord>(key, bytes, &description);
        return Ok(());
    };
    let Ok(record) = view::decode::<UniqueRecord>(key, bytes) else {
        check.report_stray(key, bytes, &description, "it cannot be read");
        return Ok(());
    };
    let document = DocRef::new(&instance, &doctype, record.value);
    if key::of_unique(&instance, &index, &record.key)? != key || !owns_key(check, &document, &index, &record.key)? {
        check.report_stray(key, bytes, &description, format!("{document} does not have the key {:?}", record.key));
    }
    Ok(())
}

/// Returns whether a document has a right to a key. An unreadable document may have one.
fn owns_key(check: &Checker<'_>, document: &DocRef, index: &str, text: &str) -> Result<bool> {
    Ok(match check.body_at(&key::of_document(Keyspace::Document, document)?)? {
        SourceEntry::Absent => false,
        SourceEntry::Unreadable => true,
        SourceEntry::Found(body) => check
            .schema
            .links(document, &body)
            .map_or(true, |links| links.unique_keys.iter().any(|(claimed, key)| *claimed == index && key == text)),
    })
}
