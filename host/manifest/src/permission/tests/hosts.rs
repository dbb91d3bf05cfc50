use proptest::prelude::*;
use serde_json::{Map, Value, json};
use url::Url;

use super::{object, set};
use crate::{Error, HttpRules, Permissions};

fn url(text: &str) -> Url {
    Url::parse(text).expect(text)
}

fn vendor() -> HttpRules {
    set(json!({
        "bills": {"type": "io.cozy.bills"},
        "vendor": {"type": "http", "verbs": ["GET"], "values": ["https://www.bank101.example", "https://*.cdn.bank101.example/static"]},
    }))
    .http_rules(&Map::new())
    .unwrap()
}

#[test]
fn methods_and_hosts_are_named() {
    let rules = vendor();
    assert_eq!(rules.check("GET", &url("https://www.bank101.example/login")), Ok(()));
    assert_eq!(rules.check("HEAD", &url("https://www.bank101.example/login")), Ok(()));
    assert_eq!(rules.check("GET", &url("https://a.cdn.bank101.example/static/x.js")), Ok(()));
    for (method, other) in [
        ("POST", "https://www.bank101.example/login"),
        ("OPTIONS", "https://www.bank101.example/login"),
        ("GET", "https://bank101.example/"),
        ("GET", "https://a.cdn.bank101.example/private"),
        ("GET", "https://user@www.bank101.example/"),
        ("GET", "wss://www.bank101.example/"),
    ] {
        assert!(rules.check(method, &url(other)).is_err(), "{method} {other}");
    }
}

#[test]
fn without_a_rule_there_is_no_network() {
    let rules = set(json!({"bills": {"type": "io.cozy.bills"}}))
        .http_rules(&object(json!({"url": "https://x.example"})))
        .unwrap();
    assert!(rules.is_empty());
    assert!(rules.check("GET", &url("https://x.example/")).is_err());
    assert!(HttpRules::default().check("GET", &url("https://x.example/")).is_err());
}

fn server() -> Permissions {
    set(json!({"server": {"type": "http", "verbs": ["PROPFIND"], "selector": "account", "values": ["url"]}}))
}

#[test]
fn a_rule_can_follow_the_account() {
    for written in ["https://cloud.example:8443/remote.php?x", "cloud.example:8443", " https://cloud.example:8443 "] {
        let rules = server().http_rules(&object(json!({"url": written, "other": "https://evil.example"}))).unwrap();
        assert_eq!(rules.check("PROPFIND", &url("https://cloud.example:8443/any/path")), Ok(()), "{written}");
        for other in [
            "https://cloud.example/",
            "http://cloud.example:8443/",
            "https://www.cloud.example:8443/",
            "https://evil.example/",
        ] {
            assert!(rules.check("PROPFIND", &url(other)).is_err(), "{written} {other}");
        }
        assert!(rules.check("GET", &url("https://cloud.example:8443/")).is_err());
    }
    let plain = server().http_rules(&object(json!({"url": "http://192.168.1.4:5000"}))).unwrap();
    assert_eq!(plain.check("PROPFIND", &url("http://192.168.1.4:5000/dav")), Ok(()));
}

#[test]
fn an_empty_field_of_the_account_allows_nothing() {
    for fields in [json!({}), json!({"url": null}), json!({"url": ""}), json!({"url": " "})] {
        assert!(server().http_rules(&object(fields.clone())).unwrap().is_empty(), "{fields}");
    }
}

