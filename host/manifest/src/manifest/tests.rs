// The samples resemble the manifests of real konnectors.

use serde_json::json;
use url::Url;

use super::*;
use crate::{FieldKind, Source, Verb};

const BANK101: &[u8] = include_bytes!("../../samples/bank101.konnector");
const CARDDAV: &[u8] = include_bytes!("../../samples/carddav.konnector");
const LEGACY_NODE: &[u8] = include_bytes!("../../samples/legacy-node.konnector");
const TRAILING_COMMA: &[u8] = include_bytes!("../../samples/trailing-comma.konnector");

fn parse(bytes: &[u8]) -> Manifest {
    Manifest::parse(bytes).unwrap_or_else(|error| panic!("{error}"))
}

fn object(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).expect("an object")
}

#[test]
fn a_present_day_manifest() {
    let manifest = parse(BANK101);
    assert_eq!(manifest.name, "Bank101");
    assert_eq!(manifest.slug.as_ref().expect("slug"), "bank101");
    assert_eq!(manifest.version, "1.2.0");
    assert_eq!(manifest.component, "konnector.wasm");
    assert_eq!(manifest.frequency, Frequency::Daily);
    assert_eq!(manifest.time_interval, (6, 22));
    assert_eq!(manifest.terms.as_ref().map(|terms| terms.version.as_str()), Some("2"));
    assert_eq!(manifest.identifier_field(), Some("login"));
    assert_eq!(manifest.secret_fields().collect::<Vec<_>>(), ["password"]);
    assert!(manifest.wants_folder() && !manifest.has_folders && !manifest.client_side);
    assert_eq!(manifest.warnings(), <[String; 0]>::default());

    let names: Vec<_> =
        manifest.fields.iter().map(|field| (field.name.as_str(), field.required, field.advanced)).collect();
    assert_eq!(
        names,
        [("login", true, false), ("password", true, false), ("branch", true, false), ("folderPath", false, true)]
    );
    let branch = &manifest.fields[2];
    assert_eq!((branch.options[1].name.as_str(), branch.options[1].value.as_str()), ("South", "2"));
    assert_eq!(branch.default, Some(json!({"name": "North", "value": "1"})));
    assert_eq!((manifest.fields[0].min, manifest.fields[0].max), (Some(3), Some(12)));
    assert_eq!(manifest.fields[3].kind, FieldKind::Folder);

    let bills = "io.cozy.bills".parse().expect("doctype");
    assert!(
        manifest.permissions.allows_type(Verb::Put, &bills) && !manifest.permissions.allows_type(Verb::Delete, &bills)
    );
    let rules = manifest.permissions.http_rules(&Map::new()).expect("hosts");
    assert_eq!(rules.check("POST", &Url::parse("https://www.bank101.example/login").expect("url")), Ok(()));
}

#[test]
fn a_server_that_the_user_names() {
    let manifest = parse(CARDDAV);
    assert_eq!(manifest.component, "build/carddav.wasm");
    assert_eq!(manifest.identifier_field(), Some("user"));
    assert_eq!(manifest.secret_fields().collect::<Vec<_>>(), ["token"]);
    assert_eq!(manifest.time_interval, (0, 5));
    assert_eq!(manifest.default_dir.as_deref(), Some("$administrative/$konnector/$account"));
    assert!(manifest.wants_folder());
    let rules = manifest.permissions.http_rules(&object(json!({"url": "https://dav.example/dav"}))).expect("hosts");
    assert_eq!(rules.check("PROPFIND", &Url::parse("https://dav.example/dav/me").expect("url")), Ok(()));
    assert!(rules.check("PROPFIND", &Url::parse("https://dav.other.example/").expect("url")).is_err());
}

