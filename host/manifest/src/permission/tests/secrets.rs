use serde_json::{Value, json};
use url::Url;

use super::{object, set};
use crate::{Permissions, RequestPart, SecretScope};

/// Returns whether a request may carry a secret.
fn goes(rules: &Value, secret: &str, method: &str, url: &str) -> bool {
    let fields = object(json!({ "url": "https://cloud.example", "plain": "http://nas.example:5000" }));
    let rules = set(rules.clone()).http_rules(&fields).unwrap();
    rules.check_secret(secret, method, &Url::parse(url).unwrap()).is_ok()
}

#[test]
fn unless_a_rule_says_more_they_go_to_every_host_that_is_spelled_out() {
    let rules = json!({
        "vendor": {"type": "http", "verbs": ["GET", "POST"], "values": ["https://www.bank.example/api", "https://*.cdn.bank.example"]},
        "plain": {"type": "http", "values": ["http://127.0.0.1:8081"]},
        "server": {"type": "http", "selector": "account", "values": ["url", "plain"]},
    });
    for (method, url) in [
        ("POST", "https://www.bank.example/api/login"),
        ("GET", "https://www.bank.example/api"),
        ("PROPFIND", "https://cloud.example/dav"),
        ("POST", "http://127.0.0.1:8081/"),
        ("POST", "http://nas.example:5000/"),
    ] {
        assert!(goes(&rules, "password", method, url), "{method} {url}");
    }
    for (method, url) in [
        ("POST", "http://www.bank.example/api/login"),
        ("POST", "https://www.bank.example/search"),
        ("PUT", "https://www.bank.example/api/login"),
        ("POST", "https://a.cdn.bank.example/"),
        ("POST", "https://elsewhere.example/"),
        ("POST", "http://cloud.example/dav"),
        ("POST", "https://nas.example:5000/"),
        ("POST", "https://me@www.bank.example/api"),
    ] {
        assert!(!goes(&rules, "password", method, url), "{method} {url}");
    }
}

#[test]
fn named_ones_go_where_they_are_named_and_nowhere_else() {
    let rules = json!({
        "login": {"type": "http", "verbs": ["POST"], "values": ["https://login.bank.example/oauth", "https://*.id.bank.example"], "secrets": ["password"]},
        "api": {"type": "http", "values": ["https://api.bank.example"], "secrets": ["token", "pin"]},
        "pages": {"type": "http", "values": ["https://login.bank.example", "https://www.bank.example"]},
    });
    assert!(goes(&rules, "password", "POST", "https://login.bank.example/oauth/token"));
    assert!(goes(&rules, "password", "POST", "https://a.id.bank.example/"));
    assert!(goes(&rules, "pin", "DELETE", "https://api.bank.example/"));
    for (secret, method, url) in [
        ("password", "PUT", "https://login.bank.example/oauth/token"),
        ("password", "POST", "https://login.bank.example/search"),
        ("password", "POST", "https://api.bank.example/"),
        ("token", "POST", "https://login.bank.example/oauth"),
        ("password", "POST", "https://www.bank.example/"),
        ("other", "POST", "https://www.bank.example/"),
        ("Password", "POST", "https://login.bank.example/oauth"),
    ] {
        assert!(!goes(&rules, secret, method, url), "{secret} {method} {url}");
    }
}

