//! Arguments of `@event`: which changes of which documents match (Cozy API, trigger types and arguments, §4.4).
//!
//! One or several rules `doctype[:VERBS[:values[:selector]]]`, separated by spaces. Verbs are CREATED, UPDATED and
//! DELETED; without verbs, all match. Values are ids, or, with a selector, values of that field; `!=` with a selector
//! means that the field changed.

use std::str::FromStr;

use konnector_manifest::Doctype;
use serde_json::Value;

use crate::{Error, Result};
use konnector_documents::doctype::{FILES, is_writable};
use konnector_documents::realtime::ChangeKind;
use konnector_documents::stored::Object;

/// The value that means a change of the selected field.
const CHANGED_MARKER: &str = "!=";

/// Rules of a trigger, any of which may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRules(Vec<EventRule>);

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EventRule {
    doctype: Doctype,
    /// Any verb if empty.
    verbs: Vec<ChangeKind>,
    /// Any document if empty.
    values: Vec<String>,
    selector: Option<String>,
}

/// A change of a document.
#[derive(Debug, Clone, Copy)]
pub struct DocumentChange<'a> {
    /// Type of the document.
    pub doctype: &'a Doctype,
    /// Id of the document.
    pub id: &'a str,
    /// Kind of change.
    pub kind: ChangeKind,
    /// Current content of the document; for a deleted document, the last content.
    pub doc: &'a Object,
    /// Content before an update; `None` for other changes.
    pub old: Option<&'a Object>,
    /// Ids of the directories above a file, before and after the change.
    pub directories: &'a [String],
}

/// Returns whether triggers may wait for changes of documents of a doctype: those that clients write, and files.
pub(super) fn raises_events(doctype: &Doctype) -> bool {
    is_writable(doctype) || *doctype == *FILES
}

impl EventRules {
    /// Returns the doctypes of the rules.
    pub fn doctypes(&self) -> impl Iterator<Item = &Doctype> {
        self.0.iter().map(|rule| &rule.doctype)
    }

    /// Returns whether a change matches a rule.
    #[must_use]
    pub fn matches(&self, change: DocumentChange<'_>) -> bool {
        self.0.iter().any(|rule| rule.matches(change))
    }
}

impl EventRule {
    fn matches(&self, change: DocumentChange<'_>) -> bool {
        let of_type = self.doctype == *change.doctype;
        let verb = self.verbs.is_empty() || self.verbs.contains(&change.kind);
        of_type && verb && (self.values.is_empty() || self.values.iter().any(|value| self.has_value(value, change)))
    }

    fn has_value(&self, value: &str, change: DocumentChange<'_>) -> bool {
        match &self.selector {
            None => change.id == value || change.directories.iter().any(|directory| directory == value),
            Some(selector) if value == CHANGED_MARKER => {
                change.old.is_some_and(|old| member(old, selector) != member(change.doc, selector))
            }
            Some(selector) => match member(change.doc, selector) {
                Some(Value::String(text)) => text == value,
                Some(other) => serde_json::from_str::<Value>(value).is_ok_and(|value| value == *other),
                None => false,
            },
        }
    }
}

/// Returns a field by its path, such as `cozyMetadata.sourceAccount`.
fn member<'a>(doc: &'a Object, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let found = doc.get(first)?;
    rest.map_or(Some(found), |rest| member(found.as_object()?, rest))
}

impl FromStr for EventRules {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let rules: Vec<EventRule> = text.split_whitespace().map(parse_rule).collect::<Result<_>>()?;
        if rules.is_empty() {
            return Err(unparsable(
                "the doctype of the event is missing; write for example io.cozy.bills:CREATED".to_owned(),
            ));
        }
        Ok(Self(rules))
    }
}

