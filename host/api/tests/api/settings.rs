//! `/settings`.

use serde_json::json;

use crate::support::{Api, TestRequest};

#[tokio::test]
async fn clients_read_what_they_need() {
    let api = Api::new().await;
    let token = api.token("io.cozy.settings:GET");
    let flags = json!({ "some.feature": true, "other.feature": { "list": ["bank"] }, "gone": null });
    api.platform
        .instances()
        .update_feature_flags(&api.alice, flags.as_object().expect("an object"))
        .await
        .expect("changed");
    let calls = ["instance", "context", "flags", "capabilities", "disk-usage"]
        .map(|name| TestRequest::get(&format!("/settings/{name}")).token(&token));
    insta::assert_snapshot!(api.transcript(calls).await);
    for (name, status) in [
        ("instance", 403),
        ("context", 200),
        ("flags", 200),
        ("capabilities", 403),
        ("disk-usage", 403),
        ("clients", 403),
    ] {
        let path = format!("/settings/{name}");
        assert_eq!(api.send(TestRequest::get(&path)).await.status, 401);
        assert_eq!(api.send(TestRequest::get(&path).token(&api.token("io.cozy.files"))).await.status, status, "{name}");
    }
    let narrow = api.token("io.cozy.settings:GET:io.cozy.settings.instance");
    assert_eq!(api.send(TestRequest::get("/settings/instance").token(&narrow)).await.status, 200);
    assert_eq!(api.send(TestRequest::get("/settings/capabilities").token(&narrow)).await.status, 403);
}

#[tokio::test]
async fn the_owner_changes_name_language_and_time_zone() {
    let api = Api::new().await;
    let put = async |attributes| {
        let call = TestRequest::put("/settings/instance").token(&api.token("io.cozy.settings"));
        api.send(call.attributes(attributes)).await
    };
    let changed = put(json!({ "locale": "fr", "tz": "Europe/Paris", "public_name": "Alice" })).await;
    assert_eq!(changed.status, 200, "{changed}");
    let read = api.send(TestRequest::get("/settings/instance").token(&api.token("io.cozy.settings"))).await.json();
    let attributes = &read["data"]["attributes"];
    assert_eq!([&attributes["locale"], &attributes["tz"], &attributes["public_name"]], ["fr", "Europe/Paris", "Alice"]);
    assert_eq!(put(json!({ "tz": "Mars/Base" })).await.status, 422);
    assert_eq!(put(json!({ "locale": 7 })).await.status, 422);
    assert_eq!(put(json!({})).await.json()["data"]["attributes"]["tz"], "Europe/Paris");
    let reader = api.token("io.cozy.settings:GET");
    let rejected = TestRequest::put("/settings/instance").token(&reader).attributes(json!({ "locale": "de" }));
    assert_eq!(api.send(rejected).await.status, 403);
}

#[tokio::test]
async fn an_oauth_client_says_that_it_is_up_to_date() {
    let api = Api::new().await;
    let report = |token: String| api.send(TestRequest::post("/settings/synchronized").token(&token));
    assert_eq!(report(api.client_token("io.cozy.files").await).await.status, 204);
    assert_eq!(report(api.token("*")).await.status, 403);
}
