//! The admin API.

use axum::Router;
use base64::Engine as _;
use http::header::AUTHORIZATION;
use konnector_api::{Passphrase, ServerInfo};
use serde_json::json;

use crate::openapi;
use crate::support::{Answer, Api, Call, send};

struct Admin(Router);

impl Admin {
    fn new(api: &Api) -> Self {
        let info = ServerInfo { version: "1.2.3".to_owned(), public_url: "http://alice.example".to_owned() };
        Self(konnector_api::admin(api.platform.clone(), Passphrase::new("open sesame\n"), info))
    }

    async fn send(&self, call: Call) -> Answer {
        send(self.0.clone(), with(call, "open sesame")).await
    }
}

fn with(call: Call, passphrase: &str) -> Call {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("anyone:{passphrase}"));
    call.host("127.0.0.1:6060").header(AUTHORIZATION, &format!("Basic {basic}"))
}

#[tokio::test]
async fn only_the_passphrase_opens_it_and_only_under_its_own_name() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    for path in ["/status", "/instances", "/instances/count", "/instances/alice.example", "/nothing"] {
        let bare = send(admin.0.clone(), Call::get(path).host("localhost:6060")).await;
        assert_eq!((bare.status, bare.text()), (401, "missing basic auth"), "{path}");
        let wrong = send(admin.0.clone(), with(Call::get(path), "open")).await;
        assert_eq!((wrong.status, wrong.text()), (403, "bad passphrase"), "{path}");
        let rebound = send(admin.0.clone(), with(Call::get(path), "open sesame").host("evil.example:6060")).await;
        assert_eq!(rebound.status, 403, "{path}: {rebound}");
    }
    for host in ["localhost", "127.0.0.1:6060", "[::1]:6060"] {
        let answer = send(admin.0.clone(), with(Call::get("/status"), "open sesame").host(host)).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    assert_eq!(
        admin.send(Call::get("/status")).await.json(),
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
        Call::post(&format!("/instances?{query}")),
        Call::post(&format!("/instances?{query}")),
        Call::post("/instances"),
        Call::post("/instances?Domain=e.example&Timezone=Mars/Base"),
        Call::post("/instances?Domain=e.example&DiskQuota=much"),
        Call::get("/instances/d.example"),
        Call::get("/instances/unknown.example"),
        Call::get("/instances/count"),
        Call::delete("/instances/carol.example:8080"),
        Call::get("/instances/carol.example:8080"),
    ] {
        text.push_str(&admin.send(call).await.to_string());
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_list_of_instances_has_pages() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let first = admin.send(Call::get("/instances?page[limit]=1")).await.json();
    assert_eq!(
        (&first["data"][0]["attributes"]["domain"], &first["meta"]["count"]),
        (&json!("alice.example"), &json!(1))
    );
    let next = first["links"]["next"].as_str().expect("a next page");
    let second = admin.send(Call::get(next)).await.json();
    assert_eq!((&second["data"][0]["attributes"]["domain"], &second["links"]), (&json!("bob.example"), &json!({})));
    assert_eq!(admin.send(Call::get("/instances?page[limit]=no")).await.json()["meta"]["count"], 2);
}

#[tokio::test]
async fn a_token_is_issued_as_a_text() {
    let api = Api::new().await;
    let admin = Admin::new(&api);
    let issue = |query: &str| admin.send(Call::post(&format!("/instances/token?{query}")));
    let token = issue("Domain=alice.example&Audience=cli&Subject=me&Scope=*").await;
    assert_eq!(token.status, 200, "{token}");
    assert_eq!(api.send(Call::get("/konnectors/").token(token.text())).await.status, 200);
    let konnector = issue("Domain=alice.example&Audience=konn&Subject=bank").await;
    let own = api.send(Call::get("/permissions/self").token(konnector.text())).await.json();
    assert_eq!(own["data"]["attributes"]["source_id"], "io.cozy.konnectors/bank");
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
    let description = Admin::new(&api).send(Call::get("/openapi.json")).await.json();
    for (name, operation) in openapi::operations(&description) {
        assert_eq!(operation["security"], json!([{ "token": [] }]), "{name}");
    }
}
