//! What a selector asks of one value.

use std::cmp::Ordering;

use konnector_store::collate;
use regex::Regex;
use serde_json::Value;

use super::MemberPath;

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

    fn holds(self, value: &Value, wanted: &Value) -> bool {
        match self {
            Self::Equal => is_equal(value, wanted),
            Self::Different => !is_equal(value, wanted),
            Self::Greater => collate(value, wanted) == Ordering::Greater,
            Self::GreaterOrEqual => collate(value, wanted) != Ordering::Less,
            Self::Less => collate(value, wanted) == Ordering::Less,
            Self::LessOrEqual => collate(value, wanted) != Ordering::Greater,
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

/// A question about a value, which may be absent.
#[derive(Debug, Clone)]
pub(super) enum Test {
    And(Vec<Self>),
    Or(Vec<Self>),
    /// Of what no operator is the opposite of; the others are turned around, see [`Test::negated`].
    Not(Box<Self>),
    /// About a member of the value. Whatever is asked of one that is absent, except that it be absent, is answered by no.
    Member(MemberPath, Box<Self>),
    Exists(bool),
    Is(Comparison, Value),
    In(Vec<Value>),
    Type(Kind),
    Size(u64),
    /// Divisor and remainder.
    Mod(i64, i64),
    Regex(Regex),
    BeginsWith(String),
    /// An array that holds all of these.
    All(Vec<Value>),
    /// An array of which one item passes.
    ElementMatch(Box<Self>),
    /// An array of which all items pass, and that has some.
    AllMatch(Box<Self>),
    /// An object of which one name passes.
    KeyMatch(Box<Self>),
}

impl Test {
    /// The opposite. A member that is absent passes neither (CouchDB normalises selectors this way).
    pub(super) fn negated(self) -> Self {
        match self {
            Self::And(tests) => Self::Or(tests.into_iter().map(Self::negated).collect()),
            Self::Or(tests) => Self::And(tests.into_iter().map(Self::negated).collect()),
            Self::Not(test) => *test,
            Self::Member(path, test) => Self::Member(path, Box::new(test.negated())),
            Self::Exists(there) => Self::Exists(!there),
            Self::Is(comparison, value) => Self::Is(comparison.opposite(), value),
            other => Self::Not(Box::new(other)),
        }
    }

    /// Whether a value passes.
    pub(super) fn holds(&self, value: &Value) -> bool {
        match self {
            Self::And(tests) => tests.iter().all(|test| test.holds(value)),
            Self::Or(tests) => tests.iter().any(|test| test.holds(value)),
            Self::Not(test) => !test.holds(value),
            Self::Member(path, test) => match path.below(value) {
                Some(member) => test.holds(member),
                None => test.asks_for_absence(),
            },
            Self::Exists(there) => *there,
            Self::Is(comparison, wanted) => comparison.holds(value, wanted),
            Self::In(wanted) => match value {
                Value::Array(items) if items.iter().any(|item| wanted.iter().any(|wanted| is_equal(item, wanted))) => {
                    true
                }
                value => wanted.iter().any(|wanted| is_equal(value, wanted)),
            },
            Self::Type(kind) => Kind::of(value) == *kind,
            Self::Size(size) => value.as_array().is_some_and(|items| items.len() as u64 == *size),
            Self::Mod(divisor, remainder) => {
                value.as_i64().and_then(|number| number.checked_rem(*divisor)) == Some(*remainder)
            }
            Self::Regex(regex) => value.as_str().is_some_and(|text| regex.is_match(text)),
            Self::BeginsWith(prefix) => value.as_str().is_some_and(|text| text.starts_with(prefix.as_str())),
            Self::All(wanted) => value.as_array().is_some_and(|items| {
                let holds = |wanted: &Value| items.iter().any(|item| is_equal(item, wanted));
                wanted.iter().all(holds) || matches!(wanted.as_slice(), [only] if is_equal(value, only))
            }),
            Self::ElementMatch(test) => value.as_array().is_some_and(|items| items.iter().any(|item| test.holds(item))),
            Self::AllMatch(test) => {
                value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(|item| test.holds(item)))
            }
            Self::KeyMatch(test) => value
                .as_object()
                .is_some_and(|members| members.keys().any(|name| test.holds(&Value::String(name.clone())))),
        }
    }

    /// Whether a member that is absent passes.
    pub(super) fn asks_for_absence(&self) -> bool {
        match self {
            Self::Exists(there) => !there,
            Self::And(tests) => !tests.is_empty() && tests.iter().all(Self::asks_for_absence),
            Self::Or(tests) => tests.iter().any(Self::asks_for_absence),
            _ => false,
        }
    }
}
