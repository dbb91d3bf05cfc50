//! Checks secondary indexes. They are derived from the catalog and the documents; a damaged catalog is removed with all
//! entries, because indexes are built again when they are requested.

use super::build::BuildProgress;
use super::catalog::{Catalog, CatalogEntry};
use super::entry::{IndexEntry, IndexRecord};
use crate::Map;
use crate::error::Result;
use crate::fsck::{Checker, FsckProblem, SourceEntry};
use crate::id::DocRef;
use crate::key::{self, Keyspace};
use crate::view;

const CATALOG: &str = "the list of a doctype's indexes";
const ENTRY: &str = "an entry of an index";

/// The indexes of one doctype, and the progress of those being built.
#[derive(Debug, Clone, Default)]
pub(crate) struct CatalogEntries {
    indexes: Vec<(CatalogEntry, Option<String>)>,
    dropped: Vec<u32>,
}

impl CatalogEntries {
    fn find(&self, number: u32) -> Option<&CatalogEntry> {
        self.indexes.iter().map(|(definition, _)| definition).find(|definition| definition.number == number)
    }
}

/// Returns the indexes of the doctype that a key belongs to, `None` if the catalog cannot be read.
fn definitions(check: &mut Checker<'_>, of_type: &[u8]) -> Result<Option<CatalogEntries>> {
    let catalog_key = key::catalog_of(of_type);
    if let Some((known, definitions)) = &check.definitions
        && *known == catalog_key
    {
        return Ok(Some(definitions.clone()));
    }
    let catalog = match check.read_source::<Catalog>(&catalog_key)? {
        SourceEntry::Unreadable => return Ok(None),
        SourceEntry::Absent => Catalog::default(),
        SourceEntry::Found(catalog) => catalog,
    };
    let mut found = CatalogEntries { indexes: Vec::new(), dropped: catalog.dropped };
    for definition in catalog.indexes {
        let progress = [catalog_key.as_slice(), &definition.number.to_be_bytes()].concat();
        let after = match check.read_source::<BuildProgress>(&progress)? {
            SourceEntry::Found(progress) => progress.after,
            SourceEntry::Absent | SourceEntry::Unreadable => None,
        };
        found.indexes.push((definition, after));
    }
    check.definitions = Some((catalog_key, found.clone()));
    Ok(Some(found))
}

/// Checks that a document is in every index of its doctype.
pub(crate) fn check_document(check: &mut Checker<'_>, document: &DocRef, body: &Map) -> Result<()> {
    let DocRef { instance, doctype, id } = document;
    let Some(definitions) = definitions(check, &key::of_catalog(instance, doctype))? else { return Ok(()) };
    for (definition, after) in definitions.indexes {
        // While an index is being built, only the documents up to the last added one are certain to be in it.
        let is_in = definition.ready || after.is_some_and(|after| *id <= after);
        if !is_in || !definition.is_current() {
            continue;
        }
        if let Some(entry) = IndexEntry::from_document(&definition.fields, id, body) {
            let description = format!("the entry in the index over {}", definition.fields.join(", "));
            check.expect_entry(
                entry.key(instance, doctype, definition.number),
                &entry.record(),
                &description,
                document,
            )?;
        }
    }
    Ok(())
}

/// Checks the catalog of a doctype's indexes, or the build progress of one of them.
pub(crate) fn check_catalog(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let Some((of_type, number)) = key::split_doctype(key) else {
        check.report(FsckProblem::Unknown { what: format!("entry {}", key.escape_ascii()) });
        return Ok(());
    };
    let Some(number) = number.first_chunk::<4>().map(|number| u32::from_be_bytes(*number)) else {
        if view::decode::<Catalog>(key, bytes).is_err() {
            check.report_stray(key, bytes, CATALOG, "it cannot be read");
        }
        return Ok(());
    };
    let Some(definitions) = definitions(check, of_type)? else { return Ok(()) };
    let description = "the build progress of an index";
    if definitions.find(number).is_none_or(|definition| definition.ready) {
        check.report_stray(key, bytes, description, "that index is not being built");
    } else if view::decode::<BuildProgress>(key, bytes).is_err() {
        // After the repair, the index is built from the beginning.
        check.report_stray(key, bytes, description, "it cannot be read");
    }
    Ok(())
}

/// Checks that the index and the document of an entry exist.
pub(crate) fn check_entry(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let parts = key::split_doctype(key).and_then(|(of_type, rest)| Some((of_type, rest.first_chunk::<4>()?)));
    let Some((of_type, number)) = parts else {
        check.report(FsckProblem::Unknown { what: format!("entry {}", key.escape_ascii()) });
        return Ok(());
    };
    let number = u32::from_be_bytes(*number);
    // If the catalog cannot be read, it is removed first.
    let Some(definitions) = definitions(check, of_type)? else { return Ok(()) };
    if definitions.dropped.contains(&number) {
        return Ok(());
    }
    let Some(definition) = definitions.find(number).cloned() else {
        check.report_stray(key, bytes, ENTRY, "there is no such index");
        return Ok(());
    };
    if !definition.is_current() {
        return Ok(());
    }
    let Ok(record) = view::decode::<IndexRecord>(key, bytes) else {
        check.report_stray(key, bytes, ENTRY, "it cannot be read");
        return Ok(());
    };
    let document_key = key::of_doctype_and_id(of_type, Keyspace::Document, &record.id);
    let reason = match (check.document_at(&document_key)?, check.body_at(&document_key)?) {
        (SourceEntry::Found(document), SourceEntry::Found(body)) => {
            let entry = IndexEntry::from_document(&definition.fields, &document.id, &body);
            let valid = entry.filter(|entry| {
                entry.key(&document.instance, &document.doctype, number) == key && entry.record() == record
            });
            valid.is_none().then(|| format!("{document} does not exist"))
        }
        (SourceEntry::Absent, _) | (_, SourceEntry::Absent) => Some(format!("there is no document {:?}", record.id)),
        _ => None,
    };
    if let Some(reason) = reason {
        check.report_stray(key, bytes, ENTRY, reason);
    }
    Ok(())
}
