//! What a konnector, an app or a token may do.

mod binding;
mod carried;
mod compare;
mod denied;
mod http;
mod rule;
mod scope;
mod set;

pub use binding::{RequestPart, SecretBinding, SecretScope};
pub use denied::Denied;
pub use http::HttpRules;
pub use rule::{Rule, RuleKind};
pub use set::Permissions;

#[cfg(test)]
mod tests;
