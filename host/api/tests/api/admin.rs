//! The admin API.

use axum::Router;
use base64::Engine as _;
use http::header::AUTHORIZATION;
use konnector_api::{Passphrase, ServerInfo};
use serde_json::json;

use crate::openapi;
use crate::support::{Api, TestRequest, TestResponse, send};

struct Admin(Router);

impl Admin {
    fn new(api: &Api) -> Self {
        let info = ServerInfo { version: "1.2.3".to_owned(), public_url: "http://alice.example".to_owned() };
        Self(konnector_api::admin(api.platform.clone(), Passphrase::new("open sesame\n"), info))
    }

    async fn send(&self, call: TestRequest) -> TestResponse {
        send(self.0.clone(), with(call, "open sesame")).await
    }
}

fn with(call: TestRequest, passphrase: &str) -> TestRequest {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("anyone:{passphrase}"));
    call.host("127.0.0.1:6060").header(AUTHORIZATION, &format!("Basic {basic}"))
}

#[tokio::test]
async fn only_the_passphrase_opens_it_and_only_under_its_own_name() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    for path in ["/status", "/instances", "/instances/count", "/instances/alice.example", "/nothing"] {
        let bare = send(admin.0.clone(), TestRequest::get(path).host("localhost:6060")).await;
        assert_eq!((bare.status, bare.text()), (401, "missing basic auth"), "{path}");
        let wrong = send(admin.0.clone(), with(TestRequest::get(path), "open")).await;
        assert_eq!((wrong.status, wrong.text()), (403, "bad passphrase"), "{path}");
        let rebound =
            send(admin.0.clone(), with(TestRequest::get(path), "open sesame").host("evil.example:6060")).await;
        assert_eq!(rebound.status, 403, "{path}: {rebound}");
    }
    for host in ["localhost", "127.0.0.1:6060", "[::1]:6060"] {
        let response = send(admin.0.clone(), with(TestRequest::get("/status"), "open sesame").host(host)).await;
        assert_eq!(response.status, 200, "{host}");
    }
    assert_eq!(
        admin.send(TestRequest::get("/status")).await.json(),
        json!({ "version": "1.2.3", "public_url": "http://alice.example", "wit": "konnector:host@0.1.0" })
    );
}

