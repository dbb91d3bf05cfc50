//! Which of the account's secrets go to a host.

use super::binding::SecretBinding;
use super::{Rule, RuleKind};
use crate::HostPattern;

/// The secrets that go along with the requests that a rule allows to one of its values.
///
/// As soon as one rule of a set names secrets, each goes where it is named and nowhere else. A set that names none binds all of them to
/// every host that is spelled out, in the manifest or by the user in the account, and none to names under a star: those the author need
/// not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AllowedSecrets<'a> {
    /// All of the account.
    All,
    /// These.
    Named(&'a [SecretBinding]),
}

impl<'a> AllowedSecrets<'a> {
    /// `named` says whether a rule of the set names secrets, see [`is_named`].
    pub(super) fn for_rule(rule: &'a Rule, value: &str, named: bool) -> Self {
        let spelled_out = || rule.selector.is_some() || value.parse::<HostPattern>().is_ok_and(|host| host.is_exact());
        if !named && rule.kind == RuleKind::Http && spelled_out() { Self::All } else { Self::Named(&rule.secrets) }
    }
}

/// Whether some rule names secrets.
pub(super) fn any_names_secrets(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| !rule.secrets.is_empty())
}
