//! Secondary indexes: after any changes to the documents, an index returns the same result as filtering and sorting all
//! of them.

use std::ops::Bound;

use konnector_query::{Direction, IndexRange};
use konnector_store::{Changes, DocRef, Error, IndexCursor, MAX_INDEXES, Map, Store};
use proptest::prelude::*;
use serde_json::{Value, json};

use konnector_manifest::Doctype;
use konnector_store::InstanceId;

use crate::support::{self, assert_clean, assert_no_sled_blobs, bill, open};

const FIELDS: [&str; 2] = ["vendor", "meta.date"];

fn fields(members: &[&str]) -> Vec<String> {
    members.iter().map(|member| (*member).to_owned()).collect()
}

fn instance() -> InstanceId {
    bill("").instance
}

fn doctype() -> Doctype {
    bill("").doctype
}

async fn create(store: &Store, id: &str, body: Value) {
    support::create(store, &bill(id), body).await;
}

/// The ids in a part of an index, read in pages of `page`.
async fn ids(store: &Store, of: &[&str], range: &IndexRange, direction: Direction, page: usize) -> Vec<String> {
    let index = store.ensure_index(&instance(), &doctype(), &fields(of)).await.unwrap();
    let mut ids: Vec<String> = Vec::new();
    let mut after: Option<IndexCursor> = None;
    loop {
        let hits = store.scan_index(&index, range, direction, after.as_ref(), page).unwrap();
        assert!(hits.len() <= page);
        let Some(last) = hits.last() else { return ids };
        // A cursor survives the conversion to a string.
        after = Some(last.cursor.to_string().parse().unwrap());
        assert_eq!(after.as_ref(), Some(&last.cursor));
        ids.extend(hits.into_iter().map(|hit| hit.id));
    }
}

#[tokio::test]
async fn documents_come_in_the_order_of_their_members() {
    let store = Store::in_memory();
    for (id, vendor, date) in [("1", "b", 2), ("2", "a", 3), ("3", "b", 1), ("4", "B", 1), ("5", "a", 3)] {
        create(&store, id, json!({ "vendor": vendor, "meta": { "date": date } })).await;
    }
    create(&store, "6", json!({ "vendor": "a" })).await;
    let found = |range: IndexRange, direction| {
        let store = store.clone();
        async move { ids(&store, &FIELDS, &range, direction, 2).await.concat() }
    };
    assert_eq!(found(IndexRange::equal(&[]), Direction::Forward).await, "25314");
    assert_eq!(found(IndexRange::equal(&[]), Direction::Backward).await, "41352");
    assert_eq!(found(IndexRange::equal(&[json!("b")]), Direction::Forward).await, "31");
    assert_eq!(found(IndexRange::equal(&[json!("b"), json!(1.0)]), Direction::Forward).await, "3");
    let from_1 = IndexRange::between(&[json!("b")], Bound::Included(&json!(1)), Bound::Unbounded);
    assert_eq!(found(from_1, Direction::Forward).await, "31");
    let above_1 = IndexRange::between(&[json!("b")], Bound::Excluded(&json!(1)), Bound::Unbounded);
    assert_eq!(found(above_1, Direction::Forward).await, "1");
    let below = IndexRange::between(&[], Bound::Unbounded, Bound::Excluded(&json!("b")));
    assert_eq!(found(below, Direction::Backward).await, "52");
}

#[tokio::test]
async fn an_index_of_ids_is_possible() {
    let store = Store::in_memory();
    create(&store, "b", json!({ "kind": 1 })).await;
    create(&store, "a", json!({ "kind": 1 })).await;
    let found = ids(&store, &["kind", "_id"], &IndexRange::equal(&[json!(1)]), Direction::Backward, 9).await;
    assert_eq!(found, ["b", "a"]);
}

#[tokio::test]
async fn an_index_is_declared_once_and_there_are_only_so_many() {
    let store = Store::in_memory();
    for number in 0..MAX_INDEXES {
        for _ in 0..2 {
            store.ensure_index(&instance(), &doctype(), &[format!("m{number}")]).await.unwrap();
        }
    }
    assert_eq!(store.list_indexes(&instance(), &doctype()).unwrap().len(), MAX_INDEXES);
    let error = store.ensure_index(&instance(), &doctype(), &fields(&["one", "too.many"])).await.unwrap_err();
    insta::assert_snapshot!(error, @"invalid index: the doctype io.cozy.bills already has 16 indexes, which is the maximum; use one of [m0] [m1] [m2] [m3] [m4] [m5] [m6] [m7] [m8] [m9] [m10] [m11] [m12] [m13] [m14] [m15], or delete one");
    store.drop_index(&instance(), &doctype(), &fields(&["m3"])).await.unwrap();
    store.ensure_index(&instance(), &doctype(), &fields(&["one", "too.many"])).await.unwrap();
}

