//! Chooses the index, and the part of it, that leads to the requested documents.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::{Direction, IndexRange, collate};
use serde_json::Value;

use super::predicate::{Comparison, Predicate};
use super::{FieldPath, QueryError, Selector};

/// Requested order of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// Fields to sort by, the most significant first.
    pub fields: Vec<FieldPath>,
    /// Direction, the same for all fields.
    pub direction: Direction,
}

/// Access path to the documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// At most one document, by its id.
    ById(String),
    /// All documents of the doctype, in the order of their ids.
    FullScan(Direction),
    /// A part of an index.
    Index {
        /// Position of the index in the given list.
        index: usize,
        /// Part of the index.
        range: IndexRange,
        /// Direction of reading.
        direction: Direction,
    },
}

/// Guarantee of a selector about one field.
#[derive(Debug, Clone)]
struct Constraint {
    equal: Option<Value>,
    lower: Bound<Value>,
    upper: Bound<Value>,
    prefix: Option<String>,
}

impl Default for Constraint {
    fn default() -> Self {
        Self { equal: None, lower: Bound::Unbounded, upper: Bound::Unbounded, prefix: None }
    }
}

impl Constraint {
    const fn is_range(&self) -> bool {
        !matches!((&self.lower, &self.upper, &self.prefix), (Bound::Unbounded, Bound::Unbounded, None))
    }

    fn narrow(&mut self, comparison: Comparison, value: &Value) {
        let greater = |bound: &Bound<Value>| match bound {
            Bound::Unbounded => true,
            Bound::Included(old) | Bound::Excluded(old) => collate(value, old).is_gt(),
        };
        let less = |bound: &Bound<Value>| match bound {
            Bound::Unbounded => true,
            Bound::Included(old) | Bound::Excluded(old) => collate(value, old).is_lt(),
        };
        match comparison {
            Comparison::Equal => self.equal = Some(value.clone()),
            Comparison::NotEqual => {}
            Comparison::Greater if greater(&self.lower) => self.lower = Bound::Excluded(value.clone()),
            Comparison::GreaterOrEqual if greater(&self.lower) => self.lower = Bound::Included(value.clone()),
            Comparison::Less if less(&self.upper) => self.upper = Bound::Excluded(value.clone()),
            Comparison::LessOrEqual if less(&self.upper) => self.upper = Bound::Included(value.clone()),
            _ => {}
        }
    }
}

type Constraints = BTreeMap<FieldPath, Constraint>;

impl Selector {
    /// Returns the fields that every matching document has, with the known constraints on their values.
    fn constraints(&self) -> Constraints {
        let mut found = Constraints::new();
        collect_constraints(&self.0, &mut found);
        found
    }
}

fn collect_constraints(test: &Predicate, found: &mut Constraints) {
    match test {
        Predicate::And(tests) => tests.iter().for_each(|test| collect_constraints(test, found)),
        Predicate::Field(path, test) if !test.requires_absence() => {
            let constraint = found.entry(path.clone()).or_default();
            match &**test {
                Predicate::Compare(comparison, value) => constraint.narrow(*comparison, value),
                Predicate::BeginsWith(prefix) => constraint.prefix = Some(prefix.clone()),
                _ => {}
            }
        }
        _ => {}
    }
}

/// Chooses among indexes, each a list of field paths. An index serves a query that has a condition on, or sorts by,
/// each of its fields. The query must sort by fields in the index's order, starting with the first one without a single
/// fixed value, as in CouchDB's own planner.
///
/// # Errors
///
/// [`QueryError::NoIndex`] if no index serves the query.
pub fn plan(selector: &Selector, sort: Option<&Sort>, indexes: &[&[String]]) -> Result<Plan, QueryError> {
    let constraints = selector.constraints();
    let direction = sort.map_or(Direction::Forward, |sort| sort.direction);
    let by_id = sort.is_none_or(|sort| sort.fields.iter().all(FieldPath::is_id));
    let id = FieldPath::parse("_id")?;
    if let Some(Constraint { equal: Some(Value::String(id)), .. }) = constraints.get(&id)
        && by_id
    {
        return Ok(Plan::ById(id.clone()));
    }
    let usable = indexes.iter().enumerate().filter_map(|(index, members)| {
        let members: Vec<FieldPath> =
            members.iter().map(|member| FieldPath::parse(member)).collect::<Result<_, _>>().ok()?;
        let (rank, range) = rank_index(&members, sort, &constraints)?;
        Some((rank, Reverse(members.len()), Reverse(index), range))
    });
    if let Some((.., Reverse(index), range)) = usable.max_by_key(|(rank, length, index, _)| (*rank, *length, *index)) {
        return Ok(Plan::Index { index, range, direction });
    }
    if by_id && constraints.keys().all(FieldPath::is_id) {
        return Ok(Plan::FullScan(direction));
    }
    let sorted: &[FieldPath] = sort.map_or(&[], |sort| &sort.fields);
    let others = constraints.keys().filter(|field| !sorted.contains(field) && !field.is_id());
    Err(QueryError::NoIndex { fields: sorted.iter().chain(others).map(ToString::to_string).collect() })
}

