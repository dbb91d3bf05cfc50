//! The catalog of indexes: one entry for each doctype that has any.

use konnector_manifest::Doctype;
use konnector_query::{FieldPath, collation};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::InstanceId;
use crate::key;
use crate::kv::Kv;
use crate::view::{self, View};

/// Maximum number of indexes of one doctype.
pub const MAX_INDEXES: usize = 16;
/// Maximum number of fields of an index.
const MAX_INDEX_FIELDS: usize = 8;
/// Maximum length of an index's fields in bytes, chosen so that all indexes of a doctype fit into one entry.
const MAX_INDEX_FIELDS_BYTES: usize = 320;

/// An index that is ready to be read, because it contains every document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub(super) instance: InstanceId,
    pub(super) doctype: Doctype,
    pub(super) number: u32,
    pub(super) fields: Vec<String>,
}

impl Index {
    /// Returns the fields, as they were requested.
    #[must_use]
    pub fn fields(&self) -> &[String] {
        &self.fields
    }
}

/// The indexes of one doctype.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Catalog {
    /// Number of the next index; numbers are never reused.
    next: u32,
    pub(super) indexes: Vec<CatalogEntry>,
    /// Dropped indexes whose entries may still exist.
    #[serde(default)]
    pub(super) dropped: Vec<u32>,
}

/// One index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CatalogEntry {
    pub(super) number: u32,
    #[serde(rename = "members")]
    pub(super) fields: Vec<String>,
    /// The order of the entries: [`collation::FINGERPRINT`] when the index was created.
    #[serde(rename = "order")]
    collation: u32,
    /// Whether the index contains every document.
    pub(super) ready: bool,
}

impl CatalogEntry {
    /// Returns whether the entries are in the current order and therefore usable.
    pub(super) fn is_current(&self) -> bool {
        self.collation == *collation::FINGERPRINT
    }
}

impl Catalog {
    pub(super) fn read(view: &mut View<'_>, instance: &InstanceId, doctype: &Doctype) -> Result<Option<Self>> {
        view.get(&key::of_catalog(instance, doctype))
    }

    pub(super) fn write(&self, view: &mut View<'_>, instance: &InstanceId, doctype: &Doctype) -> Result<()> {
        view.put(key::of_catalog(instance, doctype), self)
    }

    pub(super) fn find(&self, fields: &[String]) -> Option<&CatalogEntry> {
        self.indexes.iter().find(|index| index.fields == fields)
    }

    /// Adds an index.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the doctype already has the maximum number of indexes.
    pub(super) fn declare(&mut self, doctype: &Doctype, fields: &[String]) -> Result<()> {
        if self.indexes.len() >= MAX_INDEXES {
            let names = self.indexes.iter().map(|index| format!("[{}]", index.fields.join(", ")));
            let reason = format!(
                "the doctype {doctype} already has {MAX_INDEXES} indexes, which is the maximum; \
                 use one of {}, or delete one",
                names.collect::<Vec<_>>().join(" ")
            );
            return Err(Error::Invalid { field: "index", reason });
        }
        let (number, order) = (self.next, *collation::FINGERPRINT);
        self.next += 1;
        self.indexes.push(CatalogEntry { number, fields: fields.to_vec(), collation: order, ready: false });
        Ok(())
    }

    /// Drops an index; its entries must still be removed.
    pub(super) fn remove(&mut self, number: u32) {
        self.indexes.retain(|index| index.number != number);
        self.dropped.push(number);
    }
}

/// Returns the fields of the indexes of a doctype.
pub(crate) fn list(kv: &dyn Kv, instance: &InstanceId, doctype: &Doctype) -> Result<Vec<Vec<String>>> {
    let catalog = view::read::<Catalog>(kv, &key::of_catalog(instance, doctype))?.unwrap_or_default();
    Ok(catalog.indexes.into_iter().map(|index| index.fields).collect())
}

/// Validates a list of fields.
///
/// # Errors
///
/// [`Error::Invalid`] if there are no fields, too many, invalid or repeated ones, or their names are too long.
pub(super) fn validate_fields(fields: &[String]) -> Result<()> {
    let invalid = |reason: String| Err(Error::Invalid { field: "index", reason });
    if fields.is_empty() || fields.len() > MAX_INDEX_FIELDS {
        return invalid(format!("an index has 1 to {MAX_INDEX_FIELDS} fields, but this one has {}", fields.len()));
    }
    let mut paths = Vec::with_capacity(fields.len());
    for field in fields {
        let path = match FieldPath::parse(field) {
            Ok(path) => path,
            Err(error) => return invalid(error.to_string()),
        };
        if paths.contains(&path) {
            return invalid(format!("the field `{field}` occurs twice"));
        }
        paths.push(path);
    }
    // The size within the entry, where quotation marks and control characters are escaped.
    let size: usize = fields.iter().map(|field| field.escape_default().count()).sum();
    if size > MAX_INDEX_FIELDS_BYTES {
        return invalid(format!(
            "the names of its fields are {size} bytes long in total, but the limit is {MAX_INDEX_FIELDS_BYTES} bytes"
        ));
    }
    Ok(())
}
