//! Selectors of documents.

use regex::RegexBuilder;
use serde_json::{Map, Value};

use super::predicate::{Comparison, JsonType, Predicate};
use super::{FieldPath, QueryBudget, QueryError, field_path};

/// Maximum nesting depth of a selector.
const MAX_DEPTH: usize = 32;
/// Maximum total number of operators and fields.
const MAX_PARTS: usize = 1_000;
/// Maximum total number of values in its lists (`$in`, `$nin`, `$all`).
const MAX_VALUES: usize = 10_000;
/// Maximum number of regular expressions. Each takes up to a millisecond and some hundred KiB to compile.
const MAX_REGEXES: usize = 16;
/// Maximum length of a regular expression in bytes. Those of applications have a few dozen; parsing one takes time
/// before its compiled size is known.
const MAX_PATTERN_BYTES: usize = 1_000;
/// Maximum size of a compiled regular expression in bytes. A Unicode class such as `\w` takes some dozen KiB.
const MAX_REGEX_BYTES: usize = 256 << 10;
/// Minimum size in bytes of one state of a compiled regular expression.
const MIN_REGEX_STATE_BYTES: usize = 24;

/// A selector as in `_find`: `{"vendor": "Bank101", "amount": {"$gt": 10}}`.
///
/// It supports all operators of CouchDB 3.4 except `$text`. Regular expressions have no look-around and no
/// back-references, and take time linear in the text.
#[derive(Debug, Clone)]
pub struct Selector(pub(super) Predicate);

impl Selector {
    /// Parses a selector.
    ///
    /// # Errors
    ///
    /// [`QueryError::Selector`] if the selector is invalid; the error names the operator or field.
    pub fn parse(selector: &Map<String, Value>) -> Result<Self, QueryError> {
        if selector.is_empty() {
            return Ok(Self(Predicate::always()));
        }
        Ok(Self(match SelectorParser::default().object(selector, None, 0)? {
            // CouchDB does not execute a query that consists only of an empty list (mango_cursor:maybe_noop_range).
            Predicate::And(tests) if tests.is_empty() => Predicate::never(),
            test => test,
        }))
    }

    /// Returns the conjunction of two selectors.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Predicate::And(vec![self.0, other.0]))
    }

    /// Returns whether a document matches. Its id is the field `_id`.
    ///
    /// # Errors
    ///
    /// [`QueryError::TooExpensive`] if the budget is exhausted.
    pub fn matches(&self, document: &Value, cost: &mut QueryBudget) -> Result<bool, QueryError> {
        self.0.matches(document, cost)
    }
}

#[derive(Default)]
struct SelectorParser {
    parts: usize,
    values: usize,
    regexes: usize,
}

fn selector_error<T>(text: String) -> Result<T, QueryError> {
    Err(QueryError::Selector(text))
}

/// Builds an operator on the field at a path, or on the value itself.
fn at_path(path: Option<&FieldPath>, test: Predicate) -> Predicate {
    match path {
        Some(path) => Predicate::Field(path.clone(), Box::new(test)),
        None => test,
    }
}