fn parse_rule(text: &str) -> Result<EventRule> {
    let parts: Vec<&str> = text.split(':').collect();
    let (doctype, verbs, values, selector) = match *parts.as_slice() {
        [doctype] => (doctype, "", "", None),
        [doctype, verbs] => (doctype, verbs, "", None),
        [doctype, verbs, values] => (doctype, verbs, values, None),
        [doctype, verbs, values, selector] => (doctype, verbs, values, Some(selector.to_owned())),
        _ => return Err(unparsable(format!("'{text}' has more than four parts: doctype:VERBS:values:selector"))),
    };
    let doctype: Doctype =
        doctype.parse().map_err(|error| unparsable(format!("'{doctype}' is not a valid doctype: {error}")))?;
    if !raises_events(&doctype) {
        return Err(unparsable(format!("documents of the doctype {doctype} raise no events")));
    }
    let list = |text: &str| text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let verbs = list(verbs).iter().map(|verb| parse_verb(verb)).collect::<Result<_>>()?;
    let values = list(values);
    let selector = selector.filter(|selector| !selector.is_empty());
    if selector.is_none() && values.iter().any(|value| value == CHANGED_MARKER) {
        return Err(unparsable(format!(
            "'{text}' does not name the field that changes; write it after !=: UPDATED:!=:field"
        )));
    }
    Ok(EventRule { doctype, verbs, values, selector })
}

fn parse_verb(verb: &str) -> Result<ChangeKind> {
    match verb {
        "CREATED" => Ok(ChangeKind::Created),
        "UPDATED" => Ok(ChangeKind::Updated),
        "DELETED" => Ok(ChangeKind::Deleted),
        _ => Err(unparsable(format!("'{verb}' is not an event; use CREATED, UPDATED or DELETED"))),
    }
}

fn unparsable(message: String) -> Error {
    Error::BadRequest(format!("Trigger unparsable: {message}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Object {
        value.as_object().cloned().expect("an object")
    }

    fn matches(rules: &str, happened: ChangeKind, doc: Value, old: Option<Value>) -> bool {
        let doctype: Doctype = "io.cozy.bills".parse().expect("a doctype");
        let (doc, old) = (object(&doc), old.as_ref().map(object));
        let directories = ["above".to_owned(), "before".to_owned()];
        let change = DocumentChange {
            doctype: &doctype,
            id: "1",
            kind: happened,
            doc: &doc,
            old: old.as_ref(),
            directories: &directories,
        };
        rules.parse::<EventRules>().expect(rules).matches(change)
    }

    #[test]
    fn types_verbs_and_values_decide() {
        let created = |rules: &str| matches(rules, ChangeKind::Created, json!({ "vendor": "shop", "n": 2 }), None);
        for yes in [
            "io.cozy.bills",
            "io.cozy.bills:CREATED",
            "io.cozy.bills:UPDATED,CREATED",
            "io.cozy.bills:CREATED:2,1",
            "io.cozy.bills::1",
            "io.cozy.bills:CREATED:above",
            "io.cozy.bills:CREATED:before",
            "io.cozy.bills:CREATED:bank,shop:vendor",
            "io.cozy.bills:CREATED:2:n",
            "io.cozy.contacts:CREATED io.cozy.bills:CREATED",
        ] {
            assert!(created(yes), "{yes}");
        }
        for no in [
            "io.cozy.contacts",
            "io.cozy.bills:DELETED",
            "io.cozy.bills:CREATED:2",
            "io.cozy.bills:CREATED:bank:vendor",
            "io.cozy.bills:CREATED:!=:vendor",
            "io.cozy.bills:CREATED:x:absent",
        ] {
            assert!(!created(no), "{no}");
        }
    }

    #[test]
    fn a_member_changed_or_not() {
        let updated = |rules: &str| {
            let old = json!({ "vendor": "bank", "paid": { "on": 1 }, "gone": 1 });
            matches(rules, ChangeKind::Updated, json!({ "vendor": "shop", "paid": { "on": 1 } }), Some(old))
        };
        assert!(updated("io.cozy.bills:UPDATED:!=:vendor"));
        assert!(updated("io.cozy.bills:UPDATED:!=:gone"));
        assert!(!updated("io.cozy.bills:UPDATED:!=:paid.on"));
        assert!(!updated("io.cozy.bills:CREATED:!=:vendor"));
    }
}
