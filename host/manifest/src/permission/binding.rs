//! Binds secrets to requests and to parts of them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use url::Url;

use crate::host_pattern::{is_within_prefix, parse_prefix};
use crate::json::{ObjectReader, wrong_type};
use crate::{Error, HostPattern, Verbs};

/// Marks the name of a header among [`SecretBinding::fields`].
const HEADER_PREFIX: &str = "header:";

/// A secret that a rule on hosts allows in requests. The rule itself binds it to hosts and methods; a binding can be
/// narrower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretBinding {
    /// Name of the account's secret field.
    pub name: String,
    /// The secret is sent only to this path and those below it; `None` means every path that the rule allows.
    pub path: Option<String>,
    /// The secret is sent only with these methods.
    pub methods: Verbs,
    /// The secret is sent only in these parts of a request: names of form fields, keys or JSON pointers of JSON bodies,
    /// `header:NAME`. Empty means any part.
    pub fields: Vec<String>,
}

impl SecretBinding {
    /// Creates a binding that is as wide as its rule.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), path: None, methods: Verbs::ALL, fields: Vec::new() }
    }

    /// Returns whether the binding is as wide as its rule.
    fn is_unrestricted(&self) -> bool {
        self.path.is_none() && self.methods.is_all() && self.fields.is_empty()
    }

    /// Returns whether a request that the rule allows may carry the secret, in some part.
    pub(super) fn allows(&self, method: &str, url: &Url) -> bool {
        self.methods.contains_method(method)
            && self.path.as_deref().is_none_or(|path| is_within_prefix(url.path(), path))
    }

    /// Returns the hosts and paths of `pattern` to which the secret may be sent, or `None` if no path of the pattern
    /// lies below the binding's.
    pub(super) fn narrow(&self, pattern: &HostPattern) -> Option<HostPattern> {
        match &self.path {
            None => Some(pattern.clone()),
            Some(path) => pattern.restrict_to_path(path),
        }
    }

    /// Returns whether this binding allows the secret on every path on which `other` allows it.
    pub(super) fn covers_path_of(&self, other: &Self) -> bool {
        let Some(own) = &self.path else { return true };
        other.path.as_deref().is_some_and(|path| is_within_prefix(path, own))
    }

    /// Returns whether this binding allows the secret in every part of a request covered by `claimed`, one of
    /// [`Self::fields`]; `None` stands for every part.
    pub(super) fn covers_field(&self, claimed: Option<&str>) -> bool {
        self.fields.is_empty() || claimed.is_some_and(|claimed| self.fields.iter().any(|own| covers(own, claimed)))
    }
}

