//! Which documents are wanted.

use regex::RegexBuilder;
use serde_json::{Map, Value};

use super::test::{Comparison, Kind, Test};
use super::{MemberPath, QueryError};

/// How deep a selector may be nested.
const DEPTH: usize = 32;
/// How many operators and members it may have in all.
const PARTS: usize = 1_000;
/// Bytes that a compiled regular expression may take.
const REGEX: usize = 256 << 10;

/// What `_find` calls a selector: `{"vendor": "Bank101", "amount": {"$gt": 10}}`.
///
/// All operators of CouchDB 3.4 but `$text` are there. A regular expression has no look-around and no back-references, and takes time that
/// grows with the text alone.
#[derive(Debug, Clone)]
pub struct Selector(pub(super) Test);

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    ///
    /// [`QueryError::Selector`], which names the operator or member.
    pub fn parse(selector: &Map<String, Value>) -> Result<Self, QueryError> {
        Parser { parts: 0 }.object(selector, 0).map(Self)
    }

    /// Both of two selectors.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Test::And(vec![self.0, other.0]))
    }

    /// Whether a document is wanted. Its id is the member `_id`.
    #[must_use]
    pub fn matches(&self, document: &Value) -> bool {
        self.0.holds(document)
    }
}

struct Parser {
    parts: usize,
}

fn wrong<T>(text: String) -> Result<T, QueryError> {
    Err(QueryError::Selector(text))
}

impl Parser {
    fn object(&mut self, members: &Map<String, Value>, depth: usize) -> Result<Test, QueryError> {
        if depth > DEPTH {
            return wrong(format!("it is nested more than {DEPTH} deep"));
        }
        let mut tests = Vec::with_capacity(members.len());
        for (name, value) in members {
            self.parts += 1;
            if self.parts > PARTS {
                return wrong(format!("it has more than {PARTS} parts"));
            }
            tests.push(match name.strip_prefix('$') {
                Some(_) => self.operator(name, value, depth + 1)?,
                None => Test::Member(MemberPath::parse(name)?, Box::new(self.condition(value, depth + 1)?)),
            });
        }
        Ok(match <[Test; 1]>::try_from(tests) {
            Ok([only]) => only,
            Err(tests) => Test::And(tests),
        })
    }

    /// What is asked of a member: operators, members of it, or the value that it has.
    fn condition(&mut self, value: &Value, depth: usize) -> Result<Test, QueryError> {
        match value {
            Value::Object(members) if !members.is_empty() => self.object(members, depth),
            value => Ok(Test::Is(Comparison::Equal, value.clone())),
        }
    }

    fn operator(&mut self, name: &str, value: &Value, depth: usize) -> Result<Test, QueryError> {
        let is = |comparison| Ok(Test::Is(comparison, value.clone()));
        match name {
            "$eq" => is(Comparison::Equal),
            "$ne" => is(Comparison::Different),
            "$gt" => is(Comparison::Greater),
            "$gte" => is(Comparison::GreaterOrEqual),
            "$lt" => is(Comparison::Less),
            "$lte" => is(Comparison::LessOrEqual),
            "$and" => Ok(Test::And(self.list(name, value, depth)?)),
            "$or" => Ok(Test::Or(self.list(name, value, depth)?)),
            "$nor" => Ok(Test::Or(self.list(name, value, depth)?).negated()),
            "$not" => Ok(self.below(name, value, depth)?.negated()),
            "$elemMatch" => Ok(Test::ElementMatch(Box::new(self.below(name, value, depth)?))),
            "$allMatch" => Ok(Test::AllMatch(Box::new(self.below(name, value, depth)?))),
            "$keyMapMatch" => Ok(Test::KeyMatch(Box::new(self.below(name, value, depth)?))),
            "$in" => Ok(Test::In(values(name, value)?)),
            "$nin" => Ok(Test::In(values(name, value)?).negated()),
            "$all" => Ok(Test::All(values(name, value)?)),
            "$exists" => match value {
                Value::Bool(there) => Ok(Test::Exists(*there)),
                _ => wrong("$exists takes true or false".to_owned()),
            },
            "$type" => match value.as_str().and_then(Kind::parse) {
                Some(kind) => Ok(Test::Type(kind)),
                None => wrong("$type takes null, boolean, number, string, array or object".to_owned()),
            },
            "$size" => match value.as_u64() {
                Some(size) => Ok(Test::Size(size)),
                None => wrong("$size takes a number from 0".to_owned()),
            },
            "$mod" => match value.as_array().map(Vec::as_slice) {
                Some([divisor, remainder]) => {
                    match (divisor.as_i64().filter(|number| *number != 0), remainder.as_i64()) {
                        (Some(divisor), Some(remainder)) => Ok(Test::Mod(divisor, remainder)),
                        _ => wrong("$mod takes two whole numbers, the first of them not 0".to_owned()),
                    }
                }
                _ => wrong("$mod takes [divisor, remainder]".to_owned()),
            },
            "$beginsWith" => match value {
                Value::String(prefix) => Ok(Test::BeginsWith(prefix.clone())),
                _ => wrong("$beginsWith takes a text".to_owned()),
            },
            "$regex" => regex(value),
            unknown => wrong(format!("{unknown} is no operator that can be used here")),
        }
    }

