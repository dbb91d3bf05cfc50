//! Secondary indexes: documents of one doctype in the order of some of their fields.
//!
//! An index is identified by its fields and created when it is first requested. From the commit that declares it on,
//! every commit that writes a document of the doctype also writes its index entries ([`update()`]). Therefore, only the
//! older documents remain to be added, in small steps that a crash can interrupt but not undo ([`build`]). The index
//! can be read once this is done ([`scan()`]).
//!
//! Values are in CouchDB's order ([`konnector_query::collation`]). A document that lacks one of the fields is not in
//! the index.

mod build;
mod catalog;
mod check;
mod cursor;
mod entry;
mod scan;
mod update;

pub(crate) use build::{drop_index, ensure};
pub(crate) use catalog::list;
pub use catalog::{Index, MAX_INDEXES};
pub(crate) use check::{CatalogEntries, check_catalog, check_document, check_entry};
pub use cursor::IndexCursor;
pub use scan::IndexHit;
pub(crate) use scan::scan;
pub(crate) use update::update;
