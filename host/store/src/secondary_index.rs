//! Secondary indexes: documents of one type in the order of some of their members.
//!
//! An index is named by its members and made when it is first asked for. From the commit that declares it on, every commit that writes a
//! document of the type writes its entries too ([`maintain`]), so the documents that were there before are all that is left to do, in
//! small steps that a crash only interrupts ([`build`]). It can be read once that is done ([`scan`]).
//!
//! Values are in CouchDB's order ([`konnector_query::collation`]). A document that lacks one of the members is not in the index.

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