#[tokio::test]
async fn invalid_field_lists_are_rejected() {
    let store = Store::in_memory();
    let nine: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    let long = vec!["m".repeat(321)];
    let mut errors = Vec::new();
    for members in [Vec::new(), nine, fields(&["a..b"]), fields(&[""]), fields(&["a", "a"]), long] {
        errors.push(store.ensure_index(&instance(), &doctype(), &members).await.unwrap_err().to_string());
    }
    insta::assert_snapshot!(errors.join("\n"), @r#"
    invalid index: an index has 1 to 8 fields, but this one has 0
    invalid index: an index has 1 to 8 fields, but this one has 9
    invalid index: "a..b" is not a field path such as `vendor` or `cozyMetadata.createdAt`
    invalid index: "" is not a field path such as `vendor` or `cozyMetadata.createdAt`
    invalid index: the field `a` occurs twice
    invalid index: the names of its fields are 321 bytes long in total, but the limit is 320 bytes
    "#);
    assert!(matches!("no cursor".parse::<IndexCursor>(), Err(Error::Invalid { field: "cursor", .. })));
}

/// Longer than a key: the entries of a run are sorted when they are read.
#[tokio::test]
async fn values_that_begin_the_same_are_in_order() {
    let store = Store::in_memory();
    let text = |number: usize| format!("{}{number:03}", "https://vendor.example/".repeat(20));
    // 7 is coprime to 300, so this is every number once, out of order.
    for number in (0..300).map(|number| number * 7 % 300) {
        create(&store, &format!("{number:03}"), json!({ "url": text(number) })).await;
    }
    create(&store, "first", json!({ "url": "https" })).await;
    create(&store, "last", json!({ "url": "i" })).await;
    let mut expected: Vec<_> = (0..300).map(|number| format!("{number:03}")).collect();
    expected.insert(0, "first".to_owned());
    expected.push("last".to_owned());
    for page in [1, 7, 300, 1_000] {
        assert_eq!(ids(&store, &["url"], &IndexRange::equal(&[]), Direction::Forward, page).await, expected);
    }
    let part = IndexRange::between(&[], Bound::Included(&json!(text(10))), Bound::Excluded(&json!(text(13))));
    assert_eq!(ids(&store, &["url"], &part, Direction::Forward, 2).await, ["010", "011", "012"]);
    assert_eq!(ids(&store, &["url"], &part, Direction::Backward, 2).await, ["012", "011", "010"]);
    assert_eq!(ids(&store, &["url"], &IndexRange::equal(&[json!(text(10))]), Direction::Forward, 2).await, ["010"]);
}

/// Values that no entry stores in full are still found.
#[tokio::test]
async fn enormous_values_and_long_ids_are_found() {
    let store = Store::in_memory();
    let enormous = |end: u64| json!((0..2_000).map(Value::from).chain([json!(end)]).collect::<Vec<_>>());
    let long = |end: &str| format!("{}{end}", "i".repeat(199));
    create(&store, &long("1"), json!({ "v": enormous(1) })).await;
    create(&store, &long("2"), json!({ "v": enormous(2) })).await;
    create(&store, &long("3"), json!({ "v": 1 })).await;
    create(&store, &long("4"), json!({ "v": 1 })).await;
    let mut found = ids(&store, &["v"], &IndexRange::equal(&[enormous(2)]), Direction::Forward, 1).await;
    found.sort();
    assert_eq!(found, [long("1"), long("2")], "equal up to what an entry holds: the reader looks at the document");
    let mut found = ids(&store, &["v"], &IndexRange::equal(&[json!(1)]), Direction::Backward, 1).await;
    found.sort();
    assert_eq!(found, [long("3"), long("4")]);
}

#[tokio::test]
async fn a_dropped_index_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..40 {
        create(&store, &format!("{number:03}"), json!({ "n": number })).await;
    }
    let all = IndexRange::equal(&[]);
    assert_eq!(ids(&store, &["n"], &all, Direction::Forward, 100).await.len(), 40);
    store.drop_index(&instance(), &doctype(), &fields(&["n"])).await.unwrap();
    assert!(store.list_indexes(&instance(), &doctype()).unwrap().is_empty());
    store.drop_index(&instance(), &doctype(), &fields(&["n"])).await.unwrap();
    create(&store, "040", json!({ "n": 40 })).await;
    assert_eq!(ids(&store, &["n"], &all, Direction::Forward, 100).await.len(), 41);
    store.close().await.unwrap();
    assert_no_sled_blobs(folder.path());
}

