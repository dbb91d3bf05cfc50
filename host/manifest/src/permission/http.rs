//! The rules on hosts, as checked by the HTTP gate.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use url::Url;

use super::allowed_secrets::{self, AllowedSecrets};
use super::binding::{SecretBinding, SecretScope};
use super::rule::ACCOUNT_SELECTOR;
use super::{PermissionDenied, Rule, RuleKind, denied};
use crate::{Error, HostPattern, Verbs};

/// The hosts that one run may reach, and the allowed methods. Without a rule, no host may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpRules {
    rules: Vec<HostRule>,
    /// Whether every host is allowed, for the server's own requests.
    allows_all: bool,
    /// Empty fields of the account to which a rule refers.
    empty_fields: Vec<String>,
    /// Titles of all rules of the set, to avoid collisions in a proposal.
    titles: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct HostRule {
    methods: Verbs,
    hosts: HostPattern,
    secrets: HostSecrets,
}

/// Owned form of [`AllowedSecrets`], without the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HostSecrets {
    All,
    Named(Vec<SecretBinding>),
}

impl HostRule {
    fn allows(&self, method: &str, url: &Url) -> bool {
        self.methods.contains_method(method) && self.hosts.matches(url)
    }
}

impl HttpRules {
    /// Checks whether a request may be sent.
    ///
    /// # Errors
    ///
    /// If no rule allows the request; the message names the rule to add. A URL with a user name or password is always
    /// denied.
    pub fn check(&self, method: &str, url: &Url) -> Result<(), PermissionDenied> {
        if self.allows_all || self.rules.iter().any(|rule| rule.allows(method, url)) {
            return Ok(());
        }
        let narrowed = self.rules.iter().any(|rule| rule.hosts.matches_host(url))
            && !self.rules.iter().any(|rule| rule.hosts.matches(url));
        let mut denied = denied::on_host(&self.titles, narrowed, method, url);
        for field in &self.empty_fields {
            denied
                .message
                .push_str(&format!(r#" (a rule takes its host from the account's field "{field}", which is empty)"#));
        }
        Err(denied)
    }

    /// Allows every host, but no secret. This is for requests of the server itself, whose redirects may lead anywhere.
    pub fn allow_all() -> Self {
        Self { allows_all: true, ..Self::default() }
    }

    /// Returns whether no host can be reached.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.allows_all
    }

    /// Checks whether a request may carry a secret of the account, and returns the parts that may contain it. One rule
    /// must allow both the request and the secret. If any rule of the set names secrets, a rule allows the secrets it
    /// names, within their bindings; otherwise it allows every secret, unless the rule has a star. A rule for https
    /// never allows a secret over http.
    ///
    /// # Errors
    ///
    /// If no rule allows the secret; the message says what to add to the rule.
    pub fn check_secret(&self, secret: &str, method: &str, url: &Url) -> Result<SecretScope, PermissionDenied> {
        let (mut fields, mut is_allowed_elsewhere) = (BTreeSet::new(), false);
        for rule in self.rules.iter().filter(|rule| rule.allows(method, url)) {
            let HostSecrets::Named(bindings) = &rule.secrets else { return Ok(SecretScope::Anywhere) };
            for binding in bindings.iter().filter(|binding| binding.name == secret) {
                if !binding.allows(method, url) {
                    is_allowed_elsewhere = true;
                } else if binding.fields.is_empty() {
                    return Ok(SecretScope::Anywhere);
                } else {
                    fields.extend(binding.fields.iter().cloned());
                }
            }
        }
        if fields.is_empty() {
            return Err(denied::on_secret(secret, is_allowed_elsewhere, method, url));
        }
        Ok(SecretScope::Fields(fields))
    }

    /// Iterates over the hosts, as patterns.
    pub fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        self.rules.iter().map(|rule| &rule.hosts)
    }
}

pub(super) fn resolve(rules: &[Rule], account_fields: &Map<String, Value>) -> Result<HttpRules, Error> {
    let titles = rules.iter().map(|rule| rule.title.clone()).collect();
    let named = allowed_secrets::any_names_secrets(rules);
    let mut resolved = HttpRules { titles, ..HttpRules::default() };
    for rule in rules.iter().filter(|rule| rule.kind == RuleKind::Http) {
        for value in &rule.values {
            let hosts = match rule.selector.as_deref() {
                None => Some(value.parse()?),
                Some(ACCOUNT_SELECTOR) => account_host(value, account_fields)?,
                Some(_) => None,
            };
            match hosts {
                Some(hosts) => {
                    let secrets = match AllowedSecrets::for_rule(rule, value, named) {
                        AllowedSecrets::All => HostSecrets::All,
                        AllowedSecrets::Named(names) => HostSecrets::Named(names.to_vec()),
                    };
                    resolved.rules.push(HostRule { methods: rule.verbs.clone(), hosts, secrets });
                }
                None => resolved.empty_fields.push(value.clone()),
            }
        }
    }
    Ok(resolved)
}

/// Returns the host in a field of the account, with https as the default scheme, or `None` while the field is empty.
fn account_host(field: &str, account_fields: &Map<String, Value>) -> Result<Option<HostPattern>, Error> {
    let reject = |reason| Err(Error::AccountAddress { field: field.to_owned(), reason });
    let address = match account_fields.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(address)) => address.trim(),
        Some(_) => return reject("it is not a string"),
    };
    if address.is_empty() {
        return Ok(None);
    }
    let url = if address.contains("://") { Url::parse(address) } else { Url::parse(&format!("https://{address}")) };
    let Ok(url) = url else { return reject("it is not a valid address") };
    if url.host_str().is_some_and(|host| host.contains('*')) {
        return reject("it must name one host, without a star");
    }
    match HostPattern::from_origin(&url) {
        Some(hosts) => Ok(Some(hosts)),
        None if matches!(url.scheme(), "http" | "https") => reject("it must not contain a user name or a password"),
        None => reject("it must begin with https:// or http://"),
    }
}
