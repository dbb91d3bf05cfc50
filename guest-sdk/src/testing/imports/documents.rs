//! The interface `documents` over a map. Values are ordered as by the host, except for strings, which are compared by
//! their bytes.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{Error, with_state};
use crate::Locator;
use crate::bindings::konnector::host::documents::{
    Bound, Change, Document, Item, Order, Page, Query, Range, SavedDocument,
};
use crate::bindings::konnector::host::types::SaveOutcome;

type Body = Map<String, Value>;

/// Returns the id of a document, which in this host is also its key.
fn id_of(locator: &Locator) -> &str {
    match locator {
        Locator::Id(id) | Locator::Key(id) => id,
    }
}

fn not_found(kind: &str, id: &str) -> Error {
    Error::NotFound(format!("{kind} {id}"))
}

fn document(id: &str, body: &Body) -> Document {
    Document { id: id.to_owned(), rev: "1-0".to_owned(), body: Value::Object(body.clone()).to_string() }
}

fn object(text: &str) -> Result<Body, Error> {
    serde_json::from_str(text).map_err(|error| Error::Invalid(error.to_string()))
}

fn value(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::Invalid(error.to_string()))
}

pub(crate) fn get(kind: &str, locator: &Locator) -> Result<Document, Error> {
    let document_key = (kind.to_owned(), id_of(locator).to_owned());
    let found = with_state(|state| state.documents.get(&document_key).map(|body| document(&document_key.1, body)));
    found.ok_or_else(|| not_found(kind, &document_key.1))
}

/// Pages as defined by the contract; the cursor is the number of documents before the page.
pub(crate) fn find(kind: &str, query: &Query) -> Result<Page, Error> {
    let filter = Filter::new(query)?;
    let mut found: Vec<(Vec<Value>, String, Body)> = with_state(|state| {
        let same_type = state.documents.iter().filter(|((known, _), _)| known == kind);
        let matching = same_type.filter_map(|((_, id), body)| Some((filter.values(body)?, id.clone(), body.clone())));
        matching.collect()
    });
    found.sort_by(|(one, one_id, _), (other, other_id, _)| order(one, other).then_with(|| one_id.cmp(other_id)));
    if query.order == Order::Descending {
        found.reverse();
    }
    let skipped: usize = query.cursor.as_ref().and_then(|cursor| cursor.parse().ok()).unwrap_or_default();
    let end = skipped + query.limit as usize;
    let next = (end < found.len()).then(|| end.to_string());
    let page = found.into_iter().skip(skipped).take(query.limit as usize);
    Ok(Page { documents: page.map(|(_, id, body)| document(&id, &body)).collect(), next_cursor: next })
}

struct Filter<'a> {
    query: &'a Query,
    equals: Vec<Value>,
}

impl<'a> Filter<'a> {
    fn new(query: &'a Query) -> Result<Self, Error> {
        Ok(Self { query, equals: query.equals.iter().map(|text| value(text)).collect::<Result<_, _>>()? })
    }

    /// Returns the values of a matching document.
    fn values(&self, body: &Body) -> Option<Vec<Value>> {
        let values: Vec<Value> =
            self.query.index_fields.iter().map(|path| member(body, path)).collect::<Option<_>>()?;
        let is_equal = self.equals.iter().zip(&values).all(|(expected, value)| compare(expected, value).is_eq());
        let is_within = values.get(self.equals.len()).is_none_or(|value| self.is_within(value));
        (is_equal && is_within).then_some(values)
    }

    fn is_within(&self, found: &Value) -> bool {
        let side = |bound: &Bound, beyond: Ordering| match bound {
            Bound::Unbounded => true,
            Bound::Included(text) => value(text).is_ok_and(|end| compare(found, &end) != beyond),
            Bound::Excluded(text) => value(text).is_ok_and(|end| compare(found, &end) == beyond.reverse()),
        };
        match &self.query.range {
            Range::Any => true,
            Range::Between(bounds) => side(&bounds.lower, Ordering::Less) && side(&bounds.upper, Ordering::Greater),
            Range::Prefix(prefix) => found.as_str().is_some_and(|text| text.starts_with(prefix.as_str())),
        }
    }
}

fn member(body: &Body, path: &str) -> Option<Value> {
    let mut names = path.split('.');
    let first = body.get(names.next()?)?;
    names.try_fold(first, |value, name| value.as_object()?.get(name)).cloned()
}

fn order(one: &[Value], other: &[Value]) -> Ordering {
    let items = one.iter().zip(other).map(|(one, other)| compare(one, other));
    items.fold(Ordering::Equal, Ordering::then).then(one.len().cmp(&other.len()))
}

fn compare(one: &Value, other: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(value) => 1 + u8::from(*value),
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    };
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one.as_f64().partial_cmp(&other.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Array(one), Value::Array(other)) => order(one, other),
        (Value::Object(one), Value::Object(other)) => {
            let pairs = |members: &Body| {
                members.iter().flat_map(|(name, value)| [Value::from(name.as_str()), value.clone()]).collect::<Vec<_>>()
            };
            order(&pairs(one), &pairs(other))
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
pub(crate) fn check_save(_kind: &str) -> Result<(), Error> {
    Ok(())
}

pub(crate) fn save(kind: &str, items: &[Item]) -> Result<Vec<SavedDocument>, Error> {
    if items.len() > 500 {
        return Err(Error::Invalid("items: at most 500".to_owned()));
    }
    items.iter().map(|item| write(kind, &item.key, &item.body, true)).collect()
}

pub(crate) fn update(kind: &str, changes: &[Change]) -> Result<Vec<SavedDocument>, Error> {
    changes.iter().map(|change| write(kind, id_of(&change.locator), &change.body, false)).collect()
}

fn write(kind: &str, id: &str, body: &str, creates: bool) -> Result<SavedDocument, Error> {
    let body = object(body)?;
    let document_key = (kind.to_owned(), id.to_owned());
    let outcome = with_state(|state| {
        let before = state.documents.get(&document_key).cloned();
        if before.is_none() && !creates {
            return Err(not_found(kind, id));
        }
        let document = state.documents.entry(document_key).or_default();
        document.extend(body);
        Ok(match before {
            None => SaveOutcome::Created,
            Some(before) if before == *document => SaveOutcome::Unchanged,
            Some(_) => SaveOutcome::Updated,
        })
    })?;
    Ok(SavedDocument { id: id.to_owned(), rev: "1-0".to_owned(), outcome })
}

#[expect(clippy::unnecessary_wraps, reason = "the contract's signature")]
pub(crate) fn delete(kind: &str, locators: &[Locator]) -> Result<u32, Error> {
    let removed = with_state(|state| {
        let document_keys = locators.iter().map(|locator| (kind.to_owned(), id_of(locator).to_owned()));
        document_keys.filter(|document_key| state.documents.remove(document_key).is_some()).count()
    });
    Ok(u32::try_from(removed).unwrap_or(u32::MAX))
}
