//! Consent of users: the scope that a user accepts when a konnector is installed, and the additions that an update must
//! not make without asking.

use std::collections::BTreeSet;
use std::fmt;

use konnector_manifest::{Field, Manifest, Permissions, Rule, RuleKind, SecretBinding, Terms, Verb};
use konnector_sandbox::{ComponentInfo, ComponentKind};

use super::Konnector;
use crate::Result;
use konnector_documents::doctype::ACCOUNTS;

/// Doctypes that an update may add without asking: originals that certify the konnector's documents (Cozy API, update
/// rules, §2.7).
const CERTIFIED_DOCTYPES: [&str; 2] = ["io.cozy.certified.carbon_copy", "io.cozy.certified.electronic_safe"];

/// Maximum number of list items that are named individually, because a manifest has up to 2 MiB, and the document of
/// the konnector stores the sentence.
const MAX_LISTED: usize = 10;

/// Everything about one version of a konnector that a user is asked to accept, computed from its manifest and its
/// component. Every update, requested or automatic and from any source, compares the installed version with the new one
/// by this value alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConsentScope {
    /// Permission rules, with the hosts that each secret is sent to.
    rules: Permissions,
    /// Whether the program sees the account's passwords in plain text.
    reads_secrets: bool,
    /// Fields of the form whose values the program sees.
    readable_fields: BTreeSet<String>,
    /// Fields of the form that are sealed.
    secret_fields: BTreeSet<String>,
    /// Fields of the form whose secret the program may replace.
    rotating_fields: BTreeSet<String>,
    terms: Option<Terms>,
}

/// An addition of a version over the previous one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConsentAddition {
    /// These rules are new or wider.
    Rules(Vec<String>),
    /// The program now sees passwords.
    ReadsSecrets,
    /// A field that was sealed is now shown to the program.
    ReadableField(String),
    /// The program may now replace a secret that the user entered.
    ReplacesSecret(String),
    /// Other terms apply.
    Terms(Terms),
}

impl fmt::Display for ConsentAddition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules(rules) => write!(f, "it requests additional permissions: {}", join_limited(rules, "; ")),
            Self::ReadsSecrets => f.write_str("it reads the passwords of its accounts instead of only using them"),
            Self::ReadableField(name) => write!(f, "it reads the field '{name}', which was secret before"),
            Self::ReplacesSecret(name) => write!(f, "it may replace the secret '{name}' that you entered"),
            Self::Terms(terms) => write!(f, "its terms change: {} {}", terms.id, terms.version),
        }
    }
}

/// Returns whether the program of a version sees passwords in plain text, because it imports `reveal`, or because it is
/// a command component, to which the API shows its account, and has a rule that allows reading accounts.
pub(super) fn reads_secrets(info: &ComponentInfo, permissions: &Permissions) -> bool {
    info.reads_secrets || (info.kind == ComponentKind::Command && permissions.allows_any(Verb::Get, &ACCOUNTS))
}

impl ConsentScope {
    /// Computes the scope of an offered version.
    pub(super) fn from_manifest(manifest: &Manifest, info: &ComponentInfo) -> Self {
        Self::new(manifest, reads_secrets(info, &manifest.permissions))
    }

    /// Computes the scope of the installed version.
    ///
    /// # Errors
    ///
    /// If the stored manifest cannot be read.
    pub(super) fn from_installed(konnector: &Konnector) -> Result<Self> {
        Ok(Self::new(&konnector.manifest()?, konnector.reads_secrets))
    }

    fn new(manifest: &Manifest, reads_secrets: bool) -> Self {
        let fields = |wanted: &dyn Fn(&Field) -> bool| {
            manifest.fields.iter().filter(|field| wanted(field)).map(|field| field.name.clone()).collect()
        };
        Self {
            rules: without_certified_doctypes(&manifest.permissions),
            reads_secrets,
            readable_fields: fields(&|field| !field.secret),
            secret_fields: fields(&|field| field.secret),
            rotating_fields: fields(&|field| field.rotates),
            terms: manifest.terms.clone(),
        }
    }

