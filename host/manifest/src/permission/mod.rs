//! Permissions of a konnector, an app or a token.

mod allowed_secrets;
mod binding;
mod compare;
mod denied;
mod http;
mod rule;
mod scope;
mod set;

pub use binding::{RequestPart, SecretBinding, SecretScope};
pub use denied::PermissionDenied;
pub use http::HttpRules;
pub use rule::{Rule, RuleKind};
pub use set::Permissions;

#[cfg(test)]
mod tests;