#[test]
fn a_bad_field_of_the_account_is_named_without_its_value() {
    let texts: Vec<_> = [
        json!(7),
        json!("https://"),
        json!("ftp://cloud.example"),
        json!("https://me:hunter2@cloud.example"),
        json!("https://*.example"),
    ]
    .into_iter()
    .map(|value| server().http_rules(&object(json!({"url": value}))).unwrap_err())
    .inspect(|error| assert!(matches!(error, Error::AccountAddress { field, .. } if field == "url")))
    .map(|error| error.to_string())
    .collect();
    insta::assert_snapshot!(texts.join("\n"), @r#"
    the account's field "url" does not contain a web address such as "https://cloud.example": it is not a string
    the account's field "url" does not contain a web address such as "https://cloud.example": it is not a valid address
    the account's field "url" does not contain a web address such as "https://cloud.example": it must begin with https:// or http://
    the account's field "url" does not contain a web address such as "https://cloud.example": it must not contain a user name or a password
    the account's field "url" does not contain a web address such as "https://cloud.example": it must name one host, without a star
    "#);
}

#[test]
fn denials_name_the_rule_to_add() {
    let denied = |method: &str, address: &str| vendor().check(method, &url(address)).unwrap_err().to_string();
    insta::assert_snapshot!(denied("post", "https://www.bank101.example/login?password=x"), @r#"the manifest has no rule for POST on https://www.bank101.example; add to "permissions": "vendor2": { "type": "http", "verbs": ["POST"], "values": ["https://www.bank101.example"] }"#);
    insta::assert_snapshot!(denied("GET", "http://login.example:8080/a/b"), @r#"the manifest has no rule for GET on http://login.example:8080; add to "permissions": "vendor2": { "type": "http", "verbs": ["GET"], "values": ["http://login.example:8080"] }"#);
    insta::assert_snapshot!(denied("GET", "https://a.cdn.bank101.example/private/x"), @r#"the manifest has no rule for GET on https://a.cdn.bank101.example/private/x; add to "permissions": "vendor2": { "type": "http", "verbs": ["GET"], "values": ["https://a.cdn.bank101.example/private/x"] }"#);
    insta::assert_snapshot!(denied("GET", "https://a.cdn.bank101.example/static/..%2fprivate"), @r#"the manifest has no rule for GET on https://a.cdn.bank101.example; add to "permissions": "vendor2": { "type": "http", "verbs": ["GET"], "values": ["https://a.cdn.bank101.example"] }"#);
    insta::assert_snapshot!(denied("GET", "https://me:secret@www.bank101.example/"), @"the address of www.bank101.example contains a user name or a password; send them in the Authorization header");
    insta::assert_snapshot!(denied("GET", "ftp://www.bank101.example/"), @"konnectors can reach only http and https addresses, not ftp");
    let first = HttpRules::default().check("POST", &url("https://www.bank101.example/")).unwrap_err();
    insta::assert_snapshot!(first, @r#"the manifest has no rule for POST on https://www.bank101.example; add to "permissions": "vendor": { "type": "http", "verbs": ["POST"], "values": ["https://www.bank101.example"] }"#);
    let waiting =
        server().http_rules(&Map::new()).unwrap().check("PROPFIND", &url("https://cloud.example/")).unwrap_err();
    insta::assert_snapshot!(waiting, @r#"the manifest has no rule for PROPFIND on https://cloud.example; add to "permissions": "vendor": { "type": "http", "verbs": ["PROPFIND"], "values": ["https://cloud.example"] } (a rule takes its host from the account's field "url", which is empty)"#);
}

proptest! {
    /// Following the message's advice allows the denied access.
    #[test]
    fn the_proposed_rule_helps(
        method in prop::sample::select(vec!["GET", "POST", "PROPFIND"]),
        address in "https?://(a\\.cdn\\.bank101\\.example|www\\.bank101\\.example|x\\.example|127\\.0\\.0\\.1)(:[1-9][0-9]{1,3})?(/[a-z.%2f;\\\\]{0,6}){0,3}",
    ) {
        let Ok(url) = Url::parse(&address) else { return Ok(()) };
        let base = json!({
            "vendor": {"type": "http", "verbs": ["GET"], "values": ["https://www.bank101.example", "https://*.cdn.bank101.example/static"]},
        });
        let Err(denied) = set(base.clone()).http_rules(&Map::new()).unwrap().check(method, &url) else { return Ok(()) };
        let (_, rule) = denied.message.split_once(r#"add to "permissions": "#).expect("a proposal");
        let mut proposed: Map<String, Value> = serde_json::from_str(&format!("{{{rule}}}")).expect("JSON");
        proposed.extend(object(base));
        prop_assert_eq!(proposed.len(), 2, "the title was taken");
        prop_assert!(set(Value::Object(proposed)).http_rules(&Map::new()).unwrap().check(method, &url).is_ok());
    }
}
