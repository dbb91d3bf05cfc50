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
mod entry;
mod maintain;
mod range;
mod scan;

pub(crate) use build::{drop_index, ensure};
pub(crate) use catalog::declared;
pub use catalog::{INDEXES, Index};
pub(crate) use check::{Definitions, check_catalog, check_document, check_entry};
pub(crate) use maintain::maintain;
pub use range::Position;
pub use scan::Hit;
pub(crate) use scan::scan;
