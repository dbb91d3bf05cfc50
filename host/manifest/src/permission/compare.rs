//! Comparing permission sets by what they allow.

use super::binding::SecretBinding;
use super::carried::{Carried, is_named};
use super::{Permissions, Rule, RuleKind};
use crate::verb::Method;
use crate::{HostPattern, Verb};

impl Permissions {
    /// Whether all that this set allows is allowed by `other`. A caller may only grant what it has.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.additions(other).is_empty()
    }

    /// Whether both sets allow the same, whatever the order, titles and descriptions of their rules.
    pub fn same_as(&self, other: &Self) -> bool {
        self.is_subset_of(other) && other.is_subset_of(self)
    }

    /// The rules of this set that allow something which `old` does not: new ones, and old ones that became wider.
    pub fn additions(&self, old: &Self) -> Vec<&Rule> {
        let (named, named_in_old) = (is_named(&self.0), is_named(&old.0));
        let granted = |claim: &Claim| old.0.iter().any(|own| own.grants(claim, named_in_old));
        self.0.iter().filter(|rule| !claims(rule, named).iter().all(granted)).collect()
    }
}

/// The smallest part of a rule that another rule grants or not.
struct Claim<'a> {
    kind: &'a RuleKind,
    /// `None`: any method, also unknown ones.
    method: Option<Method>,
    selector: Option<&'a str>,
    /// `None`: the whole type.
    value: Option<&'a str>,
    secret: SecretClaim<'a>,
}

/// What a claim says of secrets.
enum SecretClaim<'a> {
    None,
    Every,
    /// One secret in one part of a request; `None`: in any.
    One(&'a SecretBinding, Option<&'a str>),
}

/// `named` says whether a rule of the set names secrets.
fn claims(rule: &Rule, named: bool) -> Vec<Claim<'_>> {
    let methods: Vec<Option<Method>> = match (&rule.kind, rule.verbs.names()) {
        (RuleKind::Doctype(_), _) => rule.verbs.iter().map(|verb| Some(Method::Verb(verb))).collect(),
        (RuleKind::Http, None) => vec![None],
        (RuleKind::Http, Some(names)) => names.map(|name| name.parse().ok()).collect(),
    };
    let values: Vec<Option<&str>> = match rule.values.as_slice() {
        [] => vec![None],
        values => values.iter().map(|value| Some(value.as_str())).collect(),
    };
    let selector = rule.selector.as_deref();
    let places = methods.iter().flat_map(|method| values.iter().map(move |value| (method, *value)));
    places
        .flat_map(|(method, value)| {
            // Rules that name one secret each grant what a rule that names them all claims.
            let secrets = match value.map(|value| Carried::by(rule, value, named)) {
                Some(Carried::Every) => vec![SecretClaim::Every],
                Some(Carried::Named(bindings)) => {
                    let carried = bindings.iter().filter(|binding| carries(binding, method.as_ref(), value));
                    std::iter::once(SecretClaim::None).chain(carried.flat_map(one_by_one)).collect()
                }
                None => vec![SecretClaim::None],
            };
            secrets.into_iter().map(move |secret| Claim {
                kind: &rule.kind,
                method: method.clone(),
                selector,
                value,
                secret,
            })
        })
        .collect()
}

/// Whether a secret goes along with some request of this method to this value.
fn carries(binding: &SecretBinding, method: Option<&Method>, value: Option<&str>) -> bool {
    let pattern = value.and_then(|value| value.parse::<HostPattern>().ok());
    method.is_none_or(|method| binding.methods.contains_method(method.as_str()))
        && pattern.is_none_or(|pattern| binding.narrow(&pattern).is_some())
}

fn one_by_one(binding: &SecretBinding) -> Vec<SecretClaim<'_>> {
    if binding.fields.is_empty() {
        return vec![SecretClaim::One(binding, None)];
    }
    binding.fields.iter().map(|field| SecretClaim::One(binding, Some(field))).collect()
}

impl Rule {
    /// `named` says whether a rule of this rule's set names secrets.
    fn grants(&self, claim: &Claim, named: bool) -> bool {
        if self.is_everything() {
            return true;
        }
        match (&self.kind, claim.kind) {
            (RuleKind::Doctype(own), RuleKind::Doctype(claimed)) => {
                own.covers(claimed) && claim.verb().is_some_and(|verb| self.verbs.contains(verb)) && self.holds(claim)
            }
            (RuleKind::Http, RuleKind::Http) => {
                let method = match &claim.method {
                    None => self.verbs.is_all(),
                    Some(method) => self.verbs.contains_method(method.as_str()),
                };
                method
                    && self.values.iter().any(|own| {
                        self.reaches_host_of(own, claim) && claim.secret_is_within(Carried::by(self, own, named))
                    })
            }
            (RuleKind::Doctype(_), RuleKind::Http) | (RuleKind::Http, RuleKind::Doctype(_)) => false,
        }
    }

    fn holds(&self, claim: &Claim) -> bool {
        self.is_whole_type()
            || (self.selector.as_deref() == claim.selector
                && claim.value.is_some_and(|value| self.values.iter().any(|own| own == value)))
    }

    /// For one value of a rule on hosts: the same field of the account, or a pattern that covers the claimed one.
    fn reaches_host_of(&self, own: &str, claim: &Claim) -> bool {
        let pattern = |text: &str| text.parse::<HostPattern>().ok();
        let spelled_out = self.selector.is_none() && claim.selector.is_none();
        let covers = |claimed: &str| Some(pattern(own)?.covers(&pattern(claimed)?));
        self.selector.as_deref() == claim.selector
            && claim.value.is_some_and(|value| own == value || (spelled_out && covers(value).unwrap_or_default()))
    }
}

impl Claim<'_> {
    /// Whether the secret that is claimed goes along in another rule, too, which reaches the hosts of the claim.
    fn secret_is_within(&self, other: Carried<'_>) -> bool {
        let (binding, field) = match (&self.secret, other) {
            (SecretClaim::None, _) | (_, Carried::Every) => return true,
            (SecretClaim::Every, Carried::Named(_)) => return false,
            (SecretClaim::One(binding, field), Carried::Named(_)) => (binding, field),
        };
        let Carried::Named(others) = other else { return true };
        others.iter().any(|own| {
            let methods = match &self.method {
                // Any method that the claimed binding lets through.
                None => own.methods.is_all() || own.methods == binding.methods,
                Some(method) => own.methods.contains_method(method.as_str()),
            };
            let fields = own.fields.is_empty() || field.is_some_and(|field| own.fields.iter().any(|own| own == field));
            own.name == binding.name && methods && fields && self.path_is_within(binding, own)
        })
    }

    fn path_is_within(&self, claimed: &SecretBinding, own: &SecretBinding) -> bool {
        let pattern =
            self.value.filter(|_| self.selector.is_none()).and_then(|value| value.parse::<HostPattern>().ok());
        match pattern {
            None => own.path.is_none() || own.path == claimed.path,
            Some(pattern) => match (claimed.narrow(&pattern), own.narrow(&pattern)) {
                (Some(claimed), Some(own)) => own.covers(&claimed),
                (None, _) => true,
                (Some(_), None) => false,
            },
        }
    }

    const fn verb(&self) -> Option<Verb> {
        match self.method {
            Some(Method::Verb(verb)) => Some(verb),
            Some(Method::Other(_)) | None => None,
        }
    }
}
