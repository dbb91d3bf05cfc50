//! Comparing permission sets by what they allow.

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
        self.0
            .iter()
            .filter(|rule| !claims(rule).iter().all(|claim| old.0.iter().any(|own| own.grants(claim))))
            .collect()
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
}

fn claims(rule: &Rule) -> Vec<Claim<'_>> {
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
    methods
        .iter()
        .flat_map(|method| {
            values.iter().map(|value| Claim { kind: &rule.kind, method: method.clone(), selector, value: *value })
        })
        .collect()
}

impl Rule {
    fn grants(&self, claim: &Claim) -> bool {
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
                method && (self.holds(claim) || self.names_host_of(claim))
            }
            (RuleKind::Doctype(_), RuleKind::Http) | (RuleKind::Http, RuleKind::Doctype(_)) => false,
        }
    }

    fn holds(&self, claim: &Claim) -> bool {
        self.is_whole_type()
            || (self.selector.as_deref() == claim.selector
                && claim.value.is_some_and(|value| self.values.iter().any(|own| own == value)))
    }

    /// For rules that spell out their hosts.
    fn names_host_of(&self, claim: &Claim) -> bool {
        let pattern = |text: &str| text.parse::<HostPattern>().ok();
        self.selector.is_none()
            && claim.selector.is_none()
            && claim.value.and_then(pattern).is_some_and(|claimed| {
                self.values.iter().filter_map(|own| pattern(own)).any(|own| own.covers(&claimed))
            })
    }
}

impl Claim<'_> {
    const fn verb(&self) -> Option<Verb> {
        match self.method {
            Some(Method::Verb(verb)) => Some(verb),
            Some(Method::Other(_)) | None => None,
        }
    }
}
