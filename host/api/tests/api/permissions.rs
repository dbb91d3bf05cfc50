//! Permission sets and shares (§8.4 of the behaviour reference).

use http::Method;
use konnector_platform::principal::Audience;
use serde_json::{Value, json};

use crate::support::{Api, TestRequest, TestResponse};

const LARGER_SET_ERROR: &str = "Attempt to create a larger permission set";

fn rules(rules: Value) -> Value {
    json!({ "permissions": rules })
}

async fn share(api: &Api, token: &str, query: &str, permissions: Value) -> TestResponse {
    api.send(TestRequest::post(&format!("/permissions{query}")).token(token).attributes(rules(permissions))).await
}

fn photo() -> Value {
    json!({ "photo": { "type": "io.cozy.photos", "verbs": ["GET"], "values": ["one"] } })
}

#[tokio::test]
async fn a_share_code_grants_only_the_rules_of_the_share() {
    let api = Api::new().await;
    let app = api.token_of(Audience::App, "photos", "io.cozy.photos io.cozy.bills:GET");
    for id in ["one", "two"] {
        let put =
            TestRequest::put(&format!("/data/io.cozy.photos/{id}")).token(&api.token("*")).json(&json!({ "id": id }));
        assert_eq!(api.send(put).await.status, 200);
    }
    let created = share(&api, &app, "?codes=bob,jane&ttl=1D", photo()).await;
    assert_eq!(created.status, 200, "{created}");
    let attributes = &created.json()["data"]["attributes"];
    assert_eq!(attributes["type"], "share");
    assert_eq!(attributes["source_id"], "io.cozy.apps/photos");
    assert_eq!(attributes["permissions"], photo());
    assert_eq!(attributes["expires_at"], "2026-11-21T12:00:00Z");
    let code = |set: &str, name: &str| attributes[set][name].as_str().expect("a code").to_owned();
    assert_ne!(code("codes", "bob"), code("codes", "jane"));
    for code in [code("codes", "bob"), code("codes", "jane"), code("shortcodes", "bob")] {
        let status = async |call: TestRequest| api.send(call.token(&code)).await.status;
        assert_eq!(status(TestRequest::get("/data/io.cozy.photos/one")).await, 200);
        assert_eq!(status(TestRequest::get("/data/io.cozy.photos/two")).await, 403);
        assert_eq!(status(TestRequest::get("/data/io.cozy.bills/one")).await, 403);
        assert_eq!(status(TestRequest::put("/data/io.cozy.photos/one").json(&json!({}))).await, 403);
        // The holder of a share can neither share it nor change it.
        assert_eq!(status(TestRequest::post("/permissions?codes=x").attributes(rules(photo()))).await, 403);
        let set = format!("/permissions/{}", created.id());
        assert_eq!(status(TestRequest::patch(&set).attributes(rules(photo()))).await, 403);
        assert_eq!(status(TestRequest::delete(&set)).await, 403);
        let own_set = api.send(TestRequest::get("/permissions/self").token(&code)).await.json();
        assert_eq!(
            (own_set["data"]["id"].as_str(), &own_set["data"]["attributes"]["type"]),
            (Some(&*created.id()), &json!("share"))
        );
    }
    api.clock.set("2026-11-21T12:00:00Z".parse().expect("a date"));
    let expired = api.send(TestRequest::get("/data/io.cozy.photos/one").token(&code("codes", "bob"))).await;
    assert_eq!((expired.status, expired.text()), (400, r#"{"error":"code=400, message=Expired token"}"#));
}

#[tokio::test]
async fn p4_a_share_is_made_of_what_its_maker_has() {
    let api = Api::new().await;
    let narrow = api.token_of(Audience::App, "photos", "io.cozy.photos:GET:one,two io.cozy.contacts:GET:me:owner");
    for (requested, status) in [
        (json!({ "a": { "type": "io.cozy.photos", "verbs": ["GET"], "values": ["one"] } }), 200),
        (json!({ "a": { "type": "io.cozy.photos", "verbs": ["GET"], "values": ["one", "three"] } }), 403),
        (json!({ "a": { "type": "io.cozy.photos", "verbs": ["GET"] } }), 403),
        (json!({ "a": { "type": "io.cozy.photos", "values": ["one"] } }), 403),
        (json!({ "a": { "type": "io.cozy.contacts", "verbs": ["GET"], "values": ["me"], "selector": "owner" } }), 200),
        (json!({ "a": { "type": "io.cozy.contacts", "verbs": ["GET"], "values": ["me"] } }), 403),
        (json!({ "a": { "type": "io.cozy.bills" } }), 403),
        (json!({}), 400),
        (json!({ "a": { "type": "io.cozy.photos", "verbs": ["FETCH"] } }), 400),
        (json!({ "a": { "verbs": ["GET"] } }), 400),
        (json!({ "a": { "type": "IO.COZY.PHOTOS" } }), 403),
        (json!([]), 422),
    ] {
        let response = share(&api, &narrow, "?codes=code", requested.clone()).await;
        assert_eq!(response.status, status, "{requested}: {response}");
        assert!(!response.text().contains("manifest"), "{requested}: {response}");
    }
    let larger = share(&api, &narrow, "?codes=code", json!({ "a": { "type": "io.cozy.bills" } })).await;
    insta::assert_snapshot!(larger, @r#"
    403 text/plain; charset=utf-8
    Attempt to create a larger permission set
    "#);
    assert_eq!(share(&api, &narrow, "?codes=code&ttl=soon", photo()).await.status, 422);
    assert_eq!(share(&api, &narrow, "", photo()).await.status, 400);
    let protected = json!({ "permissions": photo(), "password": "secret" });
    let protected = TestRequest::post("/permissions?codes=code").token(&narrow).attributes(protected);
    assert_eq!(api.send(protected).await.status, 400);
}

#[tokio::test]
async fn rules_are_added_replaced_and_removed_by_title() {
    let api = Api::new().await;
    let app = api.token_of(Audience::App, "harvest", "io.cozy.files io.cozy.bills");
    let patch = async |token: &str, path: &str, attributes: Value| {
        api.send(TestRequest::patch(path).token(token).attributes(attributes)).await
    };
    let konnector = api.token_of(Audience::Konnector, "bank", "");
    let bills = TestRequest::get("/data/io.cozy.bills/_all_docs");
    let folder = json!({ "type": "io.cozy.files", "verbs": ["GET", "PUT"], "values": ["folder"] });
    let added = patch(&app, "/permissions/konnectors/bank", rules(json!({ "saveFolder": folder }))).await;
    assert_eq!(added.status, 200, "{added}");
    assert_eq!(
        added.json()["data"]["attributes"]["permissions"],
        json!({ "bills": { "type": "io.cozy.bills" }, "saveFolder": folder })
    );
    // It takes effect for the next request.
    assert_eq!(api.send(bills.token(&konnector)).await.status, 200);
    let removed = patch(&app, "/permissions/konnectors/bank", rules(json!({ "bills": {}, "unknown": {} }))).await;
    assert_eq!(removed.json()["data"]["attributes"]["permissions"], json!({ "saveFolder": folder }));
    assert_eq!(api.send(TestRequest::get("/data/io.cozy.bills/_all_docs").token(&konnector)).await.status, 403);

    let contacts = json!({ "people": { "type": "io.cozy.contacts" } });
    for (attributes, status, text) in [
        (rules(contacts.clone()), 403, LARGER_SET_ERROR),
        (json!({}), 400, ""),
        (json!({ "permissions": {}, "codes": {} }), 400, ""),
        (json!({ "permissions": { "f": folder }, "codes": { "bob": "" } }), 400, ""),
        (json!({ "codes": { "bob": "" } }), 403, "Permissions can be updated only by its parent"),
        (rules(json!({ "f": { "type": "http", "values": ["https://a.example"] } })), 403, LARGER_SET_ERROR),
    ] {
        let response = patch(&app, "/permissions/konnectors/bank", attributes.clone()).await;
        assert_eq!(response.status, status, "{attributes}: {response}");
        assert!(text.is_empty() || response.text() == text, "{response}");
    }
    let narrow = api.token_of(Audience::App, "other", "io.cozy.contacts");
    // A caller cannot remove permissions that it does not have.
    assert_eq!(patch(&narrow, "/permissions/konnectors/bank", rules(json!({ "saveFolder": {} }))).await.status, 403);
    assert_eq!(patch(&narrow, "/permissions/konnectors/none", rules(contacts.clone())).await.status, 404);
    assert_eq!(patch(&narrow, "/permissions/apps/drive", rules(contacts)).await.status, 404);
}

#[tokio::test]
async fn a_share_is_changed_and_ended_by_who_made_it() {
    let api = Api::new().await;
    let app = api.token_of(Audience::App, "photos", "io.cozy.photos");
    let created = share(&api, &app, "?codes=bob,jane", photo()).await;
    let path = format!("/permissions/{}", created.id());
    let codes = created.json()["data"]["attributes"]["codes"].clone();
    let other = api.token_of(Audience::App, "drive", "io.cozy.photos");
    assert_eq!(api.send(TestRequest::get(&path).token(&other)).await.status, 403);
    assert_eq!(api.send(TestRequest::delete(&path).token(&other)).await.status, 403);
    assert_eq!(api.send(TestRequest::get(&path).token(&app)).await.status, 200);
    assert_eq!(api.send(TestRequest::get(&path).token(&api.token("*"))).await.status, 200);

    let patched = TestRequest::patch(&path).token(&app).attributes(json!({ "codes": { "bob": "", "eve": "" } }));
    let new_codes = api.send(patched).await.json()["data"]["attributes"]["codes"].clone();
    assert_eq!(new_codes["bob"], codes["bob"]);
    assert!(new_codes["eve"].is_string() && new_codes["jane"].is_null(), "{new_codes}");
    let with = async |code: &Value| {
        api.send(TestRequest::get("/permissions/self").token(code.as_str().expect("a code"))).await.status
    };
    assert_eq!([with(&new_codes["eve"]).await, with(&codes["jane"]).await], [200, 400]);

    let end = TestRequest::patch(&path).token(&app).attributes(json!({ "expires_at": "2026-11-20T13:00:00Z" }));
    assert_eq!(api.send(end).await.json()["data"]["attributes"]["expires_at"], "2026-11-20T13:00:00Z");
    let never = TestRequest::patch(&path).token(&app).attributes(json!({ "expires_at": "" }));
    assert_eq!(api.send(never).await.json()["data"]["attributes"]["expires_at"], Value::Null);

    assert_eq!(api.send(TestRequest::delete(&path).token(&app)).await.status, 204);
    assert_eq!(with(&new_codes["bob"]).await, 400);
    assert_eq!(api.send(TestRequest::delete(&path).token(&api.token("*"))).await.status, 404);
}

#[tokio::test]
async fn what_is_shared_can_be_asked() {
    let api = Api::new().await;
    let app = api.token_of(Audience::App, "photos", "io.cozy.photos");
    for verbs in [json!(["GET"]), json!(["PATCH"])] {
        let rule = json!({ "photo": { "type": "io.cozy.photos", "verbs": verbs, "values": ["one"] } });
        assert_eq!(share(&api, &app, "?codes=bob", rule).await.status, 200);
    }
    let documents = json!({ "data": [
        { "type": "io.cozy.photos", "id": "one" }, { "type": "io.cozy.photos", "id": "two" },
    ] });
    let exists = |token: &str| api.send(TestRequest::post("/permissions/exists").token(token).json(&documents));
    let found = exists(&app).await;
    assert_eq!(found.json(), json!({ "data": [{ "type": "io.cozy.photos", "id": "one", "verbs": ["GET", "PATCH"] }] }));
    assert_eq!(exists(&api.token("io.cozy.bills")).await.status, 403);
    let malformed = TestRequest::post("/permissions/exists").token(&app).json(&json!({ "data": [{ "type": 1 }] }));
    assert_eq!(api.send(malformed).await.status, 400);

    let list = async |path: &str| api.send(TestRequest::get(path).token(&app)).await.json();
    let page = list("/permissions/doctype/io.cozy.photos/shared-by-link?page[limit]=1").await;
    assert_eq!(page["meta"]["count"], 1);
    let last = list(page["links"]["next"].as_str().expect("a next page")).await;
    assert_eq!((&last["meta"]["count"], &last["links"]), (&json!(1), &json!({})));
    assert_ne!(page["data"][0]["id"], last["data"][0]["id"]);
    let narrow = api.token("io.cozy.photos:GET:one");
    let rejected =
        api.send(TestRequest::get("/permissions/doctype/io.cozy.photos/shared-by-link").token(&narrow)).await;
    assert_eq!(
        (rejected.status, rejected.text()),
        (403, "You need GET permission on whole type to list its permissions")
    );
}

#[tokio::test]
async fn each_route_wants_a_token() {
    let api = Api::new().await;
    for (method, path) in [
        (Method::POST, "/permissions?codes=a"),
        (Method::GET, "/permissions/self"),
        (Method::POST, "/permissions/exists"),
        (Method::GET, "/permissions/x"),
        (Method::PATCH, "/permissions/x"),
        (Method::DELETE, "/permissions/x"),
        (Method::PATCH, "/permissions/apps/x"),
        (Method::PATCH, "/permissions/konnectors/x"),
        (Method::GET, "/permissions/doctype/io.cozy.files/shared-by-link"),
    ] {
        let call = TestRequest::new(method.clone(), path).attributes(rules(photo()));
        assert_eq!(api.send(call).await.status, 401, "{method} {path}");
    }
}

/// The whole set is read for every request.
#[tokio::test]
async fn sets_and_shares_have_bounds() {
    let api = Api::new().await;
    let token = api.token("*");
    let rules = |count: usize| -> Value {
        let rules = (0..count)
            .map(|number| (format!("r{number}"), json!({ "type": format!("io.cozy.t{number}"), "verbs": ["GET"] })));
        Value::Object(rules.collect())
    };
    let share = async |codes: &str, rules: Value| {
        let call = TestRequest::post(&format!("/permissions?codes={codes}")).token(&token);
        api.send(call.attributes(json!({ "permissions": rules }))).await
    };
    let full = share("a", rules(200)).await;
    assert_eq!(full.status, 200, "{full}");
    let rejected = share("a", rules(201)).await;
    assert_eq!(rejected.status, 400);
    assert!(rejected.summary().contains("permissions: there are 201 rules; a set has at most 200"), "{rejected}");
    let values: Vec<String> = (0..2_001).map(|number| number.to_string()).collect();
    assert_eq!(share("a", json!({ "one": { "type": "io.cozy.bills", "values": values } })).await.status, 400);
    assert_eq!(share(&"n".repeat(201), rules(1)).await.status, 400);
    let path = format!("/permissions/{}", full.id());
    let patch =
        async |attributes: Value| api.send(TestRequest::patch(&path).token(&token).attributes(attributes)).await.status;
    assert_eq!(patch(json!({ "permissions": { "more": { "type": "io.cozy.more" } } })).await, 400);
    let codes: serde_json::Map<String, Value> = (0..101).map(|number| (format!("c{number}"), json!(""))).collect();
    assert_eq!(patch(json!({ "codes": codes })).await, 400);
    assert_eq!(patch(json!({ "permissions": { "r0": {} } })).await, 200, "a rule may go");
    assert_eq!(patch(json!({ "permissions": { "more": { "type": "io.cozy.more" } } })).await, 200);
}
