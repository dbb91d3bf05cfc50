use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn bytes(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_value(value, &mut bytes);
    bytes
}

/// Compares two values as documented by CouchDB, value by value, without any encoding.
fn compare(one: &Value, other: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    };
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64().partial_cmp(&other.as_f64()).unwrap(),
        (Value::String(one), Value::String(other)) => COLLATOR.compare(one, other),
        (Value::Array(one), Value::Array(other)) => {
            let items = one.iter().zip(other).map(|(one, other)| compare(one, other));
            items.fold(Ordering::Equal, Ordering::then).then(one.len().cmp(&other.len()))
        }
        (Value::Object(one), Value::Object(other)) => {
            let members = one.iter().zip(other).map(|((name, value), (other_name, other_value))| {
                COLLATOR.compare(name, other_name).then_with(|| compare(value, other_value))
            });
            members.fold(Ordering::Equal, Ordering::then).then(one.len().cmp(&other.len()))
        }
        (one, other) => rank(one).cmp(&rank(other)),
    }
}

/// The example of CouchDB's documentation of views ("Views Collation"), in order.
#[test]
fn values_are_in_couchdbs_order() {
    let values = [
        json!(null),
        json!(false),
        json!(true),
        json!(-5),
        json!(-0.5),
        json!(0),
        json!(1),
        json!(2),
        json!(3.0),
        json!(4),
        json!("a"),
        json!("A"),
        json!("aa"),
        json!("b"),
        json!("B"),
        json!("ba"),
        json!("bb"),
        json!([]),
        json!(["a"]),
        json!(["b"]),
        json!(["b", "c"]),
        json!(["b", "c", "a"]),
        json!(["b", "d"]),
        json!(["b", "d", "e"]),
        json!({}),
        json!({ "a": 1 }),
        json!({ "a": 2 }),
        json!({ "b": 1 }),
        json!({ "b": 2 }),
        json!({ "b": 2, "a": 1 }),
        json!({ "b": 2, "c": 2 }),
    ];
    for pair in values.windows(2) {
        assert!(bytes(&pair[0]) < bytes(&pair[1]), "{} < {}", pair[0], pair[1]);
        assert_eq!(compare(&pair[0], &pair[1]), Ordering::Less, "{} < {}", pair[0], pair[1]);
    }
}

#[test]
fn symbols_come_before_digits_and_digits_before_letters() {
    let texts = ["", "_", "-", "!", "?", "@", "*", "#", "+", "$", "0", "9", "a", "à", "b", "é", "z", "я", "中"];
    for pair in texts.windows(2) {
        assert!(bytes(&json!(pair[0])) < bytes(&json!(pair[1])), "{} < {}", pair[0], pair[1]);
    }
}

#[test]
fn numbers_are_compared_exactly_whatever_their_kind() {
    let numbers = [
        json!(f64::MIN),
        json!(i64::MIN),
        json!(i64::MIN + 1),
        json!(-9_007_199_254_740_993_i64),
        json!(-9_007_199_254_740_992.0),
        json!(-1e-300),
        json!(0),
        json!(5e-324),
        json!(9_007_199_254_740_992.0),
        json!(9_007_199_254_740_993_i64),
        json!(9_007_199_254_740_994.0),
        json!(i64::MAX - 1),
        json!(i64::MAX),
        json!(9_223_372_036_854_775_808.0),
        json!(u64::MAX),
        json!(18_446_744_073_709_551_616.0),
        json!(f64::MAX),
    ];
    for pair in numbers.windows(2) {
        assert!(bytes(&pair[0]) < bytes(&pair[1]), "{} < {}", pair[0], pair[1]);
    }
    for (one, other) in [(json!(1), json!(1.0)), (json!(0), json!(-0.0)), (json!(1e3), json!(1000))] {
        assert_eq!(bytes(&one), bytes(&other));
    }
}

#[test]
fn texts_are_compared_by_their_first_1024_characters() {
    let text = |end: &str| bytes(&json!(format!("{}{end}", "é".repeat(1_023))));
    assert!(text("a") < text("b"));
    assert_eq!(text("ab"), text("ac"));
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[abAB01 _-]{0,6}",
        "[aàéeœßlłıi\u{301}\u{308}\u{b7}\u{ad}\u{200d}ийи\u{306}ñ中ก-ฺเ-๎]{0,5}",
        proptest::string::string_regex("\\PC{0,4}").unwrap(),
        ".{0,4}",
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-4_i64..4).prop_map(Value::from),
        // Floating-point numbers represent these exactly, so the reference is exact.
        (-9_007_199_254_740_992_i64..9_007_199_254_740_992).prop_map(Value::from),
        (-4_i32..4).prop_map(|number| json!(f64::from(number) / 2.0)),
        proptest::num::f64::NORMAL.prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::vec((any_text(), inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn bytes_sort_like_values(one in any_value(), other in any_value()) {
        prop_assert_eq!(bytes(&one).cmp(&bytes(&other)), compare(&one, &other), "{} {}", one, other);
    }

    #[test]
    fn whole_numbers_of_64_bits_sort_exactly(one in any::<i64>(), distance in -3_000_i64..3_000, large in any::<u64>()) {
        let other = one.wrapping_add(distance);
        prop_assert_eq!(bytes(&json!(one)).cmp(&bytes(&json!(other))), one.cmp(&other));
        let other = large.wrapping_add_signed(distance);
        prop_assert_eq!(bytes(&json!(large)).cmp(&bytes(&json!(other))), large.cmp(&other));
    }

    #[test]
    fn bytes_of_one_value_never_begin_with_those_of_another(one in any_value(), other in any_value()) {
        let (one, other) = (bytes(&one), bytes(&other));
        prop_assert!(one == other || !one.starts_with(&other));
    }

    #[test]
    fn a_text_is_among_those_with_its_beginning(beginning in any_text(), rest in any_text()) {
        let mut prefix = Vec::new();
        append_text_prefix(&beginning, &mut prefix);
        prop_assert!(bytes(&json!(format!("{beginning}{rest}"))).starts_with(&prefix), "{:?} {:?}", beginning, rest);
    }
}
