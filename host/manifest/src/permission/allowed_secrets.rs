//! Decides which of the account's secrets may be sent to a host.

use super::binding::SecretBinding;
use super::{Rule, RuleKind};
use crate::HostPattern;

/// Secrets that may accompany the requests that a rule allows to one of its values.
///
/// If any rule of a set names secrets, each secret is sent only where it is named. A set that names none binds all
/// secrets to every host that is spelled out, in the manifest or by the user in the account. It binds none to names
/// under a star, because the author may not know these hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AllowedSecrets<'a> {
    /// All secrets of the account.
    All,
    /// Only these secrets.
    Named(&'a [SecretBinding]),
}

impl<'a> AllowedSecrets<'a> {
    /// Returns the secrets for one value of a rule. `named` says whether a rule of the set names secrets, see
    /// [`any_names_secrets`].
    pub(super) fn for_rule(rule: &'a Rule, value: &str, named: bool) -> Self {
        let spelled_out = || rule.selector.is_some() || value.parse::<HostPattern>().is_ok_and(|host| host.is_exact());
        if !named && rule.kind == RuleKind::Http && spelled_out() { Self::All } else { Self::Named(&rule.secrets) }
    }
}

/// Returns whether any rule names secrets.
pub(super) fn any_names_secrets(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| !rule.secrets.is_empty())
}
