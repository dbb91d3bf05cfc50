use serde_json::{Value, json};

use super::object;
use crate::{Error, Permissions};

fn refusal(rule: Value) -> Error {
    Permissions::from_manifest(&object(json!({ "bills": rule }))).expect_err("a bad rule")
}

#[test]
fn p1_p6_texts() {
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
    insta::assert_snapshot!(texts.join("\n"), @r#"
    permissions.bills: expected an object, found a string
    permissions.bills.type: this field is required; add "type": "io.cozy.bills"
    permissions.bills.type: this field is required; add "type": "io.cozy.bills"
    permissions.bills.type: expected a string, found a number
    permissions.bills.type: "io.cozy.account-types" is not a doctype that a rule can name: it contains a character other than a-z, 0-9, "_" and "."
    permissions.bills.type: "io.cozy.*" is not a doctype that a rule can name: fewer than three names precede the star; write for example "io.cozy.bank.*"
    permissions.bills.type: "*" is not a doctype that a rule can name: a star alone is not allowed; name each doctype, as in "io.cozy.bills"
    permissions.bills.verbs: expected a list, found a string
    permissions.bills.verbs[1]: expected a string, found a number
    permissions.bills.verbs: "FETCH" is not a valid verb; use GET, POST, PUT, PATCH and DELETE, or ALL alone
    permissions.bills.values[0]: expected a string, found a list
    permissions.bills.values: "" is not allowed; remove the empty value
    permissions.bills.values: this field is required; add the values that the selector compares with
    permissions.bills.selector: expected a string, found a list
    permissions.bills.values: this field is required; add the hosts: "values": ["https://www.bank.example"]
    permissions.bills.verbs: "get" is not a valid verb; use HTTP methods in upper case, such as GET, POST or PROPFIND, or ALL alone
    permissions.bills.values[1]: "https://*.com" is not a host that a rule can name: anyone can own names below com, a public suffix; name each host
    permissions.bills.selector: "instance" is not allowed; use no selector in a rule on hosts other than "account"
    "#);
}

#[test]
fn an_invalid_doctype_can_be_distinguished_from_other_errors() {
    assert!(refusal(json!({"type": "io.cozy.account-types"})).is_doctype());
    assert!(!refusal(json!({"type": 7})).is_doctype());
    assert!(!refusal(json!({"type": "io.cozy.bills", "verbs": ["FETCH"]})).is_doctype());
}
