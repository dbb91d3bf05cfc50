//! The manifest of a konnector, and the permission rules that decide what the konnector may do.
//!
//! [`Manifest::parse`] reads the file `manifest.konnector` of a bundle. It preserves fields that the platform does not
//! use, and its errors name the field, line and column. The manifest contains the [`Field`]s of the form for the user,
//! the requested limits ([`LimitValues`]) and the [`Permissions`].
//!
//! Access that no [`Rule`] allows is denied, and the error names the rule to add. Rules on documents name doctypes
//! ([`DoctypePattern`]) and verbs ([`Verbs`]). Rules on hosts name host patterns ([`HostPattern`]) and the secrets that
//! may be sent there; for one run they become [`HttpRules`]. The sandbox checks the rules before each call of a guest,
//! and the HTTP API before each request with a token. There is only one [`Permissions`] type, so no two layers can
//! disagree.
//!
//! This crate contains pure types and checks without I/O, shared by all other crates. Reading bundles and asking the
//! user for consent are tasks of the platform.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use konnector_manifest::{Doctype, Frequency, Manifest, Verb};
//!
//! let manifest = Manifest::parse(
//!     br#"{
//!         "name": "Bank101",
//!         "version": "1.0.0",
//!         "frequency": "daily",
//!         "permissions": {
//!             "bills": { "type": "io.cozy.bills", "verbs": ["GET", "POST"] },
//!             "vendor": { "type": "http", "values": ["https://www.bank101.example"] }
//!         }
//!     }"#,
//! )?;
//! assert_eq!((manifest.name.as_str(), manifest.frequency), ("Bank101", Frequency::Daily));
//!
//! let bills: Doctype = "io.cozy.bills".parse()?;
//! assert!(manifest.permissions.allows_type(Verb::Post, &bills));
//! let denied = manifest.permissions.check_type(Verb::Delete, &bills).unwrap_err();
//! assert!(denied.message.starts_with("the manifest has no rule for DELETE on io.cozy.bills"));
//! # Ok(())
//! # }
//! ```

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