#[test]
fn a_denial_says_what_to_add() {
    let rules = set(json!({"cdn": {"type": "http", "values": ["https://*.bank.example"]}}))
        .http_rules(&object(json!({})))
        .unwrap();
    let refusal =
        |url: &str| rules.check_secret("password", "post", &Url::parse(url).unwrap()).unwrap_err().to_string();
    insta::assert_snapshot!(refusal("https://a.bank.example:8443/x?y"), @r#"the manifest does not allow the secret "password" in POST requests to https://a.bank.example:8443; add to the rule for this host: "secrets": ["password"]"#);
}

#[test]
fn the_field_is_checked_and_written_back() {
    let rule = json!({"type": "http", "values": ["https://bank.example"], "secrets": ["password"]});
    assert_eq!(Value::Object(set(json!({"vendor": rule})).to_manifest()), json!({"vendor": rule}));
    let texts: Vec<_> = [
        json!({"type": "http", "values": ["https://bank.example"], "secrets": []}),
        json!({"type": "http", "values": ["https://bank.example"], "secrets": [""]}),
        json!({"type": "http", "values": ["https://bank.example"], "secrets": "password"}),
        json!({"type": "io.cozy.bills", "secrets": ["password"]}),
    ]
    .into_iter()
    .map(|rule| Permissions::from_manifest(&object(json!({ "vendor": rule }))).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(texts.join("\n"), @r#"
    permissions.vendor.secrets: [] is not allowed; name the account's secret fields that go to these hosts, as in ["password"], or leave "secrets" out
    permissions.vendor.secrets: [""] is not allowed; name the account's secret fields that go to these hosts, as in ["password"], or leave "secrets" out
    permissions.vendor.secrets: expected a list or an object, found a string
    permissions.vendor.secrets: ["password"] is not allowed; name secrets only in rules of the type http
    "#);
}

/// Returns whether the user must accept an update from the old rules to the new ones.
fn is_wider(new: Value, old: Value) -> bool {
    !set(new).is_subset_of(&set(old))
}

#[test]
fn secrets_that_reach_more_hosts_are_a_wider_permission() {
    let rule = |values: Value, secrets: Value| match secrets {
        Value::Null => json!({"type": "http", "values": values}),
        secrets => json!({"type": "http", "values": values, "secrets": secrets}),
    };
    let both = json!(["https://a.example", "https://b.example"]);
    let (a, b) = (json!(["https://a.example"]), json!(["https://b.example"]));
    let unnamed = || json!({"vendor": rule(both.clone(), Value::Null)});
    let at_a = || json!({"a": rule(a.clone(), json!(["password"])), "b": rule(b.clone(), Value::Null)});
    assert!(!is_wider(at_a(), unnamed()));
    assert!(is_wider(unnamed(), at_a()));
    assert!(is_wider(json!({"a": rule(both.clone(), json!(["password"]))}), at_a()));
    assert!(is_wider(json!({"a": rule(a.clone(), json!(["password", "pin"]))}), at_a()));
    assert!(!is_wider(
        json!({"a": rule(a.clone(), Value::Null), "b": rule(b, json!(["x"]))}),
        json!({"v": rule(both, json!(["x"]))})
    ));
    // Two rules that name one secret each grant the claim of one rule that names both.
    let split = json!({"one": rule(a.clone(), json!(["password"])), "two": rule(a.clone(), json!(["pin"]))});
    assert!(!is_wider(json!({"a": rule(a, json!(["password", "pin"]))}), split));
    let star = || json!({"cdn": rule(json!(["https://*.bank.example"]), Value::Null)});
    assert!(is_wider(json!({"cdn": rule(json!(["https://www.bank.example"]), Value::Null)}), star()));
    assert!(is_wider(json!({"cdn": rule(json!(["https://*.bank.example"]), json!(["password"]))}), star()));
    let field = |secrets: Value| match secrets {
        Value::Null => json!({"server": {"type": "http", "selector": "account", "values": ["url"]}}),
        secrets => json!({"server": {"type": "http", "selector": "account", "values": ["url"], "secrets": secrets}}),
    };
    assert!(!is_wider(field(json!(["password"])), field(Value::Null)));
    assert!(is_wider(field(Value::Null), field(json!(["password"]))));
}

fn login() -> Value {
    json!({"login": {"type": "http", "verbs": ["GET", "POST"], "values": ["https://www.bank.example", "https://id.bank.example"], "secrets": {
        "password": {"path": "/login", "methods": ["POST"], "fields": ["pwd", "/user/pwd", "header:X-Key"]},
        "pin": {"fields": ["pin"]},
        "token": {},
    }}})
}

#[test]
fn a_binding_is_narrower_than_its_rule() {
    assert!(goes(&login(), "password", "POST", "https://www.bank.example/login"));
    assert!(goes(&login(), "password", "POST", "https://id.bank.example/login/second?q"));
    assert!(goes(&login(), "token", "GET", "https://www.bank.example/api"));
    for (secret, method, url) in [
        ("password", "GET", "https://www.bank.example/login"),
        ("password", "POST", "https://www.bank.example/loginx"),
        ("password", "POST", "https://www.bank.example/search"),
        ("password", "POST", "https://www.bank.example/login/..%2fsearch"),
        ("token", "PUT", "https://www.bank.example/api"),
        ("other", "POST", "https://www.bank.example/login"),
    ] {
        assert!(!goes(&login(), secret, method, url), "{secret} {method} {url}");
    }
}

#[test]
fn fields_name_the_parts_of_a_request() {
    let rules = set(login()).http_rules(&object(json!({}))).unwrap();
    let url = Url::parse("https://www.bank.example/login").unwrap();
    let scope = |secret: &str| rules.check_secret(secret, "POST", &url).unwrap();
    assert_eq!(scope("token"), SecretScope::Anywhere);
    let password = scope("password");
    for part in [
        RequestPart::FormField("pwd"),
        RequestPart::JsonField { pointer: "/user/pwd", key: "pwd" },
        RequestPart::JsonField { pointer: "/0/pwd/1", key: "pwd" },
        RequestPart::Header("x-key"),
    ] {
        assert!(password.allows(part), "{part:?}");
        assert!(scope("token").allows(part));
    }
    for part in [
        RequestPart::FormField("q"),
        RequestPart::FormField("PWD"),
        RequestPart::FormField("/user/pwd"),
        RequestPart::FormField("header:X-Key"),
        RequestPart::JsonField { pointer: "/user/q", key: "q" },
        RequestPart::Header("pwd"),
        RequestPart::Header("authorization"),
    ] {
        assert!(!password.allows(part), "{part:?}");
    }
    // Two rules that each allow a secret in one field together allow it in both.
    let two = json!({
        "a": {"type": "http", "values": ["https://www.bank.example"], "secrets": {"password": {"fields": ["a"]}}},
        "b": {"type": "http", "values": ["https://www.bank.example/login"], "secrets": {"password": {"fields": ["b"]}}},
    });
    let both = set(two).http_rules(&object(json!({}))).unwrap().check_secret("password", "POST", &url).unwrap();
    assert_eq!(both.names(), r#""a", "b""#);
}

#[test]
fn bindings_are_checked_and_written_back() {
    let rules = login();
    assert_eq!(Value::Object(set(rules.clone()).to_manifest()), rules);
    let texts: Vec<_> = [
        json!({"password": {"hosts": ["https://bank.example"]}}),
        json!({"password": {"path": "login"}}),
        json!({"password": {"path": "/a/..%2fb"}}),
        json!({"password": {"path": "/other"}}),
        json!({"password": {"fields": ["header:"]}}),
        json!({"password": {"methods": ["post"]}}),
        json!({"password": ["pwd"]}),
        json!({}),
    ]
    .into_iter()
    .map(|secrets| json!({"type": "http", "values": ["https://bank.example/api"], "secrets": secrets}))
    .map(|rule| Permissions::from_manifest(&object(json!({ "vendor": rule }))).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(texts.join("\n"), @r#"
    permissions.vendor.secrets.password.hosts: "hosts" is not allowed; bind a secret only by path, methods and fields
    permissions.vendor.secrets.password.path: "login" is not allowed; begin the path with one slash, as in "/login"
    permissions.vendor.secrets.password.path: "/a/..%2fb" is not allowed; write a path that does not lead upwards
    permissions.vendor.secrets.password.path: "/other" is not allowed; write a path that one of "values" covers
    permissions.vendor.secrets.password.fields: ["header:"] is not allowed; name the fields that may carry the secret, as in ["pwd"], ["/user/pwd"] or ["header:X-Api-Key"]
    permissions.vendor.secrets.password.methods: "post" is not a valid verb; use HTTP methods in upper case, such as GET, POST or PROPFIND, or ALL alone
    permissions.vendor.secrets.password: expected an object, found a list
    permissions.vendor.secrets: {} is not allowed; name the account's secret fields that go to these hosts, as in ["password"], or leave "secrets" out
    "#);
}

#[test]
fn a_denial_of_a_binding_names_it() {
    let rules = set(login()).http_rules(&object(json!({}))).unwrap();
    let url = Url::parse("https://www.bank.example/search?q").unwrap();
    insta::assert_snapshot!(rules.check_secret("password", "POST", &url).unwrap_err().to_string(), @r#"the manifest binds the secret "password" to other paths or methods than POST https://www.bank.example/search; widen "path" or "methods" of the secret in the rule"#);
}

#[test]
fn bindings_that_carry_more_are_a_wider_permission() {
    let rule = |secrets: Value| json!({"v": {"type": "http", "verbs": ["GET", "POST"], "values": ["https://a.example/x"], "secrets": secrets}});
    let plain = || rule(json!(["password"]));
    let bound = |binding: Value| rule(json!({ "password": binding }));
    let all = || bound(json!({"path": "/x/login", "methods": ["POST"], "fields": ["a", "b"]}));
    for narrower in [
        json!({"path": "/x/login/deep", "methods": ["POST"], "fields": ["a", "b"]}),
        json!({"path": "/x/login", "methods": ["POST"], "fields": ["a"]}),
    ] {
        assert!(!is_wider(bound(narrower.clone()), all()), "{narrower}");
        assert!(is_wider(all(), bound(narrower.clone())), "{narrower}");
    }
    for wider in [
        json!({"methods": ["POST"], "fields": ["a", "b"]}),
        json!({"path": "/x/login", "fields": ["a", "b"]}),
        json!({"path": "/x/login", "methods": ["POST"]}),
        json!({"path": "/x/login", "methods": ["POST"], "fields": ["a", "c"]}),
        json!({"path": "/x/login", "methods": ["POST"], "fields": ["header:a"]}),
        json!({"path": "/x/lo", "methods": ["POST"], "fields": ["a", "b"]}),
    ] {
        assert!(is_wider(bound(wider.clone()), all()), "{wider}");
    }
    assert!(!is_wider(all(), plain()) && is_wider(plain(), all()));
    // The same path, once in the value and once in the binding.
    assert!(!is_wider(bound(json!({"path": "/x"})), plain()) && !is_wider(plain(), bound(json!({"path": "/x"}))));
    let split = json!({
        "one": rule(json!({"password": {"fields": ["a"]}}))["v"],
        "two": rule(json!({"password": {"fields": ["b"]}}))["v"],
    });
    assert!(!is_wider(bound(json!({"fields": ["a", "b"]})), split.clone()));
    assert!(is_wider(bound(json!({"fields": ["a", "c"]})), split));
}
