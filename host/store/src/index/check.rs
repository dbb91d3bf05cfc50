//! Checks unique indexes: what documents claim decides. Indexes that the schema does not know are left alone.

use super::Record;
use crate::error::Result;
use crate::fsck::{Checker, Primary, Problem};
use crate::id::DocRef;
use crate::key::{self, Space};
use crate::view;

/// Checks that a document has its key in an index.
pub(crate) fn check_claim(check: &mut Checker<'_>, document: &DocRef, index: &str, text: &str) -> Result<()> {
    let place = key::of_index(&document.instance, index, text)?;
    let what = format!("the key {text:?} in the index {index}");
    if let Primary::Is(Record { value: holder, .. }) = check.look::<Record>(&place)?
        && holder != document.id
    {
        let other = DocRef::new(&document.instance, &document.doctype, holder);
        if claims(check, &other, index, text)? {
            let (of, holder) = (document.to_string(), other.to_string());
            check.report(Problem::Contested { what, of, holder });
            return Ok(());
        }
    }
    let record = Record { key: text.to_owned(), value: document.id.clone() };
    check.expect(place, &record, &what, document)
}

/// Checks that an entry has a document that claims it.
pub(crate) fn check_entry(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let (Some(instance), Some(index)) = (key::instance(key), key::index_name(key).map(str::to_owned)) else {
        check.report(Problem::Unknown { what: format!("entry {}", key.escape_ascii()) });
        return Ok(());
    };
    let what = format!("a key in the index {index}");
    let Some(doctype) = check.schema.indexed(&index) else {
        check.primary::<Record>(key, bytes, &what);
        return Ok(());
    };
    let Ok(record) = view::decode::<Record>(key, bytes) else {
        check.stray(key, bytes, &what, "it cannot be read");
        return Ok(());
    };
    let document = DocRef::new(&instance, &doctype, record.value);
    if key::of_index(&instance, &index, &record.key)? != key || !claims(check, &document, &index, &record.key)? {
        check.stray(key, bytes, &what, format!("{document} does not have the key {:?}", record.key));
    }
    Ok(())
}

/// Whether a document has a right to a key. One that cannot be read may have.
fn claims(check: &Checker<'_>, document: &DocRef, index: &str, text: &str) -> Result<bool> {
    Ok(match check.body_at(&key::of_document(Space::Document, document)?)? {
        Primary::Absent => false,
        Primary::Unreadable => true,
        Primary::Is(body) => check
            .schema
            .links(document, &body)
            .map_or(true, |links| links.unique.iter().any(|(claimed, key)| *claimed == index && key == text)),
    })
}
