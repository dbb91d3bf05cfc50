//! Permission sets as OAuth scope strings: `type[:verbs[:values[:selector]]]`, lists with commas, rules separated by
//! spaces.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::{Permissions, Rule, RuleKind};
use crate::doctype::HTTP;
use crate::{Error, Verbs};

/// Separators of the parts of a scope, and the escape character. An id that contains one of them would otherwise be
/// parsed as several parts.
const SEPARATORS: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b':').add(b'%');

impl Permissions {
    /// Parses a scope such as `io.cozy.files io.cozy.bills:GET:id1,id2` (Cozy API: permissions, grammar); `*` alone is
    /// [`Permissions::everything`]. The rules are titled `rule0`, `rule1`, … In values and selectors `%3A`, `%2C`,
    /// `%20` and `%25` stand for the separators.
    ///
    /// # Errors
    ///
    /// [`Error::Scope`], which names the rule and the problem, if a rule is invalid. Rules on hosts have no scope form.
    pub fn from_scope(scope: &str) -> Result<Self, Error> {
        if scope.trim() == "*" {
            return Ok(Self::everything());
        }
        let rules = scope
            .split_ascii_whitespace()
            .enumerate()
            .map(|(number, text)| {
                parse_rule(number, text).map_err(|reason| Error::Scope { rule: text.to_owned(), reason })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            let reason = "it names no doctype; write one, as in \"io.cozy.files\"".to_owned();
            return Err(Error::Scope { rule: scope.to_owned(), reason });
        }
        Ok(Self(rules))
    }

    /// Returns the shortest scope that parses to this set, apart from titles and descriptions. Rules on hosts are
    /// omitted because tokens give no access to the network.
    pub fn to_scope(&self) -> String {
        self.0.iter().filter_map(format_rule).collect::<Vec<_>>().join(" ")
    }
}

fn parse_rule(number: usize, text: &str) -> Result<Rule, String> {
    let mut parts = text.split(':');
    let kind = parts.next().unwrap_or_default();
    let (verbs, values, selector) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() {
        return Err(
            "a rule has at most four parts, type:verbs:values:selector; write a colon inside a value as %3A".to_owned()
        );
    }
    match kind {
        HTTP => return Err("rules on hosts are valid only in manifests".to_owned()),
        "*" => return Err("a star already allows everything; use it without other rules, verbs or values".to_owned()),
        _ => {}
    }
    let verbs = verbs.filter(|verbs| !verbs.is_empty()).map(|verbs| verbs.split(',')).into_iter().flatten();
    let values = values.map(|values| values.split(',').map(unescape).collect::<Result<Vec<_>, _>>()).transpose()?;
    Ok(Rule {
        title: format!("rule{number}"),
        kind: RuleKind::Doctype(kind.parse().map_err(|error: Error| error.to_string())?),
        verbs: Verbs::for_documents(verbs).map_err(|error| error.to_string())?,
        selector: selector.filter(|selector| !selector.is_empty()).map(unescape).transpose()?,
        values: values.unwrap_or_default(),
        secrets: Vec::new(),
        description: None,
    })
}

fn unescape(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a value is empty; leave out the colon or the comma before it".to_owned());
    }
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| format!("{text} is not UTF-8"))
}

fn format_rule(rule: &Rule) -> Option<String> {
    let RuleKind::Doctype(pattern) = &rule.kind else { return None };
    let verbs = rule.verbs.names().map(|names| names.collect::<Vec<_>>().join(","));
    let mut text = pattern.to_string();
    match (verbs, rule.values.is_empty()) {
        (None, true) => return Some(text),
        (verbs, _) => {
            text.push(':');
            text.push_str(verbs.as_deref().unwrap_or("ALL"));
        }
    }
    if !rule.values.is_empty() {
        let values: Vec<_> = rule.values.iter().map(|value| escape(value)).collect();
        text.push(':');
        text.push_str(&values.join(","));
        if let Some(selector) = &rule.selector {
            text.push(':');
            text.push_str(&escape(selector));
        }
    }
    Some(text)
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, SEPARATORS).to_string()
}
