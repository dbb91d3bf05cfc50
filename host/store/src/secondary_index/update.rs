//! Updates every index in the commit that writes the documents.

use super::catalog::Catalog;
use super::entry::IndexEntry;
use crate::Map;
use crate::error::Result;
use crate::id::DocRef;
use crate::view::View;

/// Replaces a document's entries. `before` and `after` return its body, if it has one; they are called only for a
/// doctype that has indexes.
pub(crate) fn update(
    view: &mut View<'_>,
    document: &DocRef,
    before: impl FnOnce() -> Result<Option<Map>>,
    after: impl FnOnce() -> Result<Option<Map>>,
) -> Result<()> {
    let DocRef { instance, doctype, id } = document;
    // Read through the view, so that if an index is declared in the meantime, this commit is rejected and planned again
    // with the new index.
    let Some(catalog) = Catalog::read(view, instance, doctype)? else { return Ok(()) };
    let (before, after) = (before()?, after()?);
    for index in catalog.indexes.iter().filter(|index| index.is_current()) {
        let index_entry =
            |body: &Option<Map>| body.as_ref().and_then(|body| IndexEntry::from_document(&index.fields, id, body));
        let (old, new) = (index_entry(&before), index_entry(&after));
        if old == new {
            continue;
        }
        if let Some(old) = old {
            view.remove(old.key(instance, doctype, index.number));
        }
        if let Some(new) = new {
            let key = new.key(instance, doctype, index.number);
            new.put(view, key)?;
        }
    }
    Ok(())
}
