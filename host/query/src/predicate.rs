//! Conditions of a selector on one value.

use std::cmp::Ordering;

use crate::{FieldPath, Lookup, collate};
use regex::Regex;
use serde_json::Value;

use super::{QueryBudget, QueryError};

/// Comparison of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    const fn negate(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
        }
    }

    fn matches(self, value: &Value, expected: &Value, collation: Collation) -> bool {
        match self {
            Self::Equal => is_equal(value, expected),
            Self::NotEqual => !is_equal(value, expected),
            Self::Greater => collation.compare(value, expected) == Ordering::Greater,
            Self::GreaterOrEqual => collation.compare(value, expected) != Ordering::Less,
            Self::Less => collation.compare(value, expected) == Ordering::Less,
            Self::LessOrEqual => collation.compare(value, expected) != Ordering::Greater,
        }
    }
}

/// Order of strings: ids by their bytes, all others by Unicode's collation (CouchDB, `mango_selector:match` for `_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collation {
    Unicode,
    Bytes,
}

impl Collation {
    fn compare(self, value: &Value, expected: &Value) -> Ordering {
        match (self, value, expected) {
            (Self::Bytes, Value::String(value), Value::String(expected)) => value.cmp(expected),
            _ => collate(value, expected),
        }
    }
}

/// Returns whether two values are equal: strings character by character, other values by the order (1 equals 1.0).
fn is_equal(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::String(value), Value::String(expected)) => value == expected,
        _ => collate(value, expected) == Ordering::Equal,
    }
}

/// Types of values, as named by `$type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonType {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl JsonType {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "number" => Self::Number,
            "string" => Self::String,
            "array" => Self::Array,
            "object" => Self::Object,
            _ => return None,
        })
    }

    const fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }
}

/// A condition on a value. Paths are pushed down to the operators, as CouchDB normalises selectors.
#[derive(Debug, Clone)]
pub(super) enum Predicate {
    And(Vec<Self>),
    Or(Vec<Self>),
    /// Negation of a condition without an opposite operator; the others are inverted, see [`Predicate::negate`].
    Not(Box<Self>),
    /// An operator on a field of the value. An absent field passes only `$exists: false`.
    Field(FieldPath, Box<Self>),
    Exists(bool),
    Compare(Comparison, Value),
    In(Vec<Value>),
    Type(JsonType),
    Size(u64),
    /// Divisor and remainder.
    Mod(i64, i64),
    /// Regular expression, and its maximum number of steps per byte.
    Regex(Regex, u64),
    BeginsWith(String),
    /// An array that contains all of these values, of which there must be some.
    All(Vec<Value>),
    /// An array with at least one item that passes.
    ElemMatch(Box<Self>),
    /// A non-empty array of which all items pass.
    AllMatch(Box<Self>),
    /// An object with at least one name that passes.
    KeyMapMatch(Box<Self>),
}

impl Predicate {
    /// Returns the condition that every value passes.
    pub(super) const fn always() -> Self {
        Self::And(Vec::new())
    }

    /// Returns the condition that no value passes.
    pub(super) const fn never() -> Self {
        Self::Or(Vec::new())
    }

    /// Returns the disjunction of the tests, which everything passes if there are none (CouchDB: an empty `$or` is
    /// true).
    pub(super) fn any_of(tests: Vec<Self>) -> Self {
        if tests.is_empty() { Self::always() } else { Self::Or(tests) }
    }

    /// Returns the opposite. An absent field passes neither (CouchDB normalises selectors this way).
    pub(super) fn negate(self) -> Self {
        match self {
            Self::And(tests) => Self::any_of(tests.into_iter().map(Self::negate).collect()),
            Self::Or(tests) => Self::And(tests.into_iter().map(Self::negate).collect()),
            Self::Not(test) => *test,
            Self::Field(path, test) => Self::Field(path, Box::new(test.negate())),
            Self::Exists(exists) => Self::Exists(!exists),
            Self::Compare(comparison, value) => Self::Compare(comparison.negate(), value),
            other => Self::Not(Box::new(other)),
        }
    }

