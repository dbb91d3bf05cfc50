//! Access control: every route without a token, with a foreign token, and with a token for other permissions.

use http::Method;
use http::header::WWW_AUTHENTICATE;
use konnector_platform::principal::Audience;
use serde_json::json;

use crate::openapi;
use crate::support::{Api, TestRequest};

/// Every route that needs a token and a permission, as a request that would succeed with both.
fn routes() -> Vec<(Method, String)> {
    let missing = "0123456789abcdef0123456789abcdef";
    let table = [
        (Method::GET, "/konnectors/"),
        (Method::POST, "/konnectors/new?Source=file:///nowhere"),
        (Method::PUT, "/konnectors/bank"),
        (Method::GET, "/konnectors/bank"),
        (Method::DELETE, "/konnectors/bank"),
        (Method::GET, "/konnectors/bank/icon"),
        (Method::GET, "/konnectors/bank/icon/1.0.0"),
        (Method::POST, "/konnectors/bank/trigger?AccountID=a"),
        (Method::GET, "/jobs/queue/konnector"),
        (Method::POST, "/jobs/queue/konnector"),
        (Method::GET, "/jobs/{id}"),
        (Method::PATCH, "/jobs/{id}"),
        (Method::GET, "/jobs/{id}/log"),
        (Method::GET, "/jobs/{id}/events"),
        (Method::GET, "/jobs/triggers"),
        (Method::GET, "/jobs/triggers?Worker=konnector"),
        (Method::POST, "/jobs/triggers"),
        (Method::GET, "/jobs/triggers/{id}"),
        (Method::GET, "/jobs/triggers/{id}/state"),
        (Method::GET, "/jobs/triggers/{id}/jobs"),
        (Method::PATCH, "/jobs/triggers/{id}"),
        (Method::POST, "/jobs/triggers/{id}/launch"),
        (Method::DELETE, "/jobs/triggers/{id}"),
        (Method::GET, "/data/_all_doctypes"),
        (Method::GET, "/data/io.cozy.bills/one"),
        (Method::GET, "/data/io.cozy.never.seen/one"),
        (Method::POST, "/data/io.cozy.bills/"),
        (Method::PUT, "/data/io.cozy.bills/one"),
        (Method::DELETE, "/data/io.cozy.bills/one?rev=1-0123456789abcdef0123456789abcdef"),
        (Method::GET, "/data/io.cozy.bills/_all_docs"),
        (Method::GET, "/data/io.cozy.bills/_normal_docs"),
        (Method::GET, "/files/io.cozy.files.root-dir"),
        (Method::HEAD, "/files/io.cozy.files.root-dir"),
        (Method::GET, "/files/{id}"),
        (Method::GET, "/files/metadata?Path=/"),
        (Method::GET, "/files/io.cozy.files.root-dir/relationships/contents"),
        (Method::GET, "/files/download/{id}"),
        (Method::GET, "/files/download?Path=/a"),
    ];
    table.into_iter().map(|(method, path)| (method, path.replace("{id}", missing))).collect()
}

fn call(method: &Method, path: &str) -> TestRequest {
    TestRequest::new(method.clone(), path).attributes(json!({
        "type": "@cron", "arguments": "0 0 0 * * 1", "worker": "konnector", "message": { "konnector": "bank" },
    }))
}

/// Operations that any token permits, with the reason.
const ANY_SCOPE: [(&str, &str); 3] = [
    ("get /permissions/self", "it tells what the scope is"),
    ("get /settings/context", "apps look there before they ask for anything"),
    ("get /settings/flags", "as there"),
];

