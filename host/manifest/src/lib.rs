//! The manifest of a konnector, and the permission rules that decide what the konnector may do.
//!
//! Pure types and checks without I/O, shared by all other crates. The sandbox checks the rules before each call of a
//! guest, and the HTTP API before each request with a token. There is only one [`Permissions`] type, so no two layers
//! can disagree.

mod doctype;
mod error;
mod field;
mod frequency;
mod host_pattern;
mod json;
pub mod json_budget;
mod limit;
mod manifest;
mod permission;
mod slug;
mod source;
mod string_newtype;
mod text_position;
pub mod untrusted;
mod verb;

pub use doctype::{Doctype, DoctypePattern};
pub use error::Error;
pub use field::{Choice, Field, FieldKind};
pub use frequency::Frequency;
pub use host_pattern::HostPattern;
#[doc(hidden)]
pub use host_pattern::oracle;
pub use limit::{Limit, LimitValues, Unit};
pub use manifest::{Manifest, Terms};
pub use permission::{
    HttpRules, PermissionDenied, Permissions, RequestPart, Rule, RuleKind, SecretBinding, SecretScope,
};
pub use slug::Slug;
pub use source::{GitTransport, OciReference, Source};
pub use text_position::TextPosition;
pub use verb::{Verb, Verbs};