    /// Returns whether a value passes.
    pub(super) fn matches(&self, value: &Value, cost: &mut QueryBudget) -> Result<bool, QueryError> {
        self.matches_with(value, Collation::Unicode, cost)
    }

    fn matches_with(&self, value: &Value, collation: Collation, cost: &mut QueryBudget) -> Result<bool, QueryError> {
        cost.spend(1)?;
        Ok(match self {
            Self::And(tests) => try_all(tests, |test| test.matches_with(value, collation, cost))?,
            Self::Or(tests) => any_of(tests, |test| test.matches_with(value, collation, cost))?,
            Self::Not(test) => !test.matches_with(value, collation, cost)?,
            Self::Field(path, test) => match path.lookup_in(value) {
                Lookup::Found(value) => {
                    test.matches_with(value, if path.is_id() { Collation::Bytes } else { Collation::Unicode }, cost)?
                }
                Lookup::Missing => test.requires_absence(),
                Lookup::Unreachable => false,
            },
            Self::Exists(exists) => *exists,
            Self::Compare(comparison, expected) => {
                cost.spend_comparison(expected)?;
                comparison.matches(value, expected, collation)
            }
            Self::In(expected) => {
                let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                any_of(values, |value| {
                    any_of(expected, |expected| {
                        cost.spend_comparison(expected)?;
                        Ok(is_equal(value, expected))
                    })
                })?
            }
            Self::Type(kind) => JsonType::of(value) == *kind,
            Self::Size(size) => value.as_array().is_some_and(|items| items.len() as u64 == *size),
            Self::Mod(divisor, remainder) => {
                let number = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
                number.and_then(|number| number.checked_rem((*divisor).into())) == Some((*remainder).into())
            }
            Self::Regex(regex, states) => match value.as_str() {
                Some(text) => {
                    cost.spend_search(text, *states)?;
                    regex.is_match(text)
                }
                None => false,
            },
            Self::BeginsWith(prefix) => value.as_str().is_some_and(|text| text.starts_with(prefix.as_str())),
            // Erlang compares these without CouchDB's order: 1 is not 1.0.
            Self::All(expected) => match (value, expected.as_slice()) {
                (Value::Array(items), [Value::Array(only)]) if items == only => true,
                (Value::Array(items), [_, ..]) => try_all(expected, |expected| {
                    any_of(items, |item| {
                        cost.spend_comparison(expected)?;
                        Ok(item == expected)
                    })
                })?,
                _ => false,
            },
            Self::ElemMatch(test) => match value {
                Value::Array(items) => any_of(items, |item| test.matches(item, cost))?,
                _ => false,
            },
            Self::AllMatch(test) => match value {
                Value::Array(items) => !items.is_empty() && try_all(items, |item| test.matches(item, cost))?,
                _ => false,
            },
            Self::KeyMapMatch(test) => match value {
                Value::Object(members) => {
                    any_of(members.keys(), |name| test.matches(&Value::String(name.clone()), cost))?
                }
                _ => false,
            },
        })
    }

    /// Returns whether an absent field passes.
    pub(super) const fn requires_absence(&self) -> bool {
        matches!(self, Self::Exists(false))
    }
}

/// Returns whether any item passes; the first error ends the search.
fn any_of<T>(
    items: impl IntoIterator<Item = T>,
    mut passes: impl FnMut(T) -> Result<bool, QueryError>,
) -> Result<bool, QueryError> {
    for item in items {
        if passes(item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether all items pass.
fn try_all<T>(
    items: impl IntoIterator<Item = T>,
    mut passes: impl FnMut(T) -> Result<bool, QueryError>,
) -> Result<bool, QueryError> {
    any_of(items, |item| passes(item).map(|passed| !passed)).map(|one_fails| !one_fails)
}