/// Paths whose operations require no token, with the reason.
const NO_TOKEN: [(&str, &str); 11] = [
    ("/livez", "whether the server lives is no secret"),
    ("/readyz", "nor is whether it can work"),
    ("/version", "nor its version"),
    ("/status", "nor what Cozy's oldest client asks first"),
    ("/openapi.json", "nor how it is spoken to"),
    ("/realtime", "the first frame holds the token"),
    ("/jobs/webhooks/", "the id of the trigger is the secret"),
    ("/files/downloads/", "the address is the secret"),
    ("/files/archive/", "the address is the secret"),
    ("/auth/", "here tokens are given out, to who shows a code or a registration of its own"),
    ("/accounts/", "a browser passes here on its way to a vendor and back, with a session code or a state"),
];

/// Returns a request for an operation of the description that would succeed with the required permissions.
fn of_description(operation: &str) -> TestRequest {
    const MISSING: &str = "0123456789abcdef0123456789abcdef";
    let (method, path) = operation.split_once(' ').expect("a method and a path");
    let parts = path.split('/').map(|part| match part {
        "{doctype}" => "io.cozy.bills",
        "{slug}" => "bank",
        "{version}" => "1.0.0",
        "{worker}" => "konnector",
        _ if part.starts_with('{') => MISSING,
        fixed => fixed,
    });
    let query = match (method, path) {
        (_, "/files/metadata" | "/files/download") => "?Path=/",
        (_, "/files/downloads") => "?Id=io.cozy.files.root-dir",
        ("post", "/permissions") => "?codes=a",
        ("post", "/files" | "/files/" | "/files/{id}") => "?Type=file&Name=a",
        ("post", "/konnectors/" | "/konnectors/{slug}") => "?Source=file:///nowhere",
        ("delete", path) if path.starts_with("/data/") => "?rev=1-0123456789abcdef0123456789abcdef",
        _ => "",
    };
    let path = parts.collect::<Vec<_>>().join("/") + query;
    let attributes = json!({ "type": "@cron", "arguments": "0 0 0 * * 1", "worker": "konnector", "message": {},
                             "permissions": { "bills": { "type": "io.cozy.bills" } } });
    let documents = json!([{ "type": "io.cozy.bills", "id": "a" }]);
    let data = json!({ "type": "a", "id": "a", "attributes": attributes });
    let body = json!({
        "docs": [], "keys": [], "selector": {}, "index": { "fields": ["a"] },
        "data": if operation.ends_with("/permissions/exists") { documents } else { data },
    });
    TestRequest::new(method.to_uppercase().parse().expect("a method"), &path).json(&body)
}