/// Others write while an index is being built; both sides ensure that nothing is missed.
#[tokio::test(flavor = "multi_thread")]
async fn writers_and_the_builder_do_not_miss_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..500 {
        create(&store, &format!("{number:04}"), json!({ "n": number })).await;
    }
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for number in (0..500).step_by(3) {
                let document = bill(format!("{number:04}"));
                let rev = store.get(&document).unwrap().unwrap().rev;
                let mut changes = Changes::new();
                match number % 2 {
                    0 => changes.put(document, &rev, support::body(json!({ "n": -number }))),
                    _ => changes.delete(document, &rev),
                };
                changes.create(bill(format!("new{number:04}")), support::body(json!({ "n": number * 10 })));
                store.commit(changes).await.unwrap();
            }
        }
    });
    let builders: Vec<_> = (0..3)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.ensure_index(&instance(), &doctype(), &fields(&["n"])).await.unwrap() })
        })
        .collect();
    for builder in builders {
        builder.await.unwrap();
    }
    writer.await.unwrap();
    let mut expected: Vec<(i64, String)> = all(&store).map(|(id, body)| (body["n"].as_i64().unwrap(), id)).collect();
    expected.sort();
    let found = ids(&store, &["n"], &IndexRange::equal(&[]), Direction::Forward, 50).await;
    assert_eq!(found, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    store.close().await.unwrap();
    assert_no_sled_blobs(folder.path());
}

fn all(store: &Store) -> impl Iterator<Item = (String, Map)> + use<> {
    let documents = store.list(&instance(), &doctype(), None, 10_000).unwrap();
    documents.into_iter().map(|document| (document.id, document.body))
}

#[derive(Debug, Clone)]
enum IndexAction {
    /// Creates or replaces.
    Write(u8, Value),
    Delete(u8),
    /// Requests an index, so the following actions maintain it.
    Index(usize),
    Drop(usize),
    Reopen,
}

const INDEXED: [&[&str]; 4] = [&["a"], &["a", "b"], &["b", "_id"], &["c.d", "a"]];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        (-3_i32..3).prop_map(|number| json!(f64::from(number) / 2.0)),
        "[abAB]{0,2}".prop_map(Value::from),
        "[ab]{0,2}".prop_map(|end| Value::from(format!("{}{end}", "same ".repeat(60)))),
        // Large enough for a blob.
        Just(Value::from("x".repeat(9_000))),
        proptest::collection::vec(0_i64..2, 0..3).prop_map(Value::from),
    ]
}

fn body() -> impl Strategy<Value = Value> {
    let member = || proptest::option::of(value());
    (member(), member(), member()).prop_map(|(a, b, d)| {
        let mut body = Map::new();
        body.extend(a.map(|a| ("a".to_owned(), a)));
        body.extend(b.map(|b| ("b".to_owned(), b)));
        body.extend(d.map(|d| ("c".to_owned(), json!({ "d": d }))));
        Value::Object(body)
    })
}

fn index_action() -> impl Strategy<Value = IndexAction> {
    prop_oneof![
        8 => (0_u8..12, body()).prop_map(|(id, body)| IndexAction::Write(id, body)),
        3 => (0_u8..12).prop_map(IndexAction::Delete),
        2 => (0..INDEXED.len()).prop_map(IndexAction::Index),
        1 => (0..INDEXED.len()).prop_map(IndexAction::Drop),
        1 => Just(IndexAction::Reopen),
    ]
}

fn at(id: u8) -> DocRef {
    bill(format!("{id:02}"))
}