/// Returns whether a field of a binding covers every part of a request that another field covers, see
/// [`SecretScope::allows`].
fn covers(own: &str, claimed: &str) -> bool {
    match (own.strip_prefix(HEADER_PREFIX), claimed.strip_prefix(HEADER_PREFIX)) {
        (Some(own), Some(claimed)) => own.eq_ignore_ascii_case(claimed),
        (None, None) => own == claimed || (!own.starts_with('/') && last_key(claimed).as_deref() == Some(own)),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Returns the object key to which a JSON pointer leads, or `None` if it may also be an index of a list.
fn last_key(pointer: &str) -> Option<String> {
    let (_, last) = pointer.strip_prefix('/')?.rsplit_once('/').unwrap_or(("", pointer.get(1..)?));
    let is_place = last.bytes().all(|byte| byte.is_ascii_digit());
    (!is_place).then(|| last.replace("~1", "/").replace("~0", "~"))
}

/// The parts of one request that may carry a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretScope {
    /// Any part.
    Anywhere,
    /// Only these parts, written as [`SecretBinding::fields`].
    Fields(BTreeSet<String>),
}

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestPart<'a> {
    /// A field of a form, by name.
    FormField(&'a str),
    /// A field of a JSON body.
    JsonField {
        /// JSON pointer of RFC 6901.
        pointer: &'a str,
        /// The key of the closest object.
        key: &'a str,
    },
    /// A header, by name.
    Header(&'a str),
}

impl SecretScope {
    /// Returns whether the secret may occur in this part.
    pub fn allows(&self, part: RequestPart<'_>) -> bool {
        let Self::Fields(fields) = self else { return true };
        fields.iter().any(|field| match (field.strip_prefix(HEADER_PREFIX), part) {
            (Some(name), RequestPart::Header(header)) => name.eq_ignore_ascii_case(header),
            (None, RequestPart::FormField(name)) => !field.starts_with('/') && field == name,
            (None, RequestPart::JsonField { pointer, .. }) if field.starts_with('/') => field == pointer,
            (None, RequestPart::JsonField { key, .. }) => field == key,
            (Some(_), _) | (None, RequestPart::Header(_)) => false,
        })
    }

    /// Returns the fields for use in a sentence.
    pub fn names(&self) -> String {
        match self {
            Self::Anywhere => "every field".to_owned(),
            Self::Fields(fields) => {
                let quoted: Vec<_> = fields.iter().map(|field| Value::from(field.as_str()).to_string()).collect();
                quoted.join(", ")
            }
        }
    }
}

/// Parses `["password"]`, or `{"password": {"path": "/login", "methods": ["POST"], "fields": ["pwd"]}}`.
pub(super) fn parse(rule: &ObjectReader) -> Result<Vec<SecretBinding>, Error> {
    match rule.get("secrets") {
        None => Ok(Vec::new()),
        Some(Value::Array(_)) => Ok(rule.strings("secrets")?.into_iter().map(SecretBinding::new).collect()),
        Some(Value::Object(bindings)) => bindings
            .iter()
            .map(|(name, binding)| parse_one(name, &ObjectReader::new(rule.path(&format!("secrets.{name}")), binding)?))
            .collect(),
        Some(other) => Err(wrong_type("a list or an object", other).at_field(rule.path("secrets"))),
    }
}

fn parse_one(name: &str, binding: &ObjectReader) -> Result<SecretBinding, Error> {
    let known = ["path", "methods", "fields"];
    if let Some(other) = binding.fields().keys().find(|member| !known.contains(&member.as_str())) {
        // A misspelt binding would be wider than its author intends.
        let found = Value::from(other.as_str()).to_string();
        return Err(Error::Invalid { found, advice: "bind a secret only by path, methods and fields" }
            .at_field(binding.path(other)));
    }
    let path = binding.string("path")?.map(|path| {
        parse_prefix(path).map_err(|advice| {
            Error::Invalid { found: Value::from(path).to_string(), advice }.at_field(binding.path("path"))
        })
    });
    let fields = binding.strings("fields")?.into_iter().map(str::to_owned).collect::<Vec<_>>();
    if fields.iter().any(|field| field.strip_prefix(HEADER_PREFIX).unwrap_or(field).is_empty()) {
        let found = Value::from(fields).to_string();
        let advice =
            r#"name the fields that may carry the secret, as in ["pwd"], ["/user/pwd"] or ["header:X-Api-Key"]"#;
        return Err(Error::Invalid { found, advice }.at_field(binding.path("fields")));
    }
    Ok(SecretBinding {
        name: name.to_owned(),
        path: path.transpose()?.filter(|path| !path.is_empty()),
        methods: Verbs::for_hosts(binding.strings("methods")?)
            .map_err(|error| error.at_field(binding.path("methods")))?,
        fields,
    })
}

/// Returns the JSON that [`parse`] reads. It contains only names if no binding is narrower than its rule.
pub(super) fn to_json(bindings: &[SecretBinding]) -> Option<Value> {
    if bindings.is_empty() {
        return None;
    }
    if bindings.iter().all(SecretBinding::is_unrestricted) {
        return Some(bindings.iter().map(|binding| binding.name.as_str()).collect());
    }
    let one = |binding: &SecretBinding| {
        let members = [
            ("path", binding.path.clone().map(Value::from)),
            ("methods", binding.methods.to_json()),
            ("fields", (!binding.fields.is_empty()).then(|| Value::from(binding.fields.clone()))),
        ];
        let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        (binding.name.clone(), Value::Object(members.collect()))
    };
    Some(Value::Object(bindings.iter().map(one).collect::<Map<_, _>>()))
}
