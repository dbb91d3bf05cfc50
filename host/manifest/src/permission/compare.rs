//! Compares permission sets by the access that they grant.

use super::allowed_secrets::{AllowedSecrets, any_names_secrets};
use super::binding::SecretBinding;
use super::{Permissions, Rule, RuleKind};
use crate::verb::Method;
use crate::{HostPattern, Verb};

impl Permissions {
    /// Returns whether `other` allows everything that this set allows. Callers may only grant permissions that they
    /// have.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.additions(other).is_empty()
    }

    /// Returns whether both sets allow the same, regardless of the order, titles and descriptions of their rules.
    pub fn is_equivalent_to(&self, other: &Self) -> bool {
        self.is_subset_of(other) && other.is_subset_of(self)
    }

    /// Returns the rules of this set that allow something that `old` does not: new ones, and old ones that became
    /// wider.
    pub fn additions(&self, old: &Self) -> Vec<&Rule> {
        let (named, named_in_old) = (any_names_secrets(&self.0), any_names_secrets(&old.0));
        let grants: Vec<Grant<'_>> = old.0.iter().map(|rule| Grant::of(rule, named_in_old)).collect();
        let granted = |claim: &Claim<'_>| grants.iter().any(|grant| grant.allows(claim));
        self.0.iter().filter(|rule| !claims(rule, named).iter().all(granted)).collect()
    }
}

/// The smallest part of a rule that another rule either grants or does not.
struct Claim<'a> {
    kind: &'a RuleKind,
    /// `None` means any method, including unknown ones.
    method: Option<Method>,
    selector: Option<&'a str>,
    /// `None` means the whole doctype.
    value: Option<&'a str>,
    /// For hosts that are spelled out, the pattern of `value`; for a secret, only the part to which the secret may be
    /// sent.
    pattern: Option<HostPattern>,
    secret: SecretClaim<'a>,
}

/// Secrets that a claim covers.
enum SecretClaim<'a> {
    None,
    All,
    /// One secret in one part of a request; `None` means any part.
    One(&'a SecretBinding, Option<&'a str>),
}

/// Splits a rule into claims. `named` says whether a rule of the set names secrets.
fn claims(rule: &Rule, named: bool) -> Vec<Claim<'_>> {
    let claim = |method: &Option<Method>, value, pattern: Option<&HostPattern>, secret| Claim {
        kind: &rule.kind,
        method: method.clone(),
        selector: rule.selector.as_deref(),
        value,
        pattern: pattern.cloned(),
        secret,
    };
    let methods = methods(rule);
    if rule.values.is_empty() {
        return methods.iter().map(|method| claim(method, None, None, SecretClaim::None)).collect();
    }
    let mut claims = Vec::new();
    for value in &rule.values {
        let pattern = pattern(rule, value);
        let carried = AllowedSecrets::for_rule(rule, value, named);
        for method in &methods {
            let secret = if carried == AllowedSecrets::All { SecretClaim::All } else { SecretClaim::None };
            claims.push(claim(method, Some(value), pattern.as_ref(), secret));
        }
        let AllowedSecrets::Named(bindings) = carried else { continue };
        for binding in bindings {
            let reached = match &pattern {
                Some(pattern) => binding.narrow(pattern).map(Some),
                None => Some(None),
            };
            // No path of this value lies below the path of the binding.
            let Some(reached) = reached else { continue };
            for method in methods.iter().flat_map(|method| common(method.as_ref(), binding)) {
                let parts: Vec<Option<&str>> = match binding.fields.as_slice() {
                    [] => vec![None],
                    fields => fields.iter().map(|field| Some(field.as_str())).collect(),
                };
                let one = |part| claim(&method, Some(value), reached.as_ref(), SecretClaim::One(binding, part));
                claims.extend(parts.into_iter().map(one));
            }
        }
    }
    claims
}

/// Returns the methods of a rule; `None` stands for all.
fn methods(rule: &Rule) -> Vec<Option<Method>> {
    match (&rule.kind, rule.verbs.names()) {
        (RuleKind::Doctype(_), _) => rule.verbs.iter().map(|verb| Some(Method::Verb(verb))).collect(),
        (RuleKind::Http, None) => vec![None],
        (RuleKind::Http, Some(names)) => names.map(|name| name.parse().ok()).collect(),
    }
}

