use konnector_manifest::Manifest;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn manifest(members: &Value) -> Manifest {
    let mut manifest = json!({ "name": "Shop", "version": "1.0.0" });
    manifest.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    Manifest::parse(manifest.to_string().as_bytes()).expect("a manifest")
}

fn info(kind: ComponentKind, reads_secrets: bool) -> ComponentInfo {
    ComponentInfo { kind, imports: Vec::new(), reads_secrets, size: 0 }
}

fn typed(members: &Value, reads_secrets: bool) -> ConsentScope {
    ConsentScope::from_manifest(
        &manifest(members),
        &info(ComponentKind::Typed { version: "0.1.0".to_owned() }, reads_secrets),
    )
}

fn command(members: &Value) -> ConsentScope {
    ConsentScope::from_manifest(&manifest(members), &info(ComponentKind::Command, false))
}

#[test]
fn each_part_of_what_was_accepted_waits_when_it_grows() {
    let old = json!({
        "permissions": {
            "accounts": { "type": "io.cozy.accounts", "verbs": ["GET"] },
            "vendor": { "type": "http", "values": ["https://a.example"], "secrets": ["password"] },
        },
        "fields": { "login": { "type": "text" }, "pin": { "type": "password", "rotates": false } },
    });
    let with = |path: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(path).expect(path) = value;
        new
    };
    let terms = {
        let mut new = old.clone();
        new["terms"] = json!({ "id": "shop", "version": "2" });
        new
    };
    let grown = [
        ("a password is read", typed(&old, true)),
        ("a command reads its account", command(&old)),
        (
            "a new host",
            typed(&with("/permissions/vendor/values", json!(["https://a.example", "https://b.example"])), false),
        ),
        ("another secret for a host", typed(&with("/permissions/vendor/secrets", json!(["password", "pin"])), false)),
        ("a wider verb", typed(&with("/permissions/accounts/verbs", json!(["GET", "PUT"])), false)),
        ("a field in the clear", typed(&with("/fields/pin/type", json!("text")), false)),
        ("a secret that may be replaced", typed(&with("/fields/pin/rotates", json!(true)), false)),
        ("a field that is left out", typed(&with("/fields", json!({ "login": { "type": "text" } })), false)),
        ("terms", typed(&terms, false)),
    ];
    let shown: Vec<String> = grown
        .iter()
        .map(|(what, new)| {
            let growth: Vec<String> =
                new.additions_over(&typed(&old, false)).iter().map(ConsentAddition::to_string).collect();
            format!("{what}: {}", growth.join(" / "))
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    a password is read: it reads the passwords of its accounts instead of only using them
    a command reads its account: it reads the passwords of its accounts instead of only using them
    a new host: it requests additional permissions: ALL on https://a.example https://b.example with password
    another secret for a host: it requests additional permissions: ALL on https://a.example with password pin
    a wider verb: it requests additional permissions: GET PUT on io.cozy.accounts
    a field in the clear: it reads the field 'pin', which was secret before
    a secret that may be replaced: it may replace the secret 'pin' that you entered
    a field that is left out: it may replace the secret 'pin' that you entered
    terms: its terms change: shop 2
    ");
}

#[test]
fn what_was_accepted_before_does_not_wait() {
    let rules = json!({ "permissions": { "bills": { "type": "io.cozy.bills" } } });
    let certified = json!({ "permissions": {
        "bills": { "type": "io.cozy.bills" },
        "copy": { "type": "io.cozy.certified.carbon_copy" },
        "safe": { "type": "io.cozy.certified.electronic_safe", "verbs": ["POST"] },
    } });
    let fields =
        json!({ "permissions": { "bills": { "type": "io.cozy.bills" } }, "fields": { "new": { "type": "text" } } });
    assert_eq!(typed(&certified, false).additions_over(&typed(&rules, false)), []);
    assert_eq!(typed(&fields, false).additions_over(&typed(&rules, false)), []);
    assert_eq!(typed(&rules, false).additions_over(&typed(&rules, true)), [], "reading less");
    assert_eq!(typed(&json!({}), false).additions_over(&typed(&rules, false)), [], "fewer rules");
}

#[test]
fn a_secret_for_less_of_a_host_does_not_wait_and_for_more_of_it_does() {
    let with = |values: Value, secrets: Value| {
        typed(&json!({ "permissions": { "vendor": { "type": "http", "values": values, "secrets": secrets } } }), false)
    };
    let wide = with(
        json!(["https://*.bank.example", "https://bank.example/a"]),
        json!({ "password": { "methods": ["POST", "PUT"], "fields": ["pwd", "header:X-Key"] } }),
    );
    let star = json!(["https://*.bank.example"]);
    for (values, binding) in [
        (star.clone(), json!({ "methods": ["POST", "PUT"], "fields": ["pwd", "header:X-Key"] })),
        (json!(["https://www.bank.example/login"]), json!({ "methods": ["POST"], "fields": ["/user/pwd"] })),
        (star.clone(), json!({ "methods": ["PUT"], "fields": ["header:x-key"] })),
        (star.clone(), json!({ "path": "/login", "methods": ["POST"], "fields": ["pwd"] })),
    ] {
        let narrow = with(values, json!({ "password": binding }));
        assert_eq!(narrow.additions_over(&wide), [], "{binding}");
        assert_ne!(wide.additions_over(&narrow), [], "{binding}");
    }
    for (values, binding) in [
        (star.clone(), json!({ "methods": ["POST"] })),
        (star.clone(), json!({ "fields": ["pwd"] })),
        (star.clone(), json!({ "methods": ["POST"], "fields": ["pin"] })),
        (star, json!({ "path": "/login", "methods": ["PATCH"], "fields": ["pwd"] })),
        (json!(["https://bank.example"]), json!({ "methods": ["POST"], "fields": ["pwd"] })),
    ] {
        assert_ne!(with(values, json!({ "password": binding })).additions_over(&wide), [], "sideways: {binding}");
    }
}

/// Long lists from a manifest do not make a long sentence.
#[test]
fn a_sentence_names_ten_of_many() {
    let rule = |number| (format!("r{number}"), json!({ "type": format!("org.example.n{number}") }));
    let many = json!({ "permissions": (0..5_000).map(rule).collect::<serde_json::Map<_, _>>() });
    let growth = typed(&many, false).additions_over(&typed(&json!({}), false));
    let sentence = growth.first().expect("growth").to_string();
    assert!(sentence.ends_with("and 4990 more") && sentence.len() < 1_000, "{sentence}");
}

fn scopes() -> impl Strategy<Value = ConsentScope> {
    let rule = prop_oneof![
        Just(json!({ "type": "io.cozy.bills" })),
        Just(json!({ "type": "io.cozy.bills", "verbs": ["GET"] })),
        Just(json!({ "type": "io.cozy.accounts", "verbs": ["GET"] })),
        Just(json!({ "type": "http", "values": ["https://a.example"] })),
        Just(json!({ "type": "http", "values": ["https://a.example"], "secrets": ["password"] })),
        Just(
            json!({ "type": "http", "values": ["https://a.example"], "secrets": { "password": { "fields": ["pass"] } } })
        ),
        Just(json!({ "type": "http", "values": ["https://*.a.example", "https://a.example"] })),
        Just(json!({ "type": "io.cozy.certified.carbon_copy" })),
    ];
    let terms = prop::option::of(prop_oneof![Just("1"), Just("2")]);
    let kind = prop_oneof![Just(ComponentKind::Command), Just(ComponentKind::Typed { version: "0.1.0".to_owned() })];
    (prop::collection::vec(rule, 0..4), terms, kind, any::<bool>(), any::<(bool, bool)>()).prop_map(
        |(rules, terms, kind, reveals, (secret, rotates))| {
            let rules: serde_json::Map<_, _> =
                rules.into_iter().enumerate().map(|(number, rule)| (format!("r{number}"), rule)).collect();
            let mut members = json!({
                "permissions": rules,
                "fields": { "pin": { "type": if secret { "password" } else { "text" }, "rotates": rotates } },
            });
            if let Some(version) = terms {
                members["terms"] = json!({ "id": "shop", "version": version });
            }
            ConsentScope::from_manifest(&manifest(&members), &info(kind, reveals))
        },
    )
}

proptest! {
    /// An accepted version needs no consent for itself, and splitting an update into small steps gains nothing, because
    /// an addition that needs consent in one update needs it in two.
    #[test]
    fn consent_cannot_be_split(old in scopes(), between in scopes(), new in scopes()) {
        prop_assert_eq!(old.additions_over(&old), vec![]);
        if between.additions_over(&old).is_empty() && new.additions_over(&between).is_empty() {
            prop_assert_eq!(new.additions_over(&old), vec![]);
        }
    }

    /// Regardless of other changes, a version that reads passwords never replaces one that does not without consent.
    #[test]
    fn passwords_are_never_read_without_consent(old in scopes(), new in scopes()) {
        if new.reads_secrets && !old.reads_secrets {
            prop_assert!(new.additions_over(&old).iter().any(|growth| *growth == ConsentAddition::ReadsSecrets && !growth.is_waivable()));
        }
    }
}