impl SelectorParser {
    /// Parses the conditions on the value at `path`. An empty object is a value like any other (CouchDB,
    /// `mango_selector:norm_ops`).
    fn object(
        &mut self,
        members: &Map<String, Value>,
        path: Option<&FieldPath>,
        depth: usize,
    ) -> Result<Predicate, QueryError> {
        if depth > MAX_DEPTH {
            return selector_error(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        if members.is_empty() {
            return Ok(at_path(path, Predicate::Compare(Comparison::Equal, Value::Object(Map::new()))));
        }
        let mut tests = Vec::with_capacity(members.len());
        for (name, value) in members {
            self.parts += 1;
            if self.parts > MAX_PARTS {
                return selector_error(format!("it has more than {MAX_PARTS} operators and fields"));
            }
            tests.push(if name.starts_with('$') {
                self.operator(name, value, path, depth + 1)?
            } else {
                let name = field_path(name)?;
                let path = path.map_or_else(|| name.clone(), |path| path.join(&name));
                self.condition(value, &path, depth + 1)?
            });
        }
        Ok(match <[Predicate; 1]>::try_from(tests) {
            Ok([only]) => only,
            Err(tests) => Predicate::And(tests),
        })
    }

    /// Parses the condition on a field: operators, conditions on its own fields, or its value.
    fn condition(&mut self, value: &Value, path: &FieldPath, depth: usize) -> Result<Predicate, QueryError> {
        match value {
            Value::Object(members) => self.object(members, Some(path), depth),
            value => Ok(at_path(Some(path), Predicate::Compare(Comparison::Equal, value.clone()))),
        }
    }

    fn operator(
        &mut self,
        name: &str,
        value: &Value,
        path: Option<&FieldPath>,
        depth: usize,
    ) -> Result<Predicate, QueryError> {
        match name {
            "$and" => Ok(Predicate::And(self.list(name, value, path, depth)?)),
            "$or" => Ok(Predicate::any_of(self.list(name, value, path, depth)?)),
            "$nor" => {
                Ok(Predicate::And(self.list(name, value, path, depth)?.into_iter().map(Predicate::negate).collect()))
            }
            "$not" => Ok(self.operand_object(name, value, path, depth)?.negate()),
            _ => self.value_operator(name, value, depth).map(|test| at_path(path, test)),
        }
    }

    /// Parses an operator that applies to the value itself.
    fn value_operator(&mut self, name: &str, value: &Value, depth: usize) -> Result<Predicate, QueryError> {
        let is = |comparison| Ok(Predicate::Compare(comparison, value.clone()));
        match name {
            "$eq" => is(Comparison::Equal),
            "$ne" => is(Comparison::NotEqual),
            "$gt" => is(Comparison::Greater),
            "$gte" => is(Comparison::GreaterOrEqual),
            "$lt" => is(Comparison::Less),
            "$lte" => is(Comparison::LessOrEqual),
            "$elemMatch" => Ok(Predicate::ElemMatch(Box::new(self.operand_object(name, value, None, depth)?))),
            "$allMatch" => Ok(Predicate::AllMatch(Box::new(self.operand_object(name, value, None, depth)?))),
            "$keyMapMatch" => Ok(Predicate::KeyMapMatch(Box::new(self.operand_object(name, value, None, depth)?))),
            "$in" => Ok(Predicate::In(self.values(name, value)?)),
            "$nin" => Ok(Predicate::In(self.values(name, value)?).negate()),
            "$all" => Ok(Predicate::All(self.values(name, value)?)),
            "$exists" => match value {
                Value::Bool(exists) => Ok(Predicate::Exists(*exists)),
                _ => selector_error("$exists takes true or false".to_owned()),
            },
            "$type" => match value.as_str().and_then(JsonType::parse) {
                Some(kind) => Ok(Predicate::Type(kind)),
                None => selector_error("$type takes null, boolean, number, string, array or object".to_owned()),
            },
            "$size" => match value.as_u64() {
                Some(size) => Ok(Predicate::Size(size)),
                None => selector_error("$size takes a whole number of at least 0".to_owned()),
            },
            "$mod" => match value.as_array().map(Vec::as_slice) {
                Some([divisor, remainder]) => {
                    match (divisor.as_i64().filter(|number| *number != 0), remainder.as_i64()) {
                        (Some(divisor), Some(remainder)) => Ok(Predicate::Mod(divisor, remainder)),
                        _ => selector_error("$mod takes two whole numbers, the first of which is not 0".to_owned()),
                    }
                }
                _ => selector_error("$mod takes [divisor, remainder]".to_owned()),
            },
            "$beginsWith" => match value {
                Value::String(prefix) => Ok(Predicate::BeginsWith(prefix.clone())),
                _ => selector_error("$beginsWith takes a string".to_owned()),
            },
            "$regex" => self.regex(value),
            unknown => selector_error(format!("{unknown} is not an operator that is valid here")),
        }
    }

    fn operand_object(
        &mut self,
        name: &str,
        value: &Value,
        path: Option<&FieldPath>,
        depth: usize,
    ) -> Result<Predicate, QueryError> {
        match value {
            Value::Object(members) => self.object(members, path, depth),
            _ => selector_error(format!("{name} takes an object")),
        }
    }

    fn list(
        &mut self,
        name: &str,
        value: &Value,
        path: Option<&FieldPath>,
        depth: usize,
    ) -> Result<Vec<Predicate>, QueryError> {
        let Value::Array(items) = value else { return selector_error(format!("{name} takes a list of objects")) };
        items.iter().map(|item| self.operand_object(name, item, path, depth)).collect()
    }

    fn values(&mut self, name: &str, value: &Value) -> Result<Vec<Value>, QueryError> {
        let Value::Array(values) = value else { return selector_error(format!("{name} takes a list of values")) };
        self.values += values.len();
        if self.values > MAX_VALUES {
            return selector_error(format!("its lists have more than {MAX_VALUES} values"));
        }
        Ok(values.clone())
    }

    fn regex(&mut self, value: &Value) -> Result<Predicate, QueryError> {
        let Value::String(pattern) = value else { return selector_error("$regex takes a string".to_owned()) };
        self.regexes += 1;
        if self.regexes > MAX_REGEXES {
            return selector_error(format!("it has more than {MAX_REGEXES} regular expressions"));
        }
        if pattern.len() > MAX_PATTERN_BYTES {
            return selector_error(format!("$regex takes a string of at most {MAX_PATTERN_BYTES} bytes"));
        }
        // The smallest size limit under which it compiles bounds its steps per byte.
        let mut size = 8 << 10;
        loop {
            match RegexBuilder::new(pattern).size_limit(size).dfa_size_limit(MAX_REGEX_BYTES).build() {
                Ok(regex) => return Ok(Predicate::Regex(regex, (size / MIN_REGEX_STATE_BYTES) as u64)),
                Err(regex::Error::CompiledTooBig(_)) if size < MAX_REGEX_BYTES => {
                    size = (size * 4).min(MAX_REGEX_BYTES)
                }
                Err(error) => return selector_error(format!("$regex: {error}")),
            }
        }
    }
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
            assert!(parsed.matches(document, &mut QueryBudget::default()).expect("cheap"), "{selector} and {document}");
        }
        for document in no {
            assert!(
                !parsed.matches(document, &mut QueryBudget::default()).expect("cheap"),
                "{selector} and {document}"
            );
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

    /// mango_selector.erl: negations are pushed down to the operators, and an absent field passes only `$exists:
    /// false`.
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

    /// mango_selector.erl, `match`: an empty `$and` and `$or` are true, an empty `$all` and `$in` are false.
    #[test]
    fn empty_lists() {
        let (one, none) = (json!({ "a": 1, "tags": [] }), json!({}));
        check(json!({ "tags": { "$all": [] } }), &[], &[one.clone(), json!({ "tags": [1] }), none.clone()]);
        check(json!({ "a": { "$in": [] } }), &[], &[one.clone(), none.clone()]);
        check(json!({ "tags": { "$in": [] } }), &[], &[one.clone(), json!({ "tags": [1] })]);
        check(json!({ "a": { "$nin": [] } }), std::slice::from_ref(&one), std::slice::from_ref(&none));
        check(json!({ "a": 1, "$or": [] }), std::slice::from_ref(&one), std::slice::from_ref(&none));
        check(json!({ "a": 1, "$and": [] }), std::slice::from_ref(&one), std::slice::from_ref(&none));
        check(json!({ "a": 1, "$nor": [] }), std::slice::from_ref(&one), std::slice::from_ref(&none));
        check(json!({ "a": 1, "b": { "$or": [] } }), std::slice::from_ref(&one), std::slice::from_ref(&none));
        check(json!({ "a": 1, "$not": { "$and": [] } }), std::slice::from_ref(&one), std::slice::from_ref(&none));
        check(json!({ "tags": { "$size": 0 } }), std::slice::from_ref(&one), &[json!({ "tags": {} }), none.clone()]);
        check(
            json!({ "tags": { "$elemMatch": { "$gt": null } } }),
            &[json!({ "tags": [1] })],
            std::slice::from_ref(&one),
        );
        check(
            json!({ "tags": { "$allMatch": { "$gt": null } } }),
            &[json!({ "tags": [1] })],
            std::slice::from_ref(&one),
        );
        check(json!({ "a": { "$keyMapMatch": { "$gt": "" } } }), &[json!({ "a": { "b": 1 } })], &[json!({ "a": {} })]);
        // mango_cursor.erl, `maybe_noop_range`: a query of only an empty list is not executed.
        for alone in
            [json!({ "$or": [] }), json!({ "$and": [] }), json!({ "$nor": [] }), json!({ "a": { "$and": [] } })]
        {
            check(alone, &[], &[one.clone(), none.clone()]);
        }
    }

    /// mango_selector.erl, `norm_ops`: below the top, an empty object is a value.
    #[test]
    fn empty_objects() {
        check(json!({ "a": { "$not": {} } }), &[json!({ "a": 1 })], &[json!({ "a": {} }), json!({})]);
        check(
            json!({ "a": { "$elemMatch": {} } }),
            &[json!({ "a": [{}] })],
            &[json!({ "a": [1] }), json!({ "a": [] })],
        );
        check(json!({ "$and": [{}, { "a": 1 }] }), &[], &[json!({ "a": 1 })]);
    }

    #[test]
    fn arrays() {
        let mails = json!({ "email": [{ "address": "a@x.example" }, { "address": "b@x.example" }], "n": [[1], 2] });
        check(json!({ "email.0.address": "a@x.example" }), std::slice::from_ref(&mails), &[json!({ "email": [] })]);
        check(json!({ "email": { "1": { "address": "b@x.example" } } }), std::slice::from_ref(&mails), &[]);
        check(json!({ "email.2": { "$exists": false } }), &[json!({})], std::slice::from_ref(&mails));
        check(json!({ "email.0.name": { "$exists": false } }), std::slice::from_ref(&mails), &[]);
        check(json!({ "email.x": { "$exists": false } }), &[json!({ "email": {} })], std::slice::from_ref(&mails));
        check(json!({ "n.0.0": 1 }), std::slice::from_ref(&mails), &[json!({ "n": [1] })]);
        // For an array, its items are compared, never the array itself.
        check(json!({ "n": { "$in": [[1]] } }), std::slice::from_ref(&mails), &[json!({ "n": [1] })]);
        check(json!({ "n": { "$nin": [[1]] } }), &[json!({ "n": [1] })], std::slice::from_ref(&mails));
        check(json!({ "n": { "$all": [[[1], 2]] } }), std::slice::from_ref(&mails), &[json!({ "n": [1, 2] })]);
        check(json!({ "n": { "$all": [2] } }), std::slice::from_ref(&mails), &[json!({ "n": [2.0] })]);
        check(json!({ "n": [[1], 2] }), std::slice::from_ref(&mails), &[json!({ "n": [[1]] })]);
    }

    #[test]
    fn paths_with_escapes() {
        check(json!({ "a\\.b": 1 }), &[json!({ "a.b": 1 })], &[json!({ "a": { "b": 1 } })]);
        check(json!({ "\\$a": 1 }), &[json!({ "$a": 1 })], &[json!({ "\\$a": 1 })]);
        check(json!({ "a": { "\\$b": 1 } }), &[json!({ "a": { "$b": 1 } })], &[json!({ "a": { "b": 1 } })]);
    }

    #[test]
    fn ids_are_ordered_by_their_bytes_and_other_texts_by_unicode() {
        check(json!({ "_id": { "$gt": "a" } }), &[json!({ "_id": "b" })], &[json!({ "_id": "B" })]);
        check(json!({ "a": { "$gt": "a" } }), &[json!({ "a": "b" }), json!({ "a": "B" })], &[]);
    }

    #[test]
    fn a_field_below_an_absent_one_is_absent() {
        check(json!({ "a": { "b": { "$exists": false } } }), &[json!({}), json!({ "a": {} })], &[json!({ "a": 1 })]);
        check(json!({ "a": { "$mod": [2, 1] } }), &[json!({ "a": u64::MAX }), json!({ "a": 3 })], &[json!({ "a": 2 })]);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |selector: Value| parse(selector).expect_err("refused").to_string();
        insta::assert_snapshot!(error(json!({ "a": { "$foo": 1 } })), @"selector: $foo is not an operator that is valid here");
        insta::assert_snapshot!(error(json!({ "$text": "x" })), @"selector: $text is not an operator that is valid here");
        insta::assert_snapshot!(error(json!({ "a": { "$in": 1 } })), @"selector: $in takes a list of values");
        insta::assert_snapshot!(error(json!({ "$or": [1] })), @"selector: $or takes an object");
        insta::assert_snapshot!(error(json!({ "a": { "$mod": [0, 1] } })), @"selector: $mod takes two whole numbers, the first of which is not 0");
        insta::assert_snapshot!(error(json!({ "a..b": 1 })), @r#"selector: "a..b" is not a field path such as `vendor` or `cozyMetadata.createdAt`"#);
        let deep = (0..40).fold(json!({ "a": 1 }), |inner, _| json!({ "$not": inner }));
        insta::assert_snapshot!(error(deep), @"selector: it is nested deeper than 32 levels");
        assert!(error(json!({ "a": { "$regex": "(a{1000}){1000}" } })).contains("$regex"));
    }

    #[test]
    fn what_makes_a_selector_expensive_is_limited() {
        let error = |selector: Value| parse(selector).expect_err("refused").to_string();
        insta::assert_snapshot!(error(json!({ "a": { "$regex": "a?".repeat(400_000) } })), @"selector: $regex takes a string of at most 1000 bytes");
        let many: Vec<Value> = (0..17).map(|_| json!({ "a": { "$regex": "a" } })).collect();
        insta::assert_snapshot!(error(json!({ "$or": many })), @"selector: it has more than 16 regular expressions");
        let half: Vec<u64> = (0..5_001).collect();
        insta::assert_snapshot!(error(json!({ "a": { "$in": half }, "b": { "$all": half } })), @"selector: its lists have more than 10000 values");
        let many: Vec<Value> = (0..1_001).map(|_| json!({})).map(|_| json!({ "a": 1 })).collect();
        insta::assert_snapshot!(error(json!({ "$or": many })), @"selector: it has more than 1000 operators and fields");
        insta::assert_snapshot!(error(json!({ "a.".repeat(128) + "a": 1 })), @"selector: a field path has more than 128 names");
    }

    /// Each selector does the maximum work on a document of the maximum size; the work ends when the budget is
    /// exhausted.
    #[test]
    fn a_selector_times_a_document_has_an_end() {
        let texts = |count: usize| (0..count).map(|number| format!("{number:05}")).collect::<Vec<_>>();
        let (text, long) = ("ab".repeat(32 << 10), "ab".repeat(4 << 20));
        let list = json!({ "a": texts(50_000) });
        let members = json!({ "a": texts(200_000).into_iter().map(|name| (name, json!(1))).collect::<Map<_, _>>() });
        let nested = json!({ "a": (0..500).map(|_| texts(500)).collect::<Vec<_>>() });
        for (selector, document) in [
            (json!({ "a": { "$in": vec!["x"; 10_000] } }), &list),
            (json!({ "a": { "$nin": vec!["x"; 10_000] } }), &list),
            (
                json!({ "a": { "$all": vec!["x"; 1].into_iter().chain(vec!["49999"; 9_000]).rev().collect::<Vec<_>>() } }),
                &list,
            ),
            (json!({ "a": { "$elemMatch": { "$or": vec![json!({ "$eq": "x" }); 450] } } }), &list),
            (json!({ "a": { "$allMatch": { "$and": vec![json!({ "$ne": "x" }); 450] } } }), &list),
            (json!({ "a": { "$keyMapMatch": { "$or": vec![json!({ "$regex": "x" }); 16] } } }), &members),
            (json!({ "a": { "$elemMatch": { "$elemMatch": { "$or": vec![json!({ "$gt": "x" }); 450] } } } }), &nested),
            (json!({ "a": { "$not": { "$regex": "([ab]*a[ab]{100}|x)*$" } } }), &json!({ "a": long })),
            (json!({ "$or": vec![json!({ "a": { "$eq": text } }); 450] }), &json!({ "a": text.replace('b', "c") })),
        ] {
            let mut cost = QueryBudget::new(1 << 22, std::time::Duration::from_secs(3_600));
            let found = parse(selector.clone()).expect("a selector").matches(document, &mut cost);
            let name = selector.to_string();
            assert_eq!(found, Err(QueryError::TooExpensive), "{}", name.get(..100).unwrap_or(&name));
        }
    }
}
