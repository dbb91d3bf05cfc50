use serde_json::{Value, json};

use super::object;
use crate::{Error, Permissions};

fn refusal(rule: Value) -> Error {
    Permissions::from_manifest(&object(json!({ "bills": rule }))).expect_err("a bad rule")
}

#[test]
fn texts() {
    let texts: Vec<_> = [
        json!("io.cozy.bills"),
        json!({}),
        json!({"type": null}),
        json!({"type": 7}),
        json!({"type": "io.cozy.account-types"}),
        json!({"type": "io.cozy.*"}),
        json!({"type": "*"}),
        json!({"type": "io.cozy.bills", "verbs": "GET"}),
        json!({"type": "io.cozy.bills", "verbs": ["GET", 1]}),
        json!({"type": "io.cozy.bills", "verbs": ["FETCH"]}),
        json!({"type": "io.cozy.bills", "values": [["a"]]}),
        json!({"type": "io.cozy.bills", "values": [""]}),
        json!({"type": "io.cozy.bills", "selector": "vendor"}),
        json!({"type": "io.cozy.bills", "selector": ["vendor"]}),
        json!({"type": "http"}),
        json!({"type": "http", "verbs": ["get"], "values": ["https://bank.example"]}),
        json!({"type": "http", "values": ["https://bank.example", "https://*.com"]}),
        json!({"type": "http", "selector": "instance", "values": ["url"]}),
    ]
    .into_iter()
    .map(|rule| refusal(rule).to_string())
    .collect();
    insta::assert_snapshot!(texts.join("\n"), @"");
}

#[test]
fn an_illegal_doctype_can_be_told_from_other_errors() {
    assert!(refusal(json!({"type": "io.cozy.account-types"})).is_doctype());
    assert!(!refusal(json!({"type": 7})).is_doctype());
    assert!(!refusal(json!({"type": "io.cozy.bills", "verbs": ["FETCH"]})).is_doctype());
}