/// Returns how well an index serves the query, and which part of it, or `None` if it does not.
fn rank_index(members: &[FieldPath], sort: Option<&Sort>, constraints: &Constraints) -> Option<(usize, IndexRange)> {
    let sorted: &[FieldPath] = sort.map_or(&[], |sort| &sort.fields);
    if !members.iter().all(|member| constraints.contains_key(member) || sorted.contains(member)) {
        return None;
    }
    let equal: Vec<Value> = members.iter().map_while(|member| constraints.get(member)?.equal.clone()).collect();
    let starts = |start: usize| members.get(start..).is_some_and(|rest| rest.starts_with(sorted));
    if !(0..=equal.len()).any(starts) {
        return None;
    }
    let next = members.get(equal.len()).and_then(|member| constraints.get(member)).filter(|next| next.is_range());
    let rank = 2 * equal.len() + usize::from(next.is_some());
    let range = match next {
        None => IndexRange::equal(&equal),
        Some(Constraint { prefix: Some(prefix), .. }) => IndexRange::with_prefix(&equal, prefix),
        Some(Constraint { lower, upper, .. }) => IndexRange::between(&equal, lower.as_ref(), upper.as_ref()),
    };
    Some((rank, range))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names(members: &[&str]) -> Vec<String> {
        members.iter().map(|member| (*member).to_owned()).collect()
    }

    fn chosen(selector: Value, sort: &[&str], indexes: &[&[&str]]) -> Option<usize> {
        let selector = Selector::parse(selector.as_object().expect("an object")).expect("a selector");
        let members: Vec<_> = sort.iter().map(|member| FieldPath::parse(member).expect("a path")).collect();
        let sort = (!members.is_empty()).then_some(Sort { fields: members, direction: Direction::Forward });
        let indexes: Vec<Vec<String>> = indexes.iter().map(|members| names(members)).collect();
        let indexes: Vec<&[String]> = indexes.iter().map(Vec::as_slice).collect();
        match plan(&selector, sort.as_ref(), &indexes) {
            Ok(Plan::Index { index, .. }) => Some(index),
            Ok(Plan::ById(_) | Plan::FullScan(_)) => Some(usize::MAX),
            Err(error) => {
                assert!(matches!(error, QueryError::NoIndex { .. }), "{error}");
                None
            }
        }
    }

    /// Cozy API, data system: an index on (a, b, c) only serves queries with conditions on a, b and c.
    #[test]
    fn an_index_serves_who_asks_for_each_of_its_members() {
        let abc: &[&[&str]] = &[&["a", "b", "c"]];
        assert_eq!(chosen(json!({ "a": 1 }), &[], abc), None);
        assert_eq!(chosen(json!({ "a": 1, "b": 2, "c": { "$exists": true } }), &[], abc), Some(0));
        assert_eq!(chosen(json!({ "a": 1, "b": 2, "c": { "$exists": false } }), &[], abc), None);
        assert_eq!(chosen(json!({ "a": 1, "$or": [{ "b": 1 }, { "b": 2 }] }), &[], &[&["a", "b"]]), None);
        assert_eq!(chosen(json!({ "$and": [{ "a": 1 }, { "b": { "$gt": 2 } }] }), &[], &[&["a", "b"]]), Some(0));
    }

    #[test]
    fn the_most_equal_values_win_then_a_range_then_the_shorter_index() {
        let selector = json!({ "a": 1, "b": { "$gt": 1 }, "c": { "$exists": true } });
        assert_eq!(chosen(selector.clone(), &[], &[&["c"], &["b"], &["a", "b"], &["a"]]), Some(2));
        assert_eq!(chosen(selector.clone(), &[], &[&["a", "c"], &["a"]]), Some(1));
        assert_eq!(chosen(selector, &[], &[&["c"], &["b"]]), Some(1));
    }

    #[test]
    fn an_index_gives_its_own_order_only() {
        let selector = || json!({ "a": 1, "b": { "$gt": 1 } });
        assert_eq!(chosen(selector(), &["b"], &[&["a", "b"]]), Some(0), "a has one value");
        assert_eq!(chosen(selector(), &["a", "b"], &[&["a", "b"]]), Some(0));
        assert_eq!(chosen(selector(), &["b"], &[&["b", "a"]]), Some(0));
        assert_eq!(chosen(selector(), &["c"], &[&["a", "b"]]), None);
        assert_eq!(chosen(json!({ "a": { "$gt": 1 } }), &["b"], &[&["a", "b"]]), None, "a has many values");
        assert_eq!(
            chosen(json!({ "a": 1 }), &["b"], &[&["a", "b"]]),
            Some(0),
            "what is sorted by need not be asked for"
        );
    }

    #[test]
    fn ids_need_no_index() {
        assert_eq!(chosen(json!({}), &[], &[]), Some(usize::MAX));
        assert_eq!(chosen(json!({ "_id": { "$gt": null } }), &["_id"], &[]), Some(usize::MAX));
        assert_eq!(chosen(json!({ "_id": "one", "a": 1 }), &[], &[]), Some(usize::MAX));
        assert_eq!(chosen(json!({ "a": 1 }), &[], &[]), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|value| json!(value)),
            (-3..4i64).prop_map(|value| json!(value)),
            "[abB]{0,2}".prop_map(|value| json!(value)),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(|items| json!(items)),
                prop::collection::btree_map("[ab.$]|0", inner, 0..3).prop_map(|fields| json!(fields)),
            ]
        })
    }

    const PATHS: [&str; 8] = ["a", "b", "a.b", "a.0", "a.0.b", "a\\.b", "\\$", "_id"];

    fn selector() -> impl Strategy<Value = Value> {
        let path = || prop::sample::select(PATHS.as_slice());
        let comparison = || prop::sample::select(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"].as_slice());
        let list = || prop::collection::vec(value(), 0..3);
        let leaf = prop_oneof![
            (path(), value()).prop_map(|(path, value)| json!({ path: value })),
            (path(), comparison(), value()).prop_map(|(path, name, value)| json!({ path: { name: value } })),
            (path(), any::<bool>()).prop_map(|(path, there)| json!({ path: { "$exists": there } })),
            (path(), "[abB]{0,2}").prop_map(|(path, prefix)| json!({ path: { "$beginsWith": prefix } })),
            (path(), prop::sample::select(["$in", "$nin", "$all"].as_slice()), list())
                .prop_map(|(path, name, values)| json!({ path: { name: values } })),
        ];
        leaf.prop_recursive(3, 12, 3, move |inner| {
            let lists = prop::sample::select(["$and", "$or", "$nor"].as_slice());
            prop_oneof![
                (lists, prop::collection::vec(inner.clone(), 0..3)).prop_map(|(name, list)| json!({ name: list })),
                inner.clone().prop_map(|inner| json!({ "$not": inner })),
                (path(), inner).prop_map(|(path, inner)| json!({ path: { "$elemMatch": inner } })),
            ]
        })
    }

    proptest! {
        /// The part of an index that is read contains every document that the selector matches, so a query finds the
        /// same with and without an index.
        #[test]
        fn an_index_leads_to_every_document_that_is_wanted(
            parts in prop::collection::vec(selector(), 1..4),
            fields in prop::collection::btree_map("[ab.$]|a\\.b", value(), 0..4),
            index in prop::sample::subsequence(PATHS.as_slice(), 1..3),
        ) {
            // A value may look like an operator with an invalid argument.
            let parsed = Selector::parse(json!({ "$and": parts }).as_object().expect("an object"));
            prop_assume!(parsed.is_ok());
            let selector = parsed.expect("a selector");
            let members = names(&index);
            let Ok(Plan::Index { range, .. }) = plan(&selector, None, &[&members]) else { return Ok(()) };
            let body = json!(fields).as_object().cloned().expect("an object");
            let mut document = body.clone();
            document.insert("_id".to_owned(), json!("ab"));
            if selector.matches(&Value::Object(document), &mut crate::QueryBudget::default()).expect("cheap") {
                prop_assert!(range.contains(&members, "ab", &body));
            }
        }
    }
}