    /// Returns what a user must accept before this version replaces `old`; empty when they have already accepted all of
    /// it. A version that does less needs no consent, unlike in Cozy, where any difference in the rules counts. Nobody
    /// should stay on the wider version because they did not respond.
    pub(super) fn additions_over(&self, old: &Self) -> Vec<ConsentAddition> {
        let mut growth = Vec::new();
        let wider: Vec<String> = self.rules.additions(&old.rules).into_iter().map(describe_rule).collect();
        if !wider.is_empty() {
            growth.push(ConsentAddition::Rules(wider));
        }
        if self.reads_secrets && !old.reads_secrets {
            growth.push(ConsentAddition::ReadsSecrets);
        }
        let readable = self.readable_fields.intersection(&old.secret_fields);
        growth.extend(readable.cloned().map(ConsentAddition::ReadableField));
        let replaced = old.secret_fields.iter().filter(|name| self.may_replace(name) && !old.may_replace(name));
        growth.extend(replaced.cloned().map(ConsentAddition::ReplacesSecret));
        if let Some(terms) = &self.terms
            && old.terms.as_ref().is_none_or(|old| (&terms.id, &terms.version) != (&old.id, &old.version))
        {
            growth.push(ConsentAddition::Terms(terms.clone()));
        }
        growth
    }
}

impl ConsentScope {
    /// Returns the same as [`Manifest::may_replace_secret`] for this version.
    fn may_replace(&self, name: &str) -> bool {
        let declared = self.secret_fields.contains(name) || self.readable_fields.contains(name);
        if declared { self.rotating_fields.contains(name) } else { name != "password" }
    }
}

impl ConsentAddition {
    /// Returns whether the operator's setting `permissions_skip_verification` can accept the addition for all users.
    /// Passwords and terms always need the user.
    pub(super) const fn is_waivable(&self) -> bool {
        matches!(self, Self::Rules(_))
    }
}

/// Describes a rule for users.
fn describe_rule(rule: &Rule) -> String {
    let verbs: Vec<&str> = match rule.verbs.names() {
        Some(names) => names.collect(),
        None => vec!["ALL"],
    };
    let what = match &rule.kind {
        RuleKind::Doctype(doctype) => doctype.to_string(),
        RuleKind::Http => join_limited(&rule.values, " "),
    };
    let bindings: Vec<String> = rule.secrets.iter().map(describe_binding).collect();
    let secrets = if bindings.is_empty() { String::new() } else { format!(" with {}", join_limited(&bindings, " ")) };
    format!("{} on {what}{secrets}", verbs.join(" "))
}

/// Describes a secret and the part of the vendor's requests to which it is sent.
fn describe_binding(binding: &SecretBinding) -> String {
    let path = binding.path.as_deref().map(|path| format!(" below {path}")).unwrap_or_default();
    let fields =
        if binding.fields.is_empty() { String::new() } else { format!(" in {}", join_limited(&binding.fields, ",")) };
    format!("{}{path}{fields}", binding.name)
}

fn join_limited(items: &[String], separator: &str) -> String {
    let listed: Vec<&str> = items.iter().take(MAX_LISTED).map(String::as_str).collect();
    let more = items.len() - listed.len();
    let rest = if more > 0 { format!("{separator}and {more} more") } else { String::new() };
    format!("{}{rest}", listed.join(separator))
}

/// Returns the rules that need the user's consent.
fn without_certified_doctypes(permissions: &Permissions) -> Permissions {
    let certified = |kind: &RuleKind| matches!(kind, RuleKind::Doctype(doctypes) if CERTIFIED_DOCTYPES.contains(&doctypes.to_string().as_str()));
    Permissions::from(permissions.rules().iter().filter(|rule| !certified(&rule.kind)).cloned().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
