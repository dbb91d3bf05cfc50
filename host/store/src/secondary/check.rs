//! Checks secondary indexes. Which there are decides together with the documents; a damaged list of them is removed with all entries,
//! because indexes are made again when they are asked for.

use super::build::Progress;
use super::catalog::{Catalog, Definition};
use super::entry::{Place, Record};
use crate::Map;
use crate::error::Result;
use crate::fsck::{Checker, Primary, Problem};
use crate::id::DocRef;
use crate::key::{self, Space};
use crate::view;

const CATALOG: &str = "the list of a type's indexes";
const ENTRY: &str = "an entry of an index";

/// The indexes of one type, and how far those in the making are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Definitions {
    indexes: Vec<(Definition, Option<String>)>,
    dropped: Vec<u32>,
}

impl Definitions {
    fn find(&self, number: u32) -> Option<&Definition> {
        self.indexes.iter().map(|(definition, _)| definition).find(|definition| definition.number == number)
    }
}

/// The indexes of the type that a key belongs to, `None` where the list cannot be read.
fn definitions(check: &mut Checker<'_>, of_type: &[u8]) -> Result<Option<Definitions>> {
    let at = key::catalog_of(of_type);
    if let Some((known, definitions)) = &check.definitions
        && *known == at
    {
        return Ok(Some(definitions.clone()));
    }
    let catalog = match check.look::<Catalog>(&at)? {
        Primary::Unreadable => return Ok(None),
        Primary::Absent => Catalog::default(),
        Primary::Is(catalog) => catalog,
    };
    let mut found = Definitions { indexes: Vec::new(), dropped: catalog.dropped };
    for definition in catalog.indexes {
        let progress = [at.as_slice(), &definition.number.to_be_bytes()].concat();
        let after = match check.look::<Progress>(&progress)? {
            Primary::Is(progress) => progress.after,
            Primary::Absent | Primary::Unreadable => None,
        };
        found.indexes.push((definition, after));
    }
    check.definitions = Some((at, found.clone()));
    Ok(Some(found))
}

/// Checks that a document is in every index of its type.
pub(crate) fn check_document(check: &mut Checker<'_>, document: &DocRef, body: &Map) -> Result<()> {
    let DocRef { instance, doctype, id } = document;
    let Some(definitions) = definitions(check, &key::of_catalog(instance, doctype))? else { return Ok(()) };
    for (definition, after) in definitions.indexes {
        // In one that is being made, only the documents up to the last one are for certain.
        let is_in = definition.ready || after.is_some_and(|after| *id <= after);
        if !is_in || !definition.is_current() {
            continue;
        }
        if let Some(place) = Place::of(&definition.members, id, body) {
            let what = format!("the entry in the index over {}", definition.members.join(", "));
            check.expect(place.key(instance, doctype, definition.number), &place.record(), &what, document)?;
        }
    }
    Ok(())
}

/// Checks the list of a type's indexes, and how far one of them is.
pub(crate) fn check_catalog(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let Some((of_type, number)) = key::split_type(key) else {
        check.report(Problem::Unknown { what: format!("entry {}", key.escape_ascii()) });
        return Ok(());
    };
    let Some(number) = number.first_chunk::<4>().map(|number| u32::from_be_bytes(*number)) else {
        if view::decode::<Catalog>(key, bytes).is_err() {
            check.stray(key, bytes, CATALOG, "it cannot be read");
        }
        return Ok(());
    };
    let Some(definitions) = definitions(check, of_type)? else { return Ok(()) };
    let what = "how far an index is made";
    if definitions.find(number).is_none_or(|definition| definition.ready) {
        check.stray(key, bytes, what, "that index is not being made");
    } else if view::decode::<Progress>(key, bytes).is_err() {
        // Then it is made from the beginning.
        check.stray(key, bytes, what, "it cannot be read");
    }
    Ok(())
}

/// Checks that an entry has its index and its document.
pub(crate) fn check_entry(check: &mut Checker<'_>, key: &[u8], bytes: &[u8]) -> Result<()> {
    let parts = key::split_type(key).and_then(|(of_type, rest)| Some((of_type, rest.first_chunk::<4>()?)));
    let Some((of_type, number)) = parts else {
        check.report(Problem::Unknown { what: format!("entry {}", key.escape_ascii()) });
        return Ok(());
    };
    let number = u32::from_be_bytes(*number);
    // Where the list cannot be read, it is removed first.
    let Some(definitions) = definitions(check, of_type)? else { return Ok(()) };
    if definitions.dropped.contains(&number) {
        return Ok(());
    }
    let Some(definition) = definitions.find(number).cloned() else {
        check.stray(key, bytes, ENTRY, "there is no such index");
        return Ok(());
    };
    if !definition.is_current() {
        return Ok(());
    }
    let Ok(record) = view::decode::<Record>(key, bytes) else {
        check.stray(key, bytes, ENTRY, "it cannot be read");
        return Ok(());
    };
    let at = key::of_type_and_id(of_type, Space::Document, &record.id);
    let reason = match (check.document_at(&at)?, check.body_at(&at)?) {
        (Primary::Is(document), Primary::Is(body)) => {
            let place = Place::of(&definition.members, &document.id, &body);
            let right = place.filter(|place| {
                place.key(&document.instance, &document.doctype, number) == key && place.record() == record
            });
            right.is_none().then(|| format!("{document} is not there"))
        }
        (Primary::Absent, _) | (_, Primary::Absent) => Some(format!("there is no document {:?}", record.id)),
        _ => None,
    };
    if let Some(reason) = reason {
        check.stray(key, bytes, ENTRY, reason);
    }
    Ok(())
}
