//! Permission sets and their checks.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::http::{self, HttpRules};
use super::{PermissionDenied, Rule, RuleKind, denied};
use crate::json::{ObjectReader, check_identifier};
use crate::{Doctype, DoctypePattern, Error, Verb, Verbs};

/// An ordered set of rules. Access that no rule allows is denied.
///
/// It is serialised as in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions(pub(super) Vec<Rule>);

impl Permissions {
    /// Parses the `permissions` of a manifest: an object of title → rule, whose order is preserved.
    ///
    /// # Errors
    ///
    /// If a rule is invalid; the error names the field, from `permissions` on. An illegal doctype is
    /// [`Error::Doctype`], see [`Error::is_doctype`].
    pub fn from_manifest(rules: &Map<String, Value>) -> Result<Self, Error> {
        rules
            .iter()
            .map(|(title, rule)| {
                check_identifier("permissions".to_owned(), title)?;
                Rule::from_json(title, &ObjectReader::new(format!("permissions.{title}"), rule)?)
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns the set as in a manifest: title → `{type, verbs, selector, values, secrets, description}`, without empty
    /// fields. If rules share a title, a number is appended to the later ones.
    pub fn to_manifest(&self) -> Map<String, Value> {
        let mut rules = Map::new();
        for rule in &self.0 {
            let title = denied::unused_title(&rule.title, |title| rules.contains_key(title));
            rules.insert(title, rule.to_json());
        }
        rules
    }

    /// Returns the set that allows every verb on every doctype. It is for the owner, never for a konnector, and names
    /// no hosts, because only konnectors reach the network.
    pub fn everything() -> Self {
        Self(vec![Rule::for_doctype("everything", DoctypePattern::Any, Verbs::ALL)])
    }

    /// Returns whether one rule allows every verb on every doctype.
    pub fn is_everything(&self) -> bool {
        self.0.iter().any(Rule::is_everything)
    }

    /// Returns the rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// Returns whether `verb` is allowed on a whole doctype, which listing and searching require.
    pub fn allows_type(&self, verb: Verb, doctype: &Doctype) -> bool {
        self.0.iter().any(|rule| rule.applies_to(verb, doctype) && rule.covers_whole_type())
    }

    /// Returns whether `verb` is allowed on some documents of a doctype.
    pub fn allows_any(&self, verb: Verb, doctype: &Doctype) -> bool {
        self.0.iter().any(|rule| rule.applies_to(verb, doctype))
    }

    /// Returns whether `verb` is allowed on one document, by a rule on its doctype, its id or one of its fields.
    pub fn allows_document(&self, verb: Verb, doctype: &Doctype, id: &str, body: &Map<String, Value>) -> bool {
        self.0.iter().any(|rule| rule.applies_to(verb, doctype) && rule.matches_document(id, body))
    }

    /// Like [`Self::allows_type`], but returns an error if access is denied.
    ///
    /// # Errors
    ///
    /// If access is denied; the message names the rule to add.
    pub fn check_type(&self, verb: Verb, doctype: &Doctype) -> Result<(), PermissionDenied> {
        if self.allows_type(verb, doctype) { Ok(()) } else { Err(denied::on_type(self, verb, doctype)) }
    }

    /// Like [`Self::allows_any`], but returns an error if access is denied; for checks before any document is loaded.
    ///
    /// # Errors
    ///
    /// If access is denied; the message names the rule to add.
    pub fn check_any(&self, verb: Verb, doctype: &Doctype) -> Result<(), PermissionDenied> {
        if self.allows_any(verb, doctype) { Ok(()) } else { Err(denied::on_type(self, verb, doctype)) }
    }

    /// Like [`Self::allows_document`], but returns an error if access is denied.
    ///
    /// # Errors
    ///
    /// If access is denied; the message names the rule to add.
    pub fn check_document(
        &self,
        verb: Verb,
        doctype: &Doctype,
        id: &str,
        body: &Map<String, Value>,
    ) -> Result<(), PermissionDenied> {
        if self.allows_document(verb, doctype, id, body) {
            Ok(())
        } else {
            Err(denied::on_document(self, verb, doctype, id))
        }
    }

    /// Returns the rules on hosts for a run with an account that has these fields. A rule with `"selector": "account"`
    /// stands for the scheme, host and port of the address in that field; while the field is absent or empty the rule
    /// allows nothing.
    ///
    /// # Errors
    ///
    /// [`Error::AccountAddress`] if such a field does not hold a web address; [`Error::Host`] if a rule was built in
    /// code with an invalid host.
    pub fn http_rules(&self, account_fields: &Map<String, Value>) -> Result<HttpRules, Error> {
        http::resolve(&self.0, account_fields)
    }

    /// Returns whether a rule takes its hosts from the account.
    pub fn has_account_hosts(&self) -> bool {
        self.0.iter().any(|rule| rule.kind == RuleKind::Http && rule.selector.is_some())
    }
}

impl Rule {
    pub(super) fn is_everything(&self) -> bool {
        self.kind == RuleKind::Doctype(DoctypePattern::Any) && self.verbs.is_all() && self.covers_whole_type()
    }
}

impl From<Vec<Rule>> for Permissions {
    fn from(rules: Vec<Rule>) -> Self {
        Self(rules)
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_manifest().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_manifest(&Map::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