#[tokio::test]
async fn instances_are_made_shown_and_removed() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let query = "Domain=Carol.example:8080&Locale=fr&Email=carol@example.com&PublicName=Carol&Timezone=Europe/Paris\
                 &DiskQuota=1000&DomainAliases=c.example,%20d.example";
    let mut text = String::new();
    for call in [
        TestRequest::post(&format!("/instances?{query}")),
        TestRequest::post(&format!("/instances?{query}")),
        TestRequest::post("/instances"),
        TestRequest::post("/instances?Domain=e.example&Timezone=Mars/Base"),
        TestRequest::post("/instances?Domain=e.example&DiskQuota=much"),
        TestRequest::get("/instances/d.example"),
        TestRequest::get("/instances/unknown.example"),
        TestRequest::get("/instances/count"),
        TestRequest::delete("/instances/carol.example:8080"),
        TestRequest::get("/instances/carol.example:8080"),
    ] {
        text.push_str(&admin.send(call).await.to_string());
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn i1_sets_of_features_and_the_organisation_are_echoed() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let query = "Domain=carol.example&feature_sets=a,b&OrgDomain=org.example&OrgID=42";
    insta::assert_snapshot!(admin.send(TestRequest::post(&format!("/instances?{query}"))).await, @r#"
    201 application/vnd.api+json
    {
      "data": {
        "type": "instances",
        "id": "<id>",
        "attributes": {
          "domain": "carol.example",
          "domain_aliases": [],
          "locale": "en",
          "tz": "UTC",
          "context": "default",
          "onboarding_finished": true,
          "org_domain": "org.example",
          "org_id": "42",
          "feature_sets": [
            "a",
            "b"
          ],
          "created_at": "2026-11-20T12:00:00Z",
          "prefix": "<id>"
        },
        "meta": {
          "rev": "1-<id>"
        },
        "links": {
          "self": "/instances/<id>"
        }
      }
    }
    "#);
    let changed = admin.send(TestRequest::patch("/instances/carol.example?feature_sets=c&OrgID=43")).await;
    assert_eq!(changed.status, 200, "{changed}");
    let read = admin.send(TestRequest::get("/instances/carol.example")).await;
    insta::assert_snapshot!(read, @r#"
    200 application/vnd.api+json
    {
      "data": {
        "type": "instances",
        "id": "<id>",
        "attributes": {
          "domain": "carol.example",
          "domain_aliases": [],
          "locale": "en",
          "tz": "UTC",
          "context": "default",
          "onboarding_finished": true,
          "org_domain": "org.example",
          "org_id": "43",
          "feature_sets": [
            "c"
          ],
          "created_at": "2026-11-20T12:00:00Z",
          "prefix": "<id>"
        },
        "meta": {
          "rev": "2-<id>"
        },
        "links": {
          "self": "/instances/<id>"
        }
      }
    }
    "#);
    assert_eq!(changed.json(), read.json());
}

#[tokio::test]
async fn only_the_given_fields_of_an_instance_change() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let patch = async |query: &str| admin.send(TestRequest::patch(&format!("/instances/alice.example?{query}"))).await;
    patch("Email=alice@example.com&DiskQuota=1000&DomainAliases=a.example,b.example").await;
    insta::assert_snapshot!(patch("Locale=fr&Email=&Timezone=Europe/Paris&DomainAliases=b.example,c.example,c.example").await, @r#"
    200 application/vnd.api+json
    {
      "data": {
        "type": "instances",
        "id": "<id>",
        "attributes": {
          "domain": "alice.example",
          "domain_aliases": [
            "b.example",
            "c.example"
          ],
          "locale": "fr",
          "tz": "Europe/Paris",
          "email": "alice@example.com",
          "context": "default",
          "onboarding_finished": true,
          "disk_quota": "1000",
          "created_at": "2026-11-20T12:00:00Z",
          "prefix": "<id>"
        },
        "meta": {
          "rev": "3-<id>"
        },
        "links": {
          "self": "/instances/<id>"
        }
      }
    }
    "#);
    for (alias, status) in [("a", 404), ("b", 200), ("c", 200)] {
        assert_eq!(
            admin.send(TestRequest::get(&format!("/instances/{alias}.example"))).await.status,
            status,
            "{alias}"
        );
    }
    for (query, status) in [
        ("DomainAliases=bob.example", 409),
        ("DomainAliases=no%20name", 422),
        ("Timezone=Mars/Base", 422),
        ("DiskQuota=much", 422),
    ] {
        let rejected = patch(query).await;
        assert_eq!(rejected.status, status, "{query}: {rejected}");
    }
    assert_eq!(admin.send(TestRequest::patch("/instances/nobody.example?Locale=fr")).await.status, 404);
}

#[tokio::test]
async fn switches_of_features_are_set_and_removed() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let flags = "/instances/alice.example/feature/flags";
    let patch = |body| admin.send(TestRequest::patch(flags).json(&body));
    assert_eq!(admin.send(TestRequest::get(flags)).await.json(), json!({}));
    assert_eq!(patch(json!({ "a": true, "b": [1], "c": null })).await.json(), json!({ "a": true, "b": [1] }));
    assert_eq!(patch(json!({ "a": null, "d": { "ratio": 1 } })).await.json(), json!({ "b": [1], "d": { "ratio": 1 } }));
    assert_eq!(admin.send(TestRequest::get(flags)).await.json(), json!({ "b": [1], "d": { "ratio": 1 } }));
    let visible = api.send(TestRequest::get("/settings/flags").token(&api.token("io.cozy.bills"))).await.json();
    assert_eq!(visible["data"]["attributes"], json!({ "b": [1], "d": { "ratio": 1 } }));
    assert_eq!(patch(json!([])).await.status, 400);
    assert_eq!(admin.send(TestRequest::get("/instances/nobody.example/feature/flags")).await.status, 404);
}

#[tokio::test]
async fn a_list_of_instances_has_pages() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let first = admin.send(TestRequest::get("/instances?page[limit]=1")).await.json();
    assert_eq!(
        (&first["data"][0]["attributes"]["domain"], &first["meta"]["count"]),
        (&json!("alice.example"), &json!(1))
    );
    let next = first["links"]["next"].as_str().expect("a next page");
    let second = admin.send(TestRequest::get(next)).await.json();
    assert_eq!(admin.send(TestRequest::get("/instances?page[cursor]=zzz")).await.status, 400);
    assert_eq!((&second["data"][0]["attributes"]["domain"], &second["links"]), (&json!("bob.example"), &json!({})));
    assert_eq!(admin.send(TestRequest::get("/instances?page[limit]=no")).await.json()["meta"]["count"], 2);
}