async fn apply(store: &Store, act: &IndexAction) {
    let mut changes = Changes::new();
    match act {
        IndexAction::Write(id, body) => match store.get(&at(*id)).unwrap() {
            Some(found) => changes.put(at(*id), &found.rev, support::body(body.clone())),
            None => changes.create(at(*id), support::body(body.clone())),
        },
        IndexAction::Delete(id) => match store.get(&at(*id)).unwrap() {
            Some(found) => changes.delete(at(*id), &found.rev),
            None => return,
        },
        IndexAction::Index(which) => {
            store.ensure_index(&instance(), &doctype(), &fields(INDEXED[*which])).await.unwrap();
            return;
        }
        IndexAction::Drop(which) => {
            return store.drop_index(&instance(), &doctype(), &fields(INDEXED[*which])).await.unwrap();
        }
        IndexAction::Reopen => return,
    };
    store.commit(changes).await.unwrap();
}

/// The expected result of an index scan, computed from every document: each is filtered with [`IndexRange::contains`],
/// and sorted by comparing it with an index range of another document's values.
fn brute_force(store: &Store, of: &[&str], range: &IndexRange) -> Vec<String> {
    let of = fields(of);
    let mut found: Vec<(Vec<Value>, String)> = Vec::new();
    for (id, body) in all(store) {
        let value = |path: &String| match path.split_once('.') {
            _ if path == "_id" => Some(json!(id)),
            Some((first, second)) => body.get(first)?.get(second).cloned(),
            None => body.get(path).cloned(),
        };
        if let (Some(values), true) = (of.iter().map(value).collect(), range.contains(&of, &id, &body)) {
            found.push((values, id));
        }
    }
    let is_below = |one: &[Value], other: &[Value]| {
        let shared = one.iter().zip(other).take_while(|(one, other)| !differ(one, other)).count();
        shared < one.len() && below(&one[shared], &other[shared])
    };
    found.sort_by(|(one, one_id), (other, other_id)| match (is_below(one, other), is_below(other, one)) {
        (true, _) => std::cmp::Ordering::Less,
        (_, true) => std::cmp::Ordering::Greater,
        _ => one_id.cmp(other_id),
    });
    found.into_iter().map(|(_, id)| id).collect()
}

fn differ(one: &Value, other: &Value) -> bool {
    below(one, other) || below(other, one)
}

/// The order of the values above, specified again: null, false, true, numbers, strings (`a` < `A` < `aa`…), arrays.
fn below(one: &Value, other: &Value) -> bool {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(value) => 1 + u8::from(*value),
        Value::Number(_) => 3,
        Value::String(_) => 4,
        _ => 5,
    };
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() < other.as_f64(),
        (Value::String(one), Value::String(other)) => {
            let letters = |text: &str| text.to_lowercase();
            let case = |text: &str| text.chars().map(char::is_uppercase).collect::<Vec<_>>();
            (letters(one), case(one)) < (letters(other), case(other))
        }
        (Value::Array(one), Value::Array(other)) => {
            let numbers = |items: &[Value]| items.iter().map(|item| item.as_i64().unwrap()).collect::<Vec<_>>();
            numbers(one) < numbers(other)
        }
        _ => rank(one) < rank(other),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_index_returns_what_filtering_and_sorting_would(
        acts in proptest::collection::vec(index_action(), 1..40),
        equal in proptest::option::of(value()),
        lower in value(),
        upper in value(),
        page in 1_usize..6,
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut store = open(folder.path());
            for act in &acts {
                if matches!(act, IndexAction::Reopen) {
                    store.close().await.unwrap();
                    store = open(folder.path());
                }
                apply(&store, act).await;
            }
            let first = equal.clone().map(|value| vec![value]).unwrap_or_default();
            for of in INDEXED {
                let mut ranges = vec![IndexRange::equal(&first)];
                if first.len() < of.len() {
                    ranges.push(IndexRange::between(&first, Bound::Included(&lower), Bound::Excluded(&upper)));
                    ranges.push(IndexRange::between(&first, Bound::Excluded(&lower), Bound::Included(&upper)));
                    ranges.push(IndexRange::with_prefix(&first, "same "));
                }
                for range in ranges {
                    let mut expected = brute_force(&store, of, &range);
                    prop_assert_eq!(&ids(&store, of, &range, Direction::Forward, page).await, &expected, "{:?} {:?}", of, range);
                    expected.reverse();
                    prop_assert_eq!(&ids(&store, of, &range, Direction::Backward, page).await, &expected, "{:?} {:?}", of, range);
                }
            }
            assert_clean(&store).await;
            store.close().await.unwrap();
            Ok(())
        })?;
    }
}