/// Returns the methods with which a secret is sent, out of one method that its rule allows, or out of all methods.
fn common(method: Option<&Method>, binding: &SecretBinding) -> Vec<Option<Method>> {
    let Some(names) = binding.methods.names() else { return vec![method.cloned()] };
    match method {
        None => names.map(|name| name.parse().ok()).collect(),
        Some(method) if binding.methods.contains_method(method.as_str()) => vec![Some(method.clone())],
        // GET allows HEAD, so a secret bound to HEAD alone is sent with it.
        Some(Method::Verb(Verb::Get)) if binding.methods.contains_method("HEAD") => {
            vec![Some(Method::Other("HEAD".to_owned()))]
        }
        Some(_) => Vec::new(),
    }
}

/// Returns the pattern of a rule's value, or `None` if the value is not a host pattern.
fn pattern(rule: &Rule, value: &str) -> Option<HostPattern> {
    if rule.kind != RuleKind::Http || rule.selector.is_some() {
        return None;
    }
    value.parse().ok()
}

/// A rule that may grant a claim.
struct Grant<'a> {
    rule: &'a Rule,
    /// Each value with its pattern and the allowed secrets.
    values: Vec<(&'a str, Option<HostPattern>, AllowedSecrets<'a>)>,
}

impl<'a> Grant<'a> {
    /// Creates the grant of a rule. `named` says whether a rule of its set names secrets.
    fn of(rule: &'a Rule, named: bool) -> Self {
        let value =
            |value: &'a String| (value.as_str(), pattern(rule, value), AllowedSecrets::for_rule(rule, value, named));
        Self { rule, values: rule.values.iter().map(value).collect() }
    }

    fn allows(&self, claim: &Claim<'_>) -> bool {
        if self.rule.is_everything() {
            return true;
        }
        let verbs = &self.rule.verbs;
        match (&self.rule.kind, claim.kind) {
            (RuleKind::Doctype(own), RuleKind::Doctype(claimed)) => {
                own.covers(claimed)
                    && claim.verb().is_some_and(|verb| verbs.contains(verb))
                    && self.covers_values(claim)
            }
            (RuleKind::Http, RuleKind::Http) => {
                let method =
                    claim.method.as_ref().map_or(verbs.is_all(), |method| verbs.contains_method(method.as_str()));
                method
                    && self.rule.selector.as_deref() == claim.selector
                    && self.values.iter().any(|(own, pattern, carried)| {
                        claim.is_reached_by(own, pattern.as_ref()) && claim.is_carried_by(*carried)
                    })
            }
            (RuleKind::Doctype(_), RuleKind::Http) | (RuleKind::Http, RuleKind::Doctype(_)) => false,
        }
    }

    fn covers_values(&self, claim: &Claim<'_>) -> bool {
        self.rule.covers_whole_type()
            || (self.rule.selector.as_deref() == claim.selector
                && claim.value.is_some_and(|value| self.values.iter().any(|(own, ..)| *own == value)))
    }
}

impl Claim<'_> {
    /// Returns whether a value of a rule on hosts covers the claim, which means that it is the same field of the
    /// account, or a pattern that covers the claimed pattern.
    fn is_reached_by(&self, own: &str, pattern: Option<&HostPattern>) -> bool {
        match (pattern, &self.pattern) {
            (Some(own), Some(claimed)) => own.covers(claimed),
            (None, None) => self.value == Some(own),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Returns whether another rule that covers the hosts of the claim also allows the claimed secret.
    fn is_carried_by(&self, carried: AllowedSecrets<'_>) -> bool {
        match (&self.secret, carried) {
            (SecretClaim::None, _) | (_, AllowedSecrets::All) => true,
            (SecretClaim::All, AllowedSecrets::Named(_)) => false,
            (SecretClaim::One(claimed, field), AllowedSecrets::Named(bindings)) => bindings.iter().any(|own| {
                own.name == claimed.name
                    && self
                        .method
                        .as_ref()
                        .map_or(own.methods.is_all(), |method| own.methods.contains_method(method.as_str()))
                    && own.covers_field(*field)
                    && match &self.pattern {
                        Some(pattern) => own.narrow(pattern).as_ref() == Some(pattern),
                        None => own.covers_path_of(claimed),
                    }
            }),
        }
    }

    const fn verb(&self) -> Option<Verb> {
        match self.method {
            Some(Method::Verb(verb)) => Some(verb),
            Some(Method::Other(_)) | None => None,
        }
    }
}
