//! One permission rule.

use serde_json::{Map, Value};

use super::binding::{self, SecretBinding};
use crate::doctype::HTTP;
use crate::json::ObjectReader;
use crate::{Doctype, DoctypePattern, Error, HostPattern, Verb, Verbs};

/// The only selector of a rule on hosts; the rule's values then name fields of the account.
pub(super) const ACCOUNT_SELECTOR: &str = "account";

/// One rule of a permission set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Name of the rule in the set.
    pub title: String,
    /// Target of the rule.
    pub kind: RuleKind,
    /// Allowed verbs.
    pub verbs: Verbs,
    /// For documents, the field with which `values` are compared; without it they are ids. For hosts, `account` if
    /// `values` name fields of the account that hold a web address.
    pub selector: Option<String>,
    /// For documents, the values to which the rule is limited; empty means the whole doctype. For hosts, the host
    /// patterns, never empty.
    pub values: Vec<String>,
    /// For hosts, the account's secrets that may be sent to them; empty if the manifest names none.
    pub secrets: Vec<SecretBinding>,
    /// Description for the user.
    pub description: Option<String>,
}

/// Target of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// Documents of these doctypes.
    Doctype(DoctypePattern),
    /// Hosts on the network.
    Http,
}

impl Rule {
    /// Creates a rule that allows `verbs` on a whole doctype.
    pub fn for_doctype(title: impl Into<String>, doctype: impl Into<DoctypePattern>, verbs: Verbs) -> Self {
        Self {
            title: title.into(),
            kind: RuleKind::Doctype(doctype.into()),
            verbs,
            selector: None,
            values: Vec::new(),
            secrets: Vec::new(),
            description: None,
        }
    }

    /// Returns whether this rule allows `verb` on some documents of `doctype`.
    pub fn applies_to(&self, verb: Verb, doctype: &Doctype) -> bool {
        matches!(&self.kind, RuleKind::Doctype(pattern) if pattern.matches(doctype)) && self.verbs.contains(verb)
    }

    /// Returns whether this rule applies to a whole doctype, not only to some of its documents.
    pub fn covers_whole_type(&self) -> bool {
        matches!(self.kind, RuleKind::Doctype(_)) && self.values.is_empty()
    }