#[test]
fn an_old_manifest_is_read_with_warnings() {
    let manifest = parse(LEGACY_NODE);
    assert_eq!(manifest.slug, None);
    assert_eq!(manifest.version, "1.0");
    assert_eq!(manifest.frequency, Frequency::Weekly);
    assert_eq!(manifest.identifier_field(), None);
    assert_eq!(manifest.fields[0].kind, FieldKind::Other("account".to_owned()));
    assert!(manifest.fields[0].secret, "a type that is unknown may be a misspelt password");
    insta::assert_snapshot!(manifest.warnings().join("\n"), @r#"
    fields.account.type: "account" is unknown, so the value is stored like a password; use text, password, email, dropdown, checkbox, hidden, date, phone or folder
    slug: "Old_One" is not a valid slug; use only a-z, 0-9 and "-"
    version: "1.0" is not a semantic version, so no registry can order it; write one as in "1.0.0"
    frequency: "fortnightly" is unknown and means weekly; use hourly, daily, weekly or monthly
    "#);
}

#[test]
fn what_identifies_something_can_be_seen() {
    let refused = |member: &str| {
        let text = format!(r#"{{ "name": "A", "version": "1.0.0", {member} }}"#);
        Manifest::parse(text.as_bytes()).expect_err(member).to_string()
    };
    let all = [
        r#""slug": "bank\u0000""#,
        r#""icon": "icon\u001b.svg""#,
        r#""fields": { "log\u202ein": {} }"#,
        r#""permissions": { "bil\nls": { "type": "io.cozy.bills" } }"#,
        r#""terms": { "id": "a\u0007", "version": "1" }"#,
    ]
    .map(refused);
    insta::assert_snapshot!(all.join("\n").replace('\u{202e}', "<202e>"), @r#"
    line 1, column 44: slug: "bank\u0000" is not allowed; remove control characters; they are invisible in an identifier
    line 1, column 44: icon: "icon\u001b.svg" is not allowed; remove control characters; they are invisible in an identifier
    line 1, column 46: fields: "log<202e>in" is not allowed; remove control characters; they are invisible in an identifier
    line 1, column 51: permissions: "bil\nls" is not allowed; remove control characters; they are invisible in an identifier
    line 1, column 53: terms.id: "a\u0007" is not allowed; remove control characters; they are invisible in an identifier
    "#);
}

#[test]
fn all_that_was_written_is_kept() {
    for bytes in [BANK101, CARDDAV, LEGACY_NODE] {
        let written: Map<String, Value> = serde_json::from_slice(bytes).expect("JSON");
        let manifest = parse(bytes);
        assert_eq!(serde_json::to_string(manifest.raw()).unwrap(), serde_json::to_string(&written).unwrap());
        assert_eq!(Manifest::from_object(manifest.raw().clone()).expect("the same"), manifest);
    }
}

#[test]
fn json_errors_have_line_and_column() {
    let error = Manifest::parse(TRAILING_COMMA).expect_err("a trailing comma");
    assert!(error.is_syntax());
    assert!(matches!(error, Error::Syntax { line: 6, column: 3, .. }));
    insta::assert_snapshot!(error, @"the manifest is not valid JSON: line 6, column 3: trailing comma");
    for other in ["", "not json", "{\"name\": \"a\nb\"}", "{\"a\": \"\\ud800\"}", "{} {}"] {
        assert!(Manifest::parse(other.as_bytes()).expect_err(other).is_syntax(), "{other:?}");
    }
    assert!(Manifest::parse(b"{\"name\": \"\xff\"}").expect_err("not UTF-8").is_syntax());
}

/// Parses a small manifest with some fields changed; null removes a field.
fn with(changes: Value) -> Result<Manifest, Error> {
    let mut manifest = object(json!({"name": "Bank101", "version": "1.0.0"}));
    manifest.extend(object(changes));
    Manifest::parse(format!("{:#}", Value::Object(manifest)).as_bytes())
}

#[test]
fn error_texts() {
    let texts: Vec<_> = [
        json!({"name": null}),
        json!({"name": " "}),
        json!({"name": 7}),
        json!({"version": null}),
        json!({"version": "../../etc"}),
        json!({"version": ""}),
        json!({"type": "webapp"}),
        json!({"type": ["konnector"]}),
        json!({"slug": 1}),
        json!({"component": "../other.wasm"}),
        json!({"icon": "/etc/passwd"}),
        json!({"clientSide": "yes"}),
        json!({"permissions": []}),
        json!({"permissions": {"files": {"type": "io.cozy.Files"}}}),
        json!({"permissions": {"files": {"verbs": ["GET"]}}}),
        json!({"permissions": {"files": {"type": "io.cozy.files", "verbs": ["READ"]}}}),
        json!({"permissions": {"vendor": {"type": "http", "values": ["*"]}}}),
        json!({"fields": ["login"]}),
        json!({"fields": {"login": "text"}}),
        json!({"fields": {"login": {"type": 1}}}),
        json!({"fields": {"advancedFields": {"folderPath": {"isRequired": "no"}}}}),
        json!({"fields": {"branch": {"type": "dropdown", "options": [{"name": "North"}]}}}),
        json!({"fields": {"branch": {"type": "dropdown", "options": [1]}}}),
        json!({"fields": {"login": {"type": "text", "min": -1}}}),
        json!({"parameters": "x"}),
        json!({"frequency": 7}),
        json!({"time_interval": [22, 5]}),
        json!({"time_interval": [0, 25]}),
        json!({"time_interval": ["0", "5"]}),
        json!({"time_interval": 5}),
        json!({"folders": {"defaultDir": "x"}}),
        json!({"terms": {"id": "t"}}),
        json!({"terms": "v1"}),
    ]
    .into_iter()
    .map(|changes| with(changes.clone()).expect_err(&changes.to_string()).to_string())
    .collect();
    insta::assert_snapshot!(texts.join("\n"), @r#"
    line 2, column 11: name: this field is required; add "name": "My Bank"
    line 2, column 11: name: " " is not allowed; write the name that users know
    line 2, column 11: name: expected a string, found a number
    line 3, column 14: version: this field is required; add "version": "1.0.0"
    line 3, column 14: version: "../../etc" is not allowed; write a semantic version, as in "1.0.0" or "2.1.0-beta.3"
    line 3, column 14: version: "" is not allowed; write a semantic version, as in "1.0.0" or "2.1.0-beta.3"
    line 4, column 11: type: "webapp" is not valid for a konnector; write "type": "konnector"
    line 4, column 11: type: expected a string, found a list
    line 4, column 11: slug: expected a string, found a number
    line 4, column 16: component: "../other.wasm" is not allowed; write a path inside the bundle, as in "assets/icon.svg"
    line 4, column 11: icon: "/etc/passwd" is not allowed; write a path inside the bundle, as in "assets/icon.svg"
    line 4, column 17: clientSide: expected true or false, found a string
    line 4, column 18: permissions: expected an object, found a list
    line 6, column 15: permissions.files.type: "io.cozy.Files" is not a doctype that a rule can name: it contains a character other than a-z, 0-9, "_" and "."
    line 5, column 14: permissions.files.type: this field is required; add "type": "io.cozy.bills"
    line 7, column 16: permissions.files.verbs: "READ" is not a valid verb; use GET, POST, PUT, PATCH and DELETE, or ALL alone
    line 8, column 9: permissions.vendor.values[0]: "*" is not a host that a rule can name: it names no host; write for example "https://www.bank.example"
    line 4, column 13: fields: expected an object, found a list
    line 5, column 14: fields.login: expected an object, found a string
    line 6, column 15: fields.login.type: expected a string, found a number
    line 7, column 23: fields.advancedFields.folderPath.isRequired: expected true or false, found a string
    line 8, column 9: fields.branch.options[0].value: this field is required; add "value": "…"
    line 8, column 9: fields.branch.options[0]: expected an object with name and value, found a number
    line 7, column 14: fields.login.min: expected a whole number of at least 0, found a number
    line 4, column 17: parameters: expected an object, found a string
    line 4, column 16: frequency: expected a string, found a number
    line 4, column 20: time_interval: [22,5] is not allowed; write [start, end] in whole hours with 0 ≤ start < end ≤ 24, as in [0, 5]
    line 4, column 20: time_interval: [0,25] is not allowed; write [start, end] in whole hours with 0 ≤ start < end ≤ 24, as in [0, 5]
    line 4, column 20: time_interval: ["0","5"] is not allowed; write [start, end] in whole hours with 0 ≤ start < end ≤ 24, as in [0, 5]
    line 4, column 20: time_interval: expected a list, found a number
    line 4, column 14: folders: expected a list, found an object
    line 4, column 12: terms.version: this field is required; add "version": "1"
    line 4, column 12: terms: expected an object, found a string
    "#);
    insta::assert_snapshot!(Manifest::parse(b"[]").expect_err("a list"), @"the manifest: expected an object, found a list");
}

#[test]
fn errors_can_be_distinguished() {
    assert!(with(json!({"type": "webapp"})).expect_err("web app").is_web_app());
    assert!(with(json!({"permissions": {"a": {"type": "A"}}})).expect_err("doctype").is_doctype());
    let other = with(json!({"name": 7})).expect_err("name");
    assert!(!other.is_syntax() && !other.is_doctype() && !other.is_web_app());
}

#[test]
fn the_size_is_limited() {
    let manifest = |size: usize| format!(r#"{{"name":"a","version":"1.0.0","x":"{}"}}"#, "x".repeat(size - 37));
    assert_eq!(manifest(1000).len(), 1000);
    assert!(Manifest::parse(manifest(Manifest::MAX_SIZE).as_bytes()).is_ok());
    let error = Manifest::parse(manifest(Manifest::MAX_SIZE + 1).as_bytes()).expect_err("too large");
    insta::assert_snapshot!(error, @"the manifest is 2097153 bytes long, but the limit is 2097152 bytes; move large data into files of the bundle");
}

#[test]
fn of_duplicate_keys_the_last_wins() {
    let text = r#"{"type": "webapp", "name": "a", "version": "1.0.0", "name": "b", "type": "konnector"}"#;
    assert_eq!(parse(text.as_bytes()).name, "b");
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = format!("\u{feff}{}", r#"{"name": "a", "version": "1.0.0"}"#);
    assert_eq!(parse(text.as_bytes()).name, "a");
}

#[test]
fn a_small_manifest_has_defaults() {
    let manifest = with(json!({})).expect("small");
    assert!(manifest.permissions.rules().is_empty() && manifest.fields.is_empty() && !manifest.wants_folder());
    assert_eq!(manifest.frequency, Frequency::Weekly);
    let unknown = with(json!({"type": "service"})).expect("tolerated");
    insta::assert_snapshot!(unknown.warnings().join("\n"), @r#"type: "service" is unknown; write "konnector""#);
}

#[test]
fn the_identifier_is_the_declared_field_else_login_else_email() {
    let identifier =
        |fields: Value| with(json!({ "fields": fields })).expect("fields").identifier_field().map(str::to_owned);
    assert_eq!(
        identifier(json!({"login": {}, "mail": {"type": "email", "identifier": true}})).as_deref(),
        Some("mail")
    );
    assert_eq!(identifier(json!({"login": {}, "key": {"role": "identifier"}})).as_deref(), Some("key"));
    assert_eq!(identifier(json!({"key": {"type": "text", "login": true}})).as_deref(), Some("key"));
    assert_eq!(identifier(json!({"email": {"type": "email"}, "login": {"type": "text"}})).as_deref(), Some("login"));
    assert_eq!(
        identifier(json!({"password": {"type": "password"}, "email": {"type": "email"}})).as_deref(),
        Some("email")
    );
    assert_eq!(identifier(json!({"password": {"type": "password"}})), None);
}

#[test]
fn folder_path_counts_in_both_old_groups() {
    for group in ["advanced_fields", "advancedFields"] {
        let fields = json!({ group: {"folderPath": {"advanced": true}} });
        assert!(with(json!({ "fields": fields })).expect("fields").wants_folder(), "{group}");
    }
}

#[test]
fn a_source_of_a_manifest_is_informative() {
    // Old manifests have `…git@build` here, which is not a valid source but must be accepted.
    let written = parse(LEGACY_NODE).raw().get("source").and_then(Value::as_str).map(str::to_owned).expect("source");
    assert!(matches!(written.parse(), Ok(Source::Http { .. })));
}

#[test]
fn a_secret_that_the_user_typed_is_replaced_only_where_the_field_says_so() {
    let manifest = Manifest::parse(
        br#"{"name": "A", "version": "1", "fields": {
            "pin": {"type": "password"},
            "refresh": {"type": "password", "rotates": true}
        }}"#,
    )
    .unwrap();
    for (name, may) in [("pin", false), ("refresh", true), ("token", true), ("password", false)] {
        assert_eq!(manifest.may_replace_secret(name), may, "{name}");
    }
    let wrong = br#"{"name": "A", "version": "1", "fields": {"pin": {"type": "password", "rotates": "yes"}}}"#;
    insta::assert_snapshot!(Manifest::parse(wrong).unwrap_err().to_string(), @"line 1, column 81: fields.pin.rotates: expected true or false, found a string");
}

/// Editors open the reported line, so it must be the one with the unterminated string, not the one after it.
#[test]
fn a_line_break_in_a_string_is_an_error_of_its_own_line() {
    let position = |text: &str| match Manifest::parse(text.as_bytes()).unwrap_err() {
        Error::Syntax { line, column, .. } => (line, column),
        other => panic!("{other}"),
    };
    assert_eq!(position("{\n  \"name\": \"A\nB\",\n  \"version\": \"1\"\n}"), (2, 13));
    assert_eq!(position("{\"name\": \"\n\"}"), (1, 11));
    assert_eq!(position("\u{feff}{\n\"na\nme\": 1}"), (2, 4));
    // Other errors keep their position.
    assert_eq!(position("{\"name\": \"A\tB\"}"), (1, 12));
    assert_eq!(position("{\n\n\"name\": ,}"), (3, 9));
}

#[test]
fn a_typo_that_changes_what_a_rule_allows_is_a_warning() {
    let warned = |text: &str| parse(text.as_bytes()).warnings().join("\n");
    insta::assert_snapshot!(warned(r#"{ "name": "A", "version": "abc", "permissions": {
        "bills": { "type": "io.cozy.bills", "selectr": "vendor", "values": ["A"] } } }"#), @r#"
    permissions.bills.selectr: this field is unknown and ignored; a rule has type, verbs, selector, values, secrets and description
    version: "abc" is not a semantic version, so no registry can order it; write one as in "1.0.0"
    "#);
}

#[test]
fn semantic_versions() {
    for good in ["0.1.0", "10.20.30", "2.1.0-beta.3", "1.0.0+build.5", "1.0.0-rc.1+5"] {
        assert!(is_semantic_version(good), "{good}");
    }
    for bad in ["abc", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.x", "1.0.0-", "1..0", "1.0.0-a..b", "1.0.0-a_b"] {
        assert!(!is_semantic_version(bad), "{bad}");
    }
}
