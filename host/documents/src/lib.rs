//! Documents, the state of everything above: a person's JSON documents with their revisions, indexes and change feeds.
//!
//! [`Core`] is what every layer shares: the store with the caller's lease, the clocks, the key, and the events. Its
//! operations are grouped in handles: `core.documents()`, `core.instances()`. All writes go through [`Core::commit`],
//! in which higher layers take part through a [`hook::CommitHook`]; the rules that they have for a doctype of their own
//! are a [`hook::DocumentRule`]. This crate knows no file, account, konnector or job.

#![allow(missing_docs, reason = "names say enough within the domain; docs say what a name cannot")]

pub mod changes;
mod check;
pub mod clock;
mod core;
pub mod cursor;
pub mod design;
pub mod doctype;
pub mod document;
mod error;
pub mod find;
mod foreign_account;
pub mod handles;
pub mod hook;
pub mod instance;
pub mod offload;
pub mod principal;
pub mod random;
pub mod rate;
pub mod realtime;
mod replica;
pub mod revalidating_cache;
pub mod scan;
pub mod stored;

pub use crate::check::{HIDDEN_FROM_KONNECTORS_MESSAGE, is_hidden_from_konnectors};
pub use crate::core::{Core, CoreParts};
pub use crate::error::{Error, Result};
pub use crate::foreign_account::{AccountLocation, ForeignAccount};
pub use crate::handles::*;
pub use crate::stored::Stored;
