use proptest::prelude::*;
use serde_json::json;

use super::{doctype, set};
use crate::{DoctypePattern, Permissions, Rule, RuleKind, Verb, Verbs};

fn scope(text: &str) -> Permissions {
    Permissions::from_scope(text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn p5_rules_are_read_in_order() {
    let permissions = scope("io.cozy.contacts io.cozy.files:GET:io.cozy.files.music-dir");
    let [contacts, files] = permissions.rules() else { panic!("{permissions:?}") };
    assert_eq!(contacts, &Rule::for_doctype("rule0", doctype("io.cozy.contacts"), Verbs::ALL));
    assert_eq!(files.title, "rule1");
    assert_eq!(files.verbs, Verb::Get.into());
    assert_eq!(files.values, ["io.cozy.files.music-dir"]);

    let permissions = scope("io.cozy.events:GET:mygreatcalendar,othercalendar:calendar-id");
    let [events] = permissions.rules() else { panic!("{permissions:?}") };
    assert_eq!(events.values, ["mygreatcalendar", "othercalendar"]);
    assert_eq!(events.selector.as_deref(), Some("calendar-id"));
}

#[test]
fn p5_is_written_as_short_as_it_can_be() {
    for text in [
        "io.cozy.files",
        "io.cozy.jobs:ALL:sendmail:worker",
        "io.cozy.bank.*:GET,POST",
        "io.cozy.files io.cozy.bills:GET:a,b",
        "*",
    ] {
        assert_eq!(scope(text).to_scope(), text);
    }
    for (long, short) in [
        ("io.cozy.files:ALL", "io.cozy.files"),
        ("io.cozy.files:", "io.cozy.files"),
        (" io.cozy.files  io.cozy.bills ", "io.cozy.files io.cozy.bills"),
        ("io.cozy.files::id", "io.cozy.files:ALL:id"),
        ("io.cozy.files:GET:id:", "io.cozy.files:GET:id"),
        ("io.cozy.files:PUT,GET,PUT", "io.cozy.files:GET,PUT"),
    ] {
        assert_eq!(scope(long).to_scope(), short);
    }
}

#[test]
fn hosts_are_left_out() {
    let permissions = set(json!({
        "vendor": {"type": "http", "values": ["https://bank.example"]},
        "files": {"type": "io.cozy.files"},
    }));
    assert_eq!(permissions.to_scope(), "io.cozy.files");
}

#[test]
fn p5_refusals() {
    let texts: Vec<_> = [
        "",
        " ",
        "a:b:c:d:e",
        "io.cozy.files:FETCH",
        "io.cozy.files:GET:",
        "io.cozy.files:GET:a,,b",
        "io.cozy.*",
        "* io.cozy.files",
        "*:GET",
        "http:GET:x",
        "io.cozy.files:GET:%FF",
        ":GET",
    ]
    .iter()
    .map(|text| Permissions::from_scope(text).expect_err(text).to_string())
    .collect();
    insta::assert_snapshot!(texts.join("\n"), @r#"
    "" is not a valid scope: it names no doctype; write one, as in "io.cozy.files"
    " " is not a valid scope: it names no doctype; write one, as in "io.cozy.files"
    "a:b:c:d:e" is not a valid scope: a rule has at most four parts, type:verbs:values:selector; write a colon inside a value as %3A
    "io.cozy.files:FETCH" is not a valid scope: "FETCH" is not a valid verb; use GET, POST, PUT, PATCH and DELETE, or ALL alone
    "io.cozy.files:GET:" is not a valid scope: a value is empty; leave out the colon or the comma before it
    "io.cozy.files:GET:a,,b" is not a valid scope: a value is empty; leave out the colon or the comma before it
    "io.cozy.*" is not a valid scope: "io.cozy.*" is not a doctype that a rule can name: fewer than three names precede the star; write for example "io.cozy.bank.*"
    "*" is not a valid scope: a star already allows everything; use it without other rules, verbs or values
    "*:GET" is not a valid scope: a star already allows everything; use it without other rules, verbs or values
    "http:GET:x" is not a valid scope: rules on hosts are valid only in manifests
    "io.cozy.files:GET:%FF" is not a valid scope: %FF is not UTF-8
    ":GET" is not a valid scope: "" is not a doctype that a rule can name: a dot in it is not between two names; write for example "io.cozy.bills"
    "#);
}

pub(super) fn verbs() -> impl Strategy<Value = Verbs> {
    prop_oneof![
        1 => Just(Verbs::ALL),
        3 => prop::sample::subsequence(Verb::ALL.to_vec(), 1..=4).prop_map(|verbs| {
            let [first, more @ ..] = verbs.as_slice() else { unreachable!("at least one") };
            Verbs::only(*first, more.iter().copied())
        }),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let value = prop_oneof!["[a-c]", "[a-z:, %*\\t]{1,6}", "\\PC{1,4}"];
    let narrowing =
        prop_oneof![Just((None, Vec::new())), (prop::option::of(value.clone()), prop::collection::vec(value, 1..3)),];
    ("[a-z]\\.[a-z]\\.[a-z](\\.\\*)?", verbs(), narrowing).prop_map(|(pattern, verbs, (selector, values))| Rule {
        title: String::new(),
        kind: RuleKind::Doctype(pattern.parse::<DoctypePattern>().unwrap()),
        verbs,
        selector,
        values,
        secrets: Vec::new(),
        description: None,
    })
}

proptest! {
    #[test]
    fn round_trip(rules in prop::collection::vec(rule(), 1..4)) {
        let written = Permissions::from(rules.clone()).to_scope();
        let read = scope(&written);
        let expected: Vec<_> = rules
            .into_iter()
            .enumerate()
            .map(|(number, rule)| Rule { title: format!("rule{number}"), ..rule })
            .collect();
        prop_assert_eq!(read.rules(), expected.as_slice(), "{}", written);
    }

    #[test]
    fn reading_never_panics(text in any::<String>()) {
        let _ = Permissions::from_scope(&text);
    }
}