    /// Returns whether the values of this rule match a document. A selector compares a top-level field as a string; a
    /// missing field never matches.
    pub(super) fn matches_document(&self, id: &str, body: &Map<String, Value>) -> bool {
        if self.values.is_empty() {
            return true;
        }
        let found = match self.selector.as_deref() {
            None | Some("_id") => Some(id.to_owned()),
            Some(field) => match body.get(field) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(number)) => Some(number.to_string()),
                Some(Value::Bool(flag)) => Some(flag.to_string()),
                Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => None,
            },
        };
        found.is_some_and(|found| self.values.contains(&found))
    }

    /// Parses `{type, verbs, selector, values, secrets, description}`.
    ///
    /// # Errors
    ///
    /// If `type` is missing or illegal, a verb is unknown, a value has the wrong JSON type, a selector has no values,
    /// or a host or the secrets are invalid. The error names the field.
    pub(super) fn from_json(title: &str, rule: &ObjectReader) -> Result<Self, Error> {
        let kind_name = rule.required_string("type", r#""type": "io.cozy.bills""#)?;
        let names = rule.strings("verbs")?;
        let (kind, verbs) = if kind_name == HTTP {
            (RuleKind::Http, Verbs::for_hosts(names))
        } else {
            let pattern = kind_name.parse().map_err(|error: Error| error.at_field(rule.path("type")))?;
            (RuleKind::Doctype(pattern), Verbs::for_documents(names))
        };
        let read = Self {
            title: title.to_owned(),
            kind,
            verbs: verbs.map_err(|error| error.at_field(rule.path("verbs")))?,
            selector: rule.string("selector")?.filter(|selector| !selector.is_empty()).map(str::to_owned),
            values: rule.strings("values")?.into_iter().map(str::to_owned).collect(),
            secrets: binding::parse(rule)?,
            description: rule.string("description")?.map(str::to_owned),
        };
        read.check_values(rule)?;
        read.check_secrets(rule)?;
        Ok(read)
    }

    fn check_secrets(&self, rule: &ObjectReader) -> Result<(), Error> {
        let Some(written) = rule.get("secrets") else { return Ok(()) };
        let advice = if self.kind != RuleKind::Http {
            "name secrets only in rules of the type http"
        } else if self.secrets.is_empty() || self.secrets.iter().any(|secret| secret.name.is_empty()) {
            r#"name the account's secret fields that go to these hosts, as in ["password"], or leave "secrets" out"#
        } else {
            return self.check_paths(rule);
        };
        Err(Error::Invalid { found: written.to_string(), advice }.at_field(rule.path("secrets")))
    }

    /// Rejects a binding's path that no value of the rule covers, because the secret could never be sent.
    fn check_paths(&self, rule: &ObjectReader) -> Result<(), Error> {
        let patterns = || self.values.iter().filter_map(|value| value.parse::<HostPattern>().ok());
        let nowhere = |secret: &&SecretBinding| patterns().all(|pattern| secret.narrow(&pattern).is_none());
        let Some(secret) = self.secrets.iter().filter(|_| self.selector.is_none()).find(nowhere) else { return Ok(()) };
        let found = Value::from(secret.path.clone()).to_string();
        let advice = r#"write a path that one of "values" covers"#;
        Err(Error::Invalid { found, advice }.at_field(rule.path(&format!("secrets.{}.path", secret.name))))
    }

    fn check_values(&self, rule: &ObjectReader) -> Result<(), Error> {
        let invalid = |field: &str, found: &str, advice| {
            Err(Error::Invalid { found: Value::from(found).to_string(), advice }.at_field(rule.path(field)))
        };
        if self.values.is_empty() {
            let example = match (&self.kind, &self.selector) {
                (RuleKind::Http, _) => r#"the hosts: "values": ["https://www.bank.example"]"#,
                (RuleKind::Doctype(_), Some(_)) => "the values that the selector compares with",
                (RuleKind::Doctype(_), None) => return Ok(()),
            };
            return Err(Error::Missing { example }.at_field(rule.path("values")));
        }
        if self.values.iter().any(String::is_empty) {
            return invalid("values", "", "remove the empty value");
        }
        match (&self.kind, self.selector.as_deref()) {
            (RuleKind::Doctype(_), _) | (RuleKind::Http, Some(ACCOUNT_SELECTOR)) => Ok(()),
            (RuleKind::Http, Some(other)) => {
                invalid("selector", other, r#"use no selector in a rule on hosts other than "account""#)
            }
            (RuleKind::Http, None) => {
                for (index, value) in self.values.iter().enumerate() {
                    value
                        .parse::<HostPattern>()
                        .map_err(|error| error.at_field(rule.path(&format!("values[{index}]"))))?;
                }
                Ok(())
            }
        }
    }

    /// Returns `{type, verbs, selector, values, secrets, description}`, without empty fields.
    pub(super) fn to_json(&self) -> Value {
        let kind = match &self.kind {
            RuleKind::Doctype(pattern) => pattern.to_string(),
            RuleKind::Http => HTTP.to_owned(),
        };
        let list = |texts: &[String]| (!texts.is_empty()).then(|| Value::from(texts.to_vec()));
        [
            ("type", Some(Value::from(kind))),
            ("verbs", self.verbs.to_json()),
            ("selector", self.selector.clone().map(Value::from)),
            ("values", list(&self.values)),
            ("secrets", binding::to_json(&self.secrets)),
            ("description", self.description.clone().map(Value::from)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<Map<_, _>>()
        .into()
    }
}