    fn below(&mut self, name: &str, value: &Value, depth: usize) -> Result<Test, QueryError> {
        match value {
            Value::Object(members) => self.object(members, depth),
            _ => wrong(format!("{name} takes an object")),
        }
    }

    fn list(&mut self, name: &str, value: &Value, depth: usize) -> Result<Vec<Test>, QueryError> {
        let Value::Array(items) = value else { return wrong(format!("{name} takes a list of objects")) };
        items.iter().map(|item| self.below(name, item, depth)).collect()
    }
}

fn values(name: &str, value: &Value) -> Result<Vec<Value>, QueryError> {
    match value {
        Value::Array(values) => Ok(values.clone()),
        _ => wrong(format!("{name} takes a list of values")),
    }
}

fn regex(value: &Value) -> Result<Test, QueryError> {
    let Value::String(pattern) = value else { return wrong("$regex takes a text".to_owned()) };
    let compiled = RegexBuilder::new(pattern).size_limit(REGEX).dfa_size_limit(REGEX).build();
    compiled.map(Test::Regex).or_else(|error| wrong(format!("$regex: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(selector: Value) -> Result<Selector, QueryError> {
        Selector::parse(selector.as_object().expect("an object"))
    }

    #[track_caller]
    fn check(selector: Value, yes: &[Value], no: &[Value]) {
        let parsed = parse(selector.clone()).expect("a selector");
        for document in yes {
            assert!(parsed.matches(document), "{selector} and {document}");
        }
        for document in no {
            assert!(!parsed.matches(document), "{selector} and {document}");
        }
    }

    #[test]
    fn values_members_and_operators() {
        check(json!({}), &[json!({}), json!({ "a": 1 })], &[]);
        check(json!({ "a": 1 }), &[json!({ "a": 1 }), json!({ "a": 1.0 })], &[json!({ "a": "1" }), json!({})]);
        check(json!({ "a.b": 1 }), &[json!({ "a": { "b": 1 } })], &[json!({ "a.b": 1 })]);
        check(
            json!({ "a": { "b": 1, "c": 2 } }),
            &[json!({ "a": { "b": 1, "c": 2, "d": 3 } })],
            &[json!({ "a": { "b": 1 } })],
        );
        check(json!({ "a": {} }), &[json!({ "a": {} })], &[json!({ "a": { "b": 1 } }), json!({})]);
        check(json!({ "a": { "$gt": 1, "$lte": 3 } }), &[json!({ "a": 3 })], &[json!({ "a": 1 }), json!({ "a": "2" })]);
        check(
            json!({ "a": { "$gt": null } }),
            &[json!({ "a": 0 }), json!({ "a": "" })],
            &[json!({ "a": null }), json!({})],
        );
        check(
            json!({ "a": { "$in": [1, "x"] } }),
            &[json!({ "a": "x" }), json!({ "a": [0, 1] })],
            &[json!({ "a": 2 })],
        );
        check(json!({ "a": { "$nin": [1] } }), &[json!({ "a": 2 })], &[json!({ "a": 1 }), json!({})]);
        check(json!({ "a": { "$size": 2 } }), &[json!({ "a": [1, 2] })], &[json!({ "a": [1] }), json!({ "a": "ab" })]);
        check(json!({ "a": { "$mod": [3, 1] } }), &[json!({ "a": 4 })], &[json!({ "a": 3 }), json!({ "a": 4.5 })]);
        check(
            json!({ "a": { "$regex": "^b.*k$" } }),
            &[json!({ "a": "bank" })],
            &[json!({ "a": "banks" }), json!({ "a": 1 })],
        );
        check(json!({ "a": { "$beginsWith": "ba" } }), &[json!({ "a": "bank" })], &[json!({ "a": "Bank" })]);
        check(json!({ "a": { "$type": "array" } }), &[json!({ "a": [] })], &[json!({ "a": {} })]);
        check(
            json!({ "a": { "$all": [1, 2] } }),
            &[json!({ "a": [2, 3, 1] })],
            &[json!({ "a": [1] }), json!({ "a": 1 })],
        );
        check(
            json!({ "a": { "$elemMatch": { "b": { "$gt": 1 } } } }),
            &[json!({ "a": [{ "b": 1 }, { "b": 2 }] })],
            &[json!({ "a": [{ "b": 1 }] }), json!({ "a": { "b": 2 } })],
        );
        check(
            json!({ "a": { "$allMatch": { "$gt": 1 } } }),
            &[json!({ "a": [2, 3] })],
            &[json!({ "a": [1, 2] }), json!({ "a": [] })],
        );
        check(
            json!({ "a": { "$keyMapMatch": { "$eq": "b" } } }),
            &[json!({ "a": { "b": 1 } })],
            &[json!({ "a": { "c": 1 } })],
        );
    }

    /// mango_selector.erl: negations are pushed down to the operators, and an absent member passes none of them but `$exists: false`.
    #[test]
    fn what_is_absent_passes_no_negation() {
        let absent = json!({});
        for selector in [
            json!({ "a": { "$ne": 1 } }),
            json!({ "$not": { "a": 1 } }),
            json!({ "a": { "$not": { "$eq": 1 } } }),
            json!({ "$nor": [{ "a": 1 }, { "a": 2 }] }),
        ] {
            check(selector, &[json!({ "a": 3 })], &[absent.clone(), json!({ "a": 1 })]);
        }
        check(json!({ "a": { "$exists": false } }), std::slice::from_ref(&absent), &[json!({ "a": null })]);
        check(json!({ "a": { "$not": { "$exists": true } } }), std::slice::from_ref(&absent), &[json!({ "a": null })]);
        check(
            json!({ "$or": [{ "a": { "$exists": false } }, { "a": 1 }] }),
            &[absent, json!({ "a": 1 })],
            &[json!({ "a": 2 })],
        );
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |selector: Value| parse(selector).expect_err("refused").to_string();
        insta::assert_snapshot!(refused(json!({ "a": { "$foo": 1 } })), @"selector: $foo is no operator that can be used here");
        insta::assert_snapshot!(refused(json!({ "$text": "x" })), @"selector: $text is no operator that can be used here");
        insta::assert_snapshot!(refused(json!({ "a": { "$in": 1 } })), @"selector: $in takes a list of values");
        insta::assert_snapshot!(refused(json!({ "$or": [1] })), @"selector: $or takes an object");
        insta::assert_snapshot!(refused(json!({ "a": { "$mod": [0, 1] } })), @"selector: $mod takes two whole numbers, the first of them not 0");
        insta::assert_snapshot!(refused(json!({ "a..b": 1 })), @"selector: 'a..b' is no path of members such as vendor or metadata.date");
        let deep = (0..40).fold(json!({ "a": 1 }), |inner, _| json!({ "$not": inner }));
        insta::assert_snapshot!(refused(deep), @"selector: it is nested more than 32 deep");
        assert!(refused(json!({ "a": { "$regex": "(a{1000}){1000}" } })).contains("$regex"));
    }
}
