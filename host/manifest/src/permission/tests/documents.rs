use serde_json::{Map, json};

use super::{doctype, object, set};
use crate::{Permissions, Verb};

#[test]
fn nothing_is_allowed_without_a_rule() {
    let none = Permissions::default();
    assert!(!none.allows_any(Verb::Get, &doctype("io.cozy.files")));
    assert!(!none.allows_type(Verb::Get, &doctype("io.cozy.files")));
    assert!(!none.allows_document(Verb::Get, &doctype("io.cozy.files"), "a", &Map::new()));
}

#[test]
fn a_rule_holds_for_its_type_and_verbs() {
    let permissions = set(json!({"bills": {"type": "io.cozy.bills", "verbs": ["GET", "POST"]}}));
    let bills = doctype("io.cozy.bills");
    assert!(permissions.allows_type(Verb::Get, &bills));
    assert!(permissions.allows_document(Verb::Post, &bills, "any", &Map::new()));
    assert!(!permissions.allows_any(Verb::Delete, &bills));
    assert!(!permissions.allows_any(Verb::Get, &doctype("io.cozy.bills.old")));
}

#[test]
fn p3_values_are_ids() {
    let permissions = set(json!({"one": {"type": "io.cozy.contacts", "values": ["id1"]}}));
    let contacts = doctype("io.cozy.contacts");
    assert!(permissions.allows_any(Verb::Get, &contacts));
    assert!(!permissions.allows_type(Verb::Get, &contacts));
    assert!(permissions.allows_document(Verb::Get, &contacts, "id1", &Map::new()));
    assert!(!permissions.allows_document(Verb::Get, &contacts, "id2", &object(json!({"_id": "id1", "id": "id1"}))));
}

#[test]
fn p3_a_selector_compares_a_field() {
    let permissions =
        set(json!({"some": {"type": "io.cozy.contacts", "selector": "foo", "values": ["bar", "7", "true"]}}));
    let contacts = doctype("io.cozy.contacts");
    let allows = |id: &str, body| permissions.allows_document(Verb::Get, &contacts, id, &object(body));
    assert!(!permissions.allows_type(Verb::Get, &contacts));
    for reached in [json!({"foo": "bar"}), json!({"foo": 7}), json!({"foo": true})] {
        assert!(allows("x", reached.clone()), "{reached}");
    }
    for other in [
        json!({}),
        json!({"foo": "Bar"}),
        json!({"foo": null}),
        json!({"foo": ["bar"]}),
        json!({"foo": {"bar": 1}}),
        json!({"nested": {"foo": "bar"}}),
        json!({"foo": 7.5}),
    ] {
        assert!(!allows("bar", other.clone()), "{other}");
    }
}

#[test]
fn the_selector_id_is_the_id() {
    let permissions = set(json!({"one": {"type": "io.cozy.contacts", "selector": "_id", "values": ["id1"]}}));
    assert!(permissions.allows_document(Verb::Get, &doctype("io.cozy.contacts"), "id1", &Map::new()));
    assert!(!permissions.allows_document(
        Verb::Get,
        &doctype("io.cozy.contacts"),
        "id2",
        &object(json!({"_id": "id1"}))
    ));
}

#[test]
fn a_wildcard_reaches_the_types_below() {
    let permissions = set(json!({"banks": {"type": "io.cozy.bank.*", "verbs": ["GET"]}}));
    assert!(permissions.allows_type(Verb::Get, &doctype("io.cozy.bank")));
    assert!(permissions.allows_type(Verb::Get, &doctype("io.cozy.bank.operations")));
    assert!(!permissions.allows_type(Verb::Get, &doctype("io.cozy.banks")));
}

#[test]
fn everything_is_every_verb_on_every_type_and_no_host() {
    let everything = Permissions::everything();
    for verb in Verb::ALL {
        assert!(everything.allows_type(verb, &doctype("org.any.thing")));
    }
    assert!(everything.is_everything());
    assert!(everything.http_rules(&Map::new()).unwrap().is_empty());
    assert!(!set(json!({"files": {"type": "io.cozy.files"}})).is_everything());
}

#[test]
fn p6_a_set_is_written_as_it_was_read() {
    let rules = json!({
        "z-first": {"type": "io.cozy.files", "description": "Saves your bills"},
        "a-second": {"type": "io.cozy.bills", "verbs": ["GET", "POST"], "selector": "vendor", "values": ["Bank101"]},
        "vendor": {"type": "http", "verbs": ["GET", "PROPFIND"], "values": ["https://*.bank101.example"]},
        "server": {"type": "http", "selector": "account", "values": ["url"]},
    });
    let written = set(rules.clone()).to_manifest();
    assert_eq!(serde_json::to_string(&written).unwrap(), rules.to_string());
    let through_serde: Permissions = serde_json::from_value(serde_json::to_value(set(rules.clone())).unwrap()).unwrap();
    assert_eq!(through_serde, set(rules));
}

#[test]
fn rules_with_one_title_are_all_written() {
    let mut rules = set(json!({"files": {"type": "io.cozy.files"}})).rules().to_vec();
    rules.extend(set(json!({"files": {"type": "io.cozy.bills"}})).rules().to_vec());
    let titles: Vec<_> = Permissions::from(rules).to_manifest().keys().cloned().collect();
    assert_eq!(titles, ["files", "files2"]);
}

#[test]
fn denials_name_the_rule_to_add() {
    let permissions = set(json!({
        "bills": {"type": "io.cozy.files", "verbs": ["GET"]},
        "contacts": {"type": "io.cozy.contacts", "values": ["id1"]},
    }));
    let bills = permissions.check_type(Verb::Post, &doctype("io.cozy.accounts")).unwrap_err();
    insta::assert_snapshot!(bills, @r#"the manifest has no rule for POST on io.cozy.accounts; add to "permissions": "accounts": { "type": "io.cozy.accounts", "verbs": ["POST"] }"#);
    let taken = permissions.check_document(Verb::Post, &doctype("io.cozy.bills"), "x", &Map::new()).unwrap_err();
    insta::assert_snapshot!(taken, @r#"the manifest has no rule for POST on io.cozy.bills; add to "permissions": "bills2": { "type": "io.cozy.bills", "verbs": ["POST"] }"#);
    let narrow = permissions.check_type(Verb::Get, &doctype("io.cozy.contacts")).unwrap_err();
    insta::assert_snapshot!(narrow, @r#"the manifest allows GET only on some documents of io.cozy.contacts, but not on the whole type; add to "permissions": "contacts2": { "type": "io.cozy.contacts", "verbs": ["GET"] }"#);
    let other =
        permissions.check_document(Verb::Get, &doctype("io.cozy.contacts"), "a \"b\"", &Map::new()).unwrap_err();
    insta::assert_snapshot!(other, @r#"the manifest has no rule for GET on the document "a \"b\"" of io.cozy.contacts; add to "permissions": "contacts2": { "type": "io.cozy.contacts", "verbs": ["GET"], "values": ["a \"b\""] }"#);
    assert_eq!(permissions.check_type(Verb::Get, &doctype("io.cozy.files")), Ok(()));
    assert_eq!(permissions.check_document(Verb::Put, &doctype("io.cozy.contacts"), "id1", &Map::new()), Ok(()));
}
