use proptest::prelude::*;
use serde_json::{Map, Value, json};
use url::Url;

use super::scopes::verbs;
use super::{doctype, object, set};
use crate::{HttpRules, Permissions, RequestPart, Rule, Verb};

fn scope(text: &str) -> Permissions {
    Permissions::from_scope(text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn p4_subsets() {
    for (narrow, wide) in [
        ("io.cozy.files", "io.cozy.bills io.cozy.files"),
        ("io.cozy.files:GET", "io.cozy.files"),
        ("io.cozy.files:GET,POST,PUT,PATCH,DELETE", "io.cozy.files"),
        ("io.cozy.files", "io.cozy.files:GET,POST,PUT,PATCH,DELETE"),
        ("io.cozy.files", "io.cozy.files:GET io.cozy.files:POST,PUT,PATCH,DELETE"),
        ("io.cozy.files:GET:a", "io.cozy.files:GET:a,b"),
        ("io.cozy.files:GET:a,b", "io.cozy.files:GET:a io.cozy.files:GET:b"),
        ("io.cozy.files:GET:a", "io.cozy.files:GET"),
        ("io.cozy.files:GET:a:tag", "io.cozy.files:GET:a,b:tag"),
        ("io.cozy.bank.accounts", "io.cozy.bank.*"),
        ("io.cozy.bank.*:GET:a", "io.cozy.bank.*"),
        ("io.cozy.files", "*"),
        ("*", "*"),
    ] {
        assert!(scope(narrow).is_subset_of(&scope(wide)), "{narrow} ⊆ {wide}");
    }
    for (wide, narrow) in [
        ("io.cozy.files", "io.cozy.bills"),
        ("io.cozy.files", "io.cozy.files:GET"),
        ("io.cozy.files:GET", "io.cozy.files:GET:a"),
        ("io.cozy.files:GET:a,b", "io.cozy.files:GET:a"),
        ("io.cozy.files:GET:a", "io.cozy.files:GET:a:tag"),
        ("io.cozy.files:GET:a:tag", "io.cozy.files:GET:a"),
        ("io.cozy.files:GET:a:tag", "io.cozy.files:GET:a:name"),
        ("io.cozy.bank.*", "io.cozy.bank.accounts"),
        ("io.cozy.bank", "io.cozy.bank.accounts"),
        ("*", "io.cozy.files"),
    ] {
        assert!(!scope(wide).is_subset_of(&scope(narrow)), "{wide} ⊄ {narrow}");
    }
    assert!(Permissions::default().is_subset_of(&Permissions::default()));
}

#[test]
fn the_same_whatever_order_titles_and_descriptions() {
    let one = set(json!({
        "files": {"type": "io.cozy.files", "description": "Saves"},
        "vendor": {"type": "http", "verbs": ["GET", "POST"], "values": ["https://a.example", "b.example"]},
    }));
    let other = set(json!({
        "b": {"type": "http", "verbs": ["POST", "GET"], "values": ["https://b.example:443/", "https://a.example"]},
        "a": {"type": "io.cozy.files", "verbs": ["ALL"]},
    }));
    assert!(one.is_equivalent_to(&other) && other.is_equivalent_to(&one));
    assert!(!one.is_equivalent_to(&set(json!({"files": {"type": "io.cozy.files"}}))));
}

#[test]
fn additions_are_new_and_wider_rules() {
    let old = set(json!({
        "files": {"type": "io.cozy.files", "verbs": ["GET"]},
        "vendor": {"type": "http", "verbs": ["GET"], "values": ["https://*.bank.example"]},
        "server": {"type": "http", "selector": "account", "values": ["url"]},
    }));
    let new = set(json!({
        "renamed": {"type": "io.cozy.files", "verbs": ["GET"], "values": ["a"]},
        "wider": {"type": "io.cozy.files", "verbs": ["GET", "POST"]},
        "new": {"type": "io.cozy.bills"},
        "same host": {"type": "http", "verbs": ["HEAD"], "values": ["https://*.bank.example/api"]},
        // A rule with a star carries no secrets unless it names them; a host that is spelled out does.
        "spelled out": {"type": "http", "verbs": ["HEAD"], "values": ["https://www.bank.example/api"]},
        "apex": {"type": "http", "verbs": ["GET"], "values": ["https://bank.example"]},
        "more methods": {"type": "http", "values": ["https://www.bank.example"]},
        "same field": {"type": "http", "verbs": ["GET"], "selector": "account", "values": ["url"]},
        "other field": {"type": "http", "selector": "account", "values": ["loginUrl"]},
        "field read as host": {"type": "http", "values": ["url"]},
    }));
    let titles: Vec<_> = new.additions(&old).into_iter().map(|rule| rule.title.as_str()).collect();
    assert_eq!(titles, ["wider", "new", "spelled out", "apex", "more methods", "other field", "field read as host"]);
    assert!(new.additions(&new).is_empty());
}

#[test]
fn the_owner_may_grant_hosts() {
    let vendor = set(json!({"vendor": {"type": "http", "values": ["https://bank.example"]}}));
    assert!(vendor.is_subset_of(&Permissions::everything()));
    assert!(!vendor.is_subset_of(&scope("io.cozy.files")));
}

fn small_set() -> impl Strategy<Value = Permissions> {
    let narrowing = prop::sample::select(vec![
        (None, vec![]),
        (None, vec!["1"]),
        (None, vec!["1", "2"]),
        (Some("tag"), vec!["1"]),
        (Some("tag"), vec!["1", "2"]),
    ]);
    let rule = (prop::sample::select(vec!["a.b.c", "a.b.c.d", "a.b.c.*"]), verbs(), narrowing);
    prop::collection::vec(rule, 0..4).prop_map(|rules| {
        let rules: Vec<_> = rules
            .into_iter()
            .map(|(pattern, verbs, (selector, values))| Rule {
                selector: selector.map(str::to_owned),
                values: values.into_iter().map(str::to_owned).collect(),
                ..Rule::for_doctype("rule", pattern.parse::<crate::DoctypePattern>().unwrap(), verbs)
            })
            .collect();
        rules.into()
    })
}

/// Rules on hosts with bound secrets, or without named ones.
fn http_set() -> impl Strategy<Value = Permissions> {
    let methods = || {
        prop::sample::select(vec![json!([]), json!(["GET"]), json!(["HEAD"]), json!(["POST"]), json!(["GET", "POST"])])
    };
    let values = prop::sample::select(vec![
        json!({"values": ["https://a.example"]}),
        json!({"values": ["https://a.example/x"]}),
        json!({"values": ["https://b.a.example", "https://a.example/x/y"]}),
        json!({"values": ["https://*.a.example"]}),
        json!({"selector": "account", "values": ["url"]}),
    ]);
    let path = prop::option::of(prop::sample::select(vec!["/x", "/x/y"]));
    let fields = prop::collection::btree_set(
        prop::sample::select(vec!["pwd", "/user/pwd", "/user/1", "1", "header:Key", "header:key"]),
        0..3,
    );
    let binding = (path, methods(), fields).prop_map(|(path, methods, fields)| {
        let mut binding = json!({ "methods": methods, "fields": fields });
        if let Some(path) = path {
            binding["path"] = json!(path);
        }
        binding
    });
    let secrets = prop::collection::btree_map(prop::sample::select(vec!["password", "pin"]), binding, 0..3);
    let rule =
        (methods(), values, secrets).prop_filter_map("a secret that goes nowhere", |(verbs, values, secrets)| {
            let mut rule = values;
            rule["type"] = json!("http");
            rule["verbs"] = verbs;
            if !secrets.is_empty() {
                rule["secrets"] = json!(secrets);
            }
            Permissions::from_manifest(&object(json!({ "rule": rule }))).ok()?;
            Some(rule)
        });
    prop::collection::vec(rule, 0..3).prop_map(|rules| {
        set(Value::Object(rules.into_iter().enumerate().map(|(number, rule)| (format!("r{number}"), rule)).collect()))
    })
}

/// Lists everything that a run may do on the network: requests, and the parts of requests that may carry each secret.
fn allowed(rules: &HttpRules) -> Vec<(String, &'static str, &'static str, Option<String>)> {
    let parts = [
        RequestPart::FormField("pwd"),
        RequestPart::FormField("other"),
        RequestPart::FormField("1"),
        RequestPart::JsonField { pointer: "/user/pwd", key: "pwd" },
        RequestPart::JsonField { pointer: "/pwd", key: "pwd" },
        RequestPart::JsonField { pointer: "/user/1", key: "1" },
        RequestPart::JsonField { pointer: "/user/1", key: "user" },
        RequestPart::JsonField { pointer: "/1", key: "1" },
        RequestPart::Header("KEY"),
        RequestPart::Header("other"),
    ];
    let mut allowed = Vec::new();
    for host in ["a.example", "b.a.example", "c.a.example", "account.example", "other.example"] {
        for (path, method) in ["/", "/x", "/x/y", "/x/z", "/xy"]
            .iter()
            .flat_map(|path| ["GET", "HEAD", "POST", "REPORT"].map(|method| (*path, method)))
        {
            let url = Url::parse(&format!("https://{host}{path}")).unwrap();
            if rules.check(method, &url).is_ok() {
                allowed.push((url.to_string(), method, "", None));
            }
            for secret in ["password", "pin", "other"] {
                let Ok(scope) = rules.check_secret(secret, method, &url) else { continue };
                let into = parts.iter().filter(|part| scope.allows(**part));
                allowed.extend(into.map(|part| (url.to_string(), method, secret, Some(format!("{part:?}")))));
            }
        }
    }
    allowed
}

proptest! {
    /// An update needs consent exactly if it is wider. A set of rules on hosts is wider than another set exactly if it
    /// allows a request, or a secret in a part of a request, that the other set does not.
    #[test]
    fn rules_on_hosts_are_wider_when_they_allow_more(one in http_set(), other in http_set(), nested in any::<bool>()) {
        // Sets drawn at random are seldom nested.
        let mut one = one;
        if nested {
            one = one.rules().iter().chain(other.rules()).filter(|rule| rule.values.len() == 1).cloned().collect::<Vec<_>>().into();
        }
        let account = object(json!({ "url": "https://account.example" }));
        let (new, old) = (allowed(&one.http_rules(&account).unwrap()), allowed(&other.http_rules(&account).unwrap()));
        let more: Vec<_> = new.iter().filter(|request| !old.contains(request)).collect();
        prop_assert_eq!(one.is_subset_of(&other), more.is_empty(), "{:?}", more);
    }

    /// The guarantee on which updates and grants rely: a subset allows nothing that the other set denies.
    #[test]
    fn a_subset_allows_no_more(one in small_set(), other in small_set(), verb in prop::sample::select(Verb::ALL.to_vec()), id in "[123]", tag in "[123]") {
        // Two sets drawn at random are seldom nested; without its `additions`, one is always within the other.
        let additions = one.additions(&other);
        let one: Permissions = one.rules().iter().filter(|rule| !additions.contains(rule)).cloned().collect::<Vec<_>>().into();
        prop_assert!(one.is_subset_of(&other));
        let body = object(json!({"tag": tag}));
        for doctype in ["a.b.c", "a.b.c.d", "a.b.c.e"].map(doctype) {
            for body in [&body, &Map::new()] {
                let allowed = |set: &Permissions| set.allows_document(verb, &doctype, &id, body);
                prop_assert!(!allowed(&one) || allowed(&other));
            }
            prop_assert!(!one.allows_type(verb, &doctype) || other.allows_type(verb, &doctype));
        }
    }

    /// Delegation is transitive, so a grant from a grant could have been made directly.
    #[test]
    fn a_subset_of_a_subset_is_one(one in small_set(), middle in small_set(), other in small_set()) {
        let within = |set: &Permissions, outer: &Permissions| -> Permissions {
            let additions = set.additions(outer);
            set.rules().iter().filter(|rule| !additions.contains(rule)).cloned().collect::<Vec<_>>().into()
        };
        let middle = within(&middle, &other);
        let one = within(&one, &middle);
        prop_assert!(one.is_subset_of(&middle) && middle.is_subset_of(&other));
        prop_assert!(one.is_subset_of(&other));
    }

    /// A scope allows the same as its set.
    #[test]
    fn a_set_is_the_same_as_its_scope(rules in small_set()) {
        prop_assume!(!rules.rules().is_empty());
        prop_assert!(rules.is_equivalent_to(&Permissions::from_scope(&rules.to_scope()).unwrap()));
    }

    #[test]
    fn a_set_is_the_same_as_itself_shuffled(rules in small_set()) {
        let backwards: Permissions = rules.rules().iter().rev().cloned().collect::<Vec<_>>().into();
        prop_assert!(rules.is_equivalent_to(&backwards));
        prop_assert!(rules.additions(&backwards).is_empty());
    }
}