#[tokio::test]
async fn each_operation_wants_a_token_of_its_instance_with_the_right() {
    let api = Api::new().await;
    let foreign = api.platform.auth().issue_token(&api.bob, Audience::Cli, "CLI", "*").expect("a token");
    let narrow = api.token("io.cozy.contacts");
    let description = api.send(TestRequest::get("/openapi.json")).await.json();
    let mut wrong = Vec::new();
    for (name, operation) in openapi::operations(&description) {
        let without = api.send(of_description(&name)).await.status;
        let foreign = api.send(of_description(&name).token(&foreign)).await.status;
        let narrow = api.send(of_description(&name).token(&narrow)).await.status;
        let as_described = match operation["security"].is_array() {
            true if ANY_SCOPE.iter().any(|(known, _)| *known == name) => {
                (without, foreign) == (401, 400) && narrow < 400
            }
            true => (without, foreign, narrow) == (401, 400, 403),
            false => {
                NO_TOKEN.iter().any(|(begin, _)| name.split_once(' ').is_some_and(|(_, path)| path.starts_with(begin)))
            }
        };
        if !as_described {
            wrong.push(format!("{name}: {without}, {foreign}, {narrow}"));
        }
    }
    assert!(wrong.is_empty(), "without a token, with a foreign one, with too small a scope:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_right_for_one_verb_is_none_for_another() {
    let api = Api::new().await;
    let types = ["konnectors", "jobs", "triggers", "bills", "never.seen", "files", "doctypes"];
    let other_verbs = |method: &Method| {
        let verbs = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        // Updates need the verb of an installation.
        let needed = if method == Method::HEAD { "GET" } else { method.as_str() };
        let others = verbs.into_iter().filter(|verb| *verb != needed && !(needed == "PUT" && *verb == "POST"));
        others.collect::<Vec<_>>().join(",")
    };
    for (method, path) in routes() {
        let scope: Vec<String> = types.iter().map(|name| format!("io.cozy.{name}:{}", other_verbs(&method))).collect();
        let response = api.send(call(&method, &path).token(&api.token(&scope.join(" ")))).await;
        assert_eq!(response.status, 403, "{method} {path}: {response}");
    }
}

#[tokio::test]
async fn errors_of_access_are_texts_or_json_by_what_the_client_accepts() {
    let api = Api::new().await;
    let narrow = api.token("io.cozy.contacts");
    let forged = format!("{}x", narrow.trim_end_matches(|c: char| c.is_ascii_alphanumeric()));
    let calls = [
        TestRequest::get("/konnectors/"),
        TestRequest::get("/konnectors/").accept("application/vnd.api+json"),
        TestRequest::get("/konnectors/").accept("application/json, text/plain"),
        TestRequest::get("/konnectors/").token(&narrow),
        TestRequest::get("/konnectors/").token(&forged),
        TestRequest::get("/konnectors/").token("garbage").accept("application/json"),
        TestRequest::get("/data/io.cozy.bills/one"),
        TestRequest::get("/data/io.cozy.bills/one").token(&narrow),
        TestRequest::get("/data/io.cozy.bills/one").token("garbage"),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn a_token_is_taken_from_three_places() {
    use base64::Engine as _;
    let api = Api::new().await;
    let token = api.token("io.cozy.konnectors");
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("anyone:{token}"));
    let calls = [
        TestRequest::get("/konnectors/").token(&token),
        TestRequest::get("/konnectors/").header(http::header::AUTHORIZATION, &format!("Basic {basic}")),
        TestRequest::get(&format!("/konnectors/?bearer_token={token}")),
    ];
    for call in calls {
        assert_eq!(api.send(call).await.status, 200);
    }
}

#[tokio::test]
async fn a_token_expires() {
    let api = Api::new().await;
    let token = api.token("*");
    api.clock.set("2026-11-20T12:31:00Z".parse().expect("a date"));
    let response = api.send(TestRequest::get("/konnectors/").token(&token)).await;
    assert_eq!((response.status, response.text()), (400, "Expired token"));
    assert_eq!(
        response.header(WWW_AUTHENTICATE),
        r#"Bearer error="invalid_token" error_description="The access token expired""#
    );
}

#[tokio::test]
async fn an_unknown_host_has_no_instance_and_an_unknown_path_no_route() {
    let api = Api::new().await;
    let calls = [
        TestRequest::get("/konnectors/").host("nobody.example"),
        TestRequest::get("/data/io.cozy.bills/one").host("nobody.example"),
        TestRequest::get("/nothing/here"),
        TestRequest::delete("/jobs/triggers"),
        TestRequest::get("/livez").host("nobody.example"),
        TestRequest::get("/readyz").host("nobody.example"),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn p8_the_bearer_reads_its_own_rules() {
    let api = Api::new().await;
    let calls = [
        TestRequest::get("/permissions/self").token(&api.token("io.cozy.files:GET:a,b io.cozy.contacts")),
        TestRequest::get("/permissions/self").token(&api.token_of(Audience::Konnector, "bank", "")),
        TestRequest::get("/permissions/self").token("garbage"),
        TestRequest::get("/permissions/self"),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn every_answer_is_guarded_against_browsers() {
    let api = Api::new().await;
    for path in ["/livez", "/konnectors/", "/nothing"] {
        let response = api.send(TestRequest::get(path)).await;
        assert_eq!(response.header(http::header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
        assert!(response.header(http::header::CONTENT_SECURITY_POLICY).contains("default-src 'none'"), "{path}");
        assert_eq!(response.header(http::header::CACHE_CONTROL), "no-store", "{path}");
    }
}
