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
pub(super) enum Carried<'a> {
    /// All of the account.
    Every,
    /// These.
    Named(&'a [SecretBinding]),
}

impl<'a> Carried<'a> {
    /// `named` says whether a rule of the set names secrets, see [`is_named`].
    pub(super) fn by(rule: &'a Rule, value: &str, named: bool) -> Self {
        let spelled_out = || rule.selector.is_some() || value.parse::<HostPattern>().is_ok_and(|host| host.is_exact());
        if !named && rule.kind == RuleKind::Http && spelled_out() { Self::Every } else { Self::Named(&rule.secrets) }
    }
}

/// Whether some rule names secrets.
pub(super) fn is_named(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| !rule.secrets.is_empty())
}