#[tokio::test]
async fn a_token_is_issued_as_a_text() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let issue = |query: &str| admin.send(TestRequest::post(&format!("/instances/token?{query}")));
    let token = issue("Domain=alice.example&Audience=cli&Subject=me&Scope=*").await;
    assert_eq!(token.status, 200, "{token}");
    assert_eq!(api.send(TestRequest::get("/konnectors/").token(token.text())).await.status, 200);
    let konnector = issue("Domain=alice.example&Audience=konn&Subject=bank").await;
    let permissions = api.send(TestRequest::get("/permissions/self").token(konnector.text())).await.json();
    assert_eq!(permissions["data"]["attributes"]["source_id"], "io.cozy.konnectors/bank");
    for (query, status) in [
        ("Audience=cli&Scope=*", 422),
        ("Domain=nobody.example&Scope=*", 404),
        ("Domain=alice.example&Audience=king&Scope=*", 400),
        ("Domain=alice.example&Scope=", 400),
        ("Domain=alice.example&Scope=io.cozy.bills:FETCH", 400),
    ] {
        assert_eq!(issue(query).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn it_describes_its_routes_to_operators() {
    let api = Api::new().await;
    let description = Admin::new(&api).send(TestRequest::get("/openapi.json")).await.json();
    for (name, operation) in openapi::operations(&description) {
        assert_eq!(operation["security"], json!([{ "token": [] }]), "{name}");
    }
}

#[tokio::test]
async fn account_types_are_set_up_and_their_secrets_never_shown() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let kind = json!({
        "grant_mode": "authorization_code+secret", "client_id": "us", "client_secret": "s3cret", "secret": { "key": "s4cret" },
        "auth_endpoint": "https://provider.example/login", "token_endpoint": "https://provider.example/token",
        "token_mode": "basic", "extras": { "prompt": "consent" },
    });
    let saved = admin.send(TestRequest::put("/account_types/bank").json(&kind)).await;
    insta::assert_snapshot!(saved);
    let stored = api.platform.account_types().get("bank").expect("an account type");
    let stored = format!("{stored:?}");
    for text in [saved.text(), admin.send(TestRequest::get("/account_types")).await.text(), &stored] {
        assert!(!text.contains("s3cret") && !text.contains("s4cret"), "{text}");
    }
    for (path, body, status) in [
        ("/account_types/Bank", kind.clone(), 422),
        ("/account_types/x", json!({}), 400),
        ("/account_types/x", json!({ "grant_mode": "password" }), 400),
        ("/account_types/x", json!({ "grant_mode": "authorization_code" }), 400),
        ("/account_types/x", json!({ "grant_mode": "token", "auth_endpoint": "file:///etc/passwd" }), 400),
        ("/account_types/x", json!({ "grant_mode": "secret" }), 400),
    ] {
        assert_eq!(admin.send(TestRequest::put(path).json(&body)).await.status, status, "{path} {body}");
    }
    assert_eq!(admin.send(TestRequest::delete("/account_types/bank")).await.status, 204);
    assert_eq!(admin.send(TestRequest::get("/account_types/bank")).await.status, 404);
    // Clients have no access to account types.
    assert_eq!(
        api.send(TestRequest::get("/data/io.cozy.account_types/_all_docs").token(&api.token("*"))).await.status,
        403
    );
}

#[tokio::test]
async fn a_session_code_is_good_once() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let created = admin.send(TestRequest::post("/instances/alice.example/session_code")).await;
    assert_eq!(created.status, 201, "{created}");
    let check = || admin.send(TestRequest::post("/instances/alice.example/session_code/check").json(&created.json()));
    let (first, second) = (check().await, check().await);
    assert_eq!((first.status, first.json()), (200, json!({ "valid": true })));
    assert_eq!((second.status, second.json()), (403, json!({ "valid": false })));
    assert_eq!(admin.send(TestRequest::post("/instances/nobody.example/session_code")).await.status, 404);
}

#[tokio::test]
async fn oauth_clients_are_registered_given_tokens_and_removed() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let register = |kind: &str| {
        let query = "Domain=alice.example&RedirectURI=https://a.example/&ClientName=App&SoftwareID=app";
        admin.send(TestRequest::post(&format!("/instances/oauth_client?{query}&ClientKind={kind}")))
    };
    let client = register("mobile").await.json();
    register("desktop").await;
    let id = client["client_id"].as_str().expect("an id");
    assert!(client["client_secret"].is_string() && client["registration_access_token"].is_string(), "{client}");
    let issue = |audience: &str, subject: &str| {
        let query = format!("Domain=alice.example&Audience={audience}&Subject={subject}&Scope=io.cozy.konnectors");
        admin.send(TestRequest::post(&format!("/instances/token?{query}")))
    };
    let token = issue("access-token", id).await.text().to_owned();
    let list = || api.send(TestRequest::get("/konnectors/").token(&token));
    assert_eq!(list().await.status, 200);
    assert_eq!(issue("refresh-token", id).await.status, 200);
    assert_eq!(issue("access-token", "nobody").await.status, 422);
    let remove = |query: &str| admin.send(TestRequest::delete(&format!("/oauth/alice.example/clients{query}")));
    assert_eq!(remove("?Kind=desktop").await.json(), json!({ "count": 1 }));
    assert_eq!(list().await.status, 200);
    assert_eq!(remove("").await.json(), json!({ "count": 1 }));
    assert_eq!((list().await.status, list().await.text()), (400, "Invalid JWT token"));
    assert_eq!(admin.send(TestRequest::delete("/oauth/nobody.example/clients")).await.status, 404);
}
