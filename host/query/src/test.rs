//! What a selector asks of one value.

use std::cmp::Ordering;

use crate::{FieldPath, Lookup, collate};
use regex::Regex;
use serde_json::Value;

use super::{Cost, QueryError};

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Different,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    const fn opposite(self) -> Self {
        match self {
            Self::Equal => Self::Different,
            Self::Different => Self::Equal,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
        }
    }

    fn holds(self, value: &Value, wanted: &Value, collation: Collation) -> bool {
        match self {
            Self::Equal => is_equal(value, wanted),
            Self::Different => !is_equal(value, wanted),
            Self::Greater => collation.compare(value, wanted) == Ordering::Greater,
            Self::GreaterOrEqual => collation.compare(value, wanted) != Ordering::Less,
            Self::Less => collation.compare(value, wanted) == Ordering::Less,
            Self::LessOrEqual => collation.compare(value, wanted) != Ordering::Greater,
        }
    }
}

/// How texts are ordered: ids by their bytes, all others by Unicode's collation (CouchDB, `mango_selector:match` for `_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collation {
    Unicode,
    Bytes,
}

impl Collation {
    fn compare(self, value: &Value, wanted: &Value) -> Ordering {
        match (self, value, wanted) {
            (Self::Bytes, Value::String(value), Value::String(wanted)) => value.cmp(wanted),
            _ => collate(value, wanted),
        }
    }
}

/// Texts are equal letter by letter, of other values the order knows better (1 is 1.0).
fn is_equal(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::String(value), Value::String(wanted)) => value == wanted,
        _ => collate(value, wanted) == Ordering::Equal,
    }
}

/// The kinds of values, as `$type` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
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

/// A question about a value. Paths are pushed down to the operators, as CouchDB normalises selectors.
#[derive(Debug, Clone)]
pub(super) enum Test {
    And(Vec<Self>),
    Or(Vec<Self>),
    /// Of what no operator is the opposite of; the others are turned around, see [`Test::negated`].
    Not(Box<Self>),
    /// An operator on a field of the value. An absent field passes `$exists: false` alone.
    Field(FieldPath, Box<Self>),
    Exists(bool),
    Is(Comparison, Value),
    In(Vec<Value>),
    Type(Kind),
    Size(u64),
    /// Divisor and remainder.
    Mod(i64, i64),
    /// With the steps that it takes for a byte at worst.
    Regex(Regex, u64),
    BeginsWith(String),
    /// An array that holds all of these, and is asked for some.
    All(Vec<Value>),
    /// An array of which one item passes.
    ElementMatch(Box<Self>),
    /// An array of which all items pass, and that has some.
    AllMatch(Box<Self>),
    /// An object of which one name passes.
    KeyMatch(Box<Self>),
}

impl Test {
    /// Passes everything.
    pub(super) const fn everything() -> Self {
        Self::And(Vec::new())
    }

    /// Passes nothing.
    pub(super) const fn nothing() -> Self {
        Self::Or(Vec::new())
    }

    /// Passes what one of the tests passes; everything where there are none (CouchDB: an empty `$or` is true).
    pub(super) fn any(tests: Vec<Self>) -> Self {
        if tests.is_empty() { Self::everything() } else { Self::Or(tests) }
    }

    /// The opposite. A field that is absent passes neither (CouchDB normalises selectors this way).
    pub(super) fn negated(self) -> Self {
        match self {
            Self::And(tests) => Self::any(tests.into_iter().map(Self::negated).collect()),
            Self::Or(tests) => Self::And(tests.into_iter().map(Self::negated).collect()),
            Self::Not(test) => *test,
            Self::Field(path, test) => Self::Field(path, Box::new(test.negated())),
            Self::Exists(there) => Self::Exists(!there),
            Self::Is(comparison, value) => Self::Is(comparison.opposite(), value),
            other => Self::Not(Box::new(other)),
        }
    }

    /// Whether a value passes.
    pub(super) fn holds(&self, value: &Value, cost: &mut Cost) -> Result<bool, QueryError> {
        self.holds_in(value, Collation::Unicode, cost)
    }

    fn holds_in(&self, value: &Value, collation: Collation, cost: &mut Cost) -> Result<bool, QueryError> {
        cost.spend(1)?;
        Ok(match self {
            Self::And(tests) => all(tests, |test| test.holds_in(value, collation, cost))?,
            Self::Or(tests) => any(tests, |test| test.holds_in(value, collation, cost))?,
            Self::Not(test) => !test.holds_in(value, collation, cost)?,
            Self::Field(path, test) => match path.below(value) {
                Lookup::Found(value) => {
                    test.holds_in(value, if path.is_id() { Collation::Bytes } else { Collation::Unicode }, cost)?
                }
                Lookup::Missing => test.asks_for_absence(),
                Lookup::Unreachable => false,
            },
            Self::Exists(there) => *there,
            Self::Is(comparison, wanted) => {
                cost.spend_comparison(wanted)?;
                comparison.holds(value, wanted, collation)
            }
            Self::In(wanted) => {
                let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                any(values, |value| {
                    any(wanted, |wanted| {
                        cost.spend_comparison(wanted)?;
                        Ok(is_equal(value, wanted))
                    })
                })?
            }
            Self::Type(kind) => Kind::of(value) == *kind,
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
            // Erlang compares here without CouchDB's order: 1 is not 1.0.
            Self::All(wanted) => match (value, wanted.as_slice()) {
                (Value::Array(items), [Value::Array(only)]) if items == only => true,
                (Value::Array(items), [_, ..]) => all(wanted, |wanted| {
                    any(items, |item| {
                        cost.spend_comparison(wanted)?;
                        Ok(item == wanted)
                    })
                })?,
                _ => false,
            },
            Self::ElementMatch(test) => match value {
                Value::Array(items) => any(items, |item| test.holds(item, cost))?,
                _ => false,
            },
            Self::AllMatch(test) => match value {
                Value::Array(items) => !items.is_empty() && all(items, |item| test.holds(item, cost))?,
                _ => false,
            },
            Self::KeyMatch(test) => match value {
                Value::Object(members) => any(members.keys(), |name| test.holds(&Value::String(name.clone()), cost))?,
                _ => false,
            },
        })
    }

    /// Whether a field that is absent passes.
    pub(super) const fn asks_for_absence(&self) -> bool {
        matches!(self, Self::Exists(false))
    }
}

/// Whether one of some things passes; the first error ends the search.
fn any<T>(
    things: impl IntoIterator<Item = T>,
    mut passes: impl FnMut(T) -> Result<bool, QueryError>,
) -> Result<bool, QueryError> {
    for thing in things {
        if passes(thing)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether all of some things pass.
fn all<T>(
    things: impl IntoIterator<Item = T>,
    mut passes: impl FnMut(T) -> Result<bool, QueryError>,
) -> Result<bool, QueryError> {
    any(things, |thing| passes(thing).map(|passed| !passed)).map(|one_fails| !one_fails)
}
