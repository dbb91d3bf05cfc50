//! Konnectors in maintenance.

use konnector_api::{Passphrase, ServerInfo};
use serde_json::{Value, json};

use crate::support::{Api, TestRequest, TestResponse, object, send};

async fn admin(api: &Api, call: TestRequest) -> TestResponse {
    use base64::Engine as _;
    let info = ServerInfo { version: "0".to_owned(), public_url: "http://localhost".to_owned() };
    let router = konnector_api::admin(api.platform.clone(), Passphrase::new("pass"), info);
    let basic = base64::engine::general_purpose::STANDARD.encode(":pass");
    send(router, call.host("localhost").header(http::header::AUTHORIZATION, &format!("Basic {basic}"))).await
}

#[tokio::test]
async fn an_operator_begins_lists_and_ends_maintenances() {
    let api = Api::new().await;
    let options = json!({ "flag_short_maintenance": true, "messages": { "en": { "short_message": "soon" } } });
    let begin = TestRequest::put("/konnectors/maintenance/bank").attributes(options);
    assert_eq!(admin(&api, begin).await.status, 204);
    let list = admin(&api, TestRequest::get("/konnectors/maintenance")).await.json();
    let attributes = json!({
        "slug": "bank", "type": "konnector", "maintenance_activated": true, "level": "stack", "maintenance_options": {
            "flag_short_maintenance": true, "messages": { "en": { "short_message": "soon" } }, "flag_infra_maintenance": true,
        },
        "installed": true,
    });
    let resource = json!({ "type": "io.cozy.konnectors.maintenance", "id": "bank", "attributes": attributes, "meta": {}, "links": {} });
    assert_eq!(list, json!({ "data": [resource], "links": {}, "meta": { "count": 1 } }));
    assert_eq!(admin(&api, TestRequest::put("/konnectors/maintenance/bank").attributes(json!({}))).await.status, 204);
    let list = admin(&api, TestRequest::get("/konnectors/maintenance?Context=default")).await.json();
    assert_eq!(list["data"][0]["attributes"]["maintenance_options"], json!({ "flag_infra_maintenance": true }));
    assert_eq!(admin(&api, TestRequest::put("/konnectors/maintenance/anew").attributes(json!({}))).await.status, 204);
    let list = admin(&api, TestRequest::get("/konnectors/maintenance")).await.json();
    assert_eq!((&list["data"][0]["id"], &list["data"][0]["attributes"]["installed"]), (&json!("anew"), &json!(false)));
    assert_eq!(admin(&api, TestRequest::delete("/konnectors/maintenance/anew")).await.status, 204);
    assert_eq!(admin(&api, TestRequest::delete("/konnectors/maintenance/bank")).await.status, 204);
    assert_eq!(admin(&api, TestRequest::delete("/konnectors/maintenance/bank")).await.status, 404);
    assert_eq!(admin(&api, TestRequest::get("/konnectors/maintenance")).await.json()["data"], json!([]));
    assert_eq!(admin(&api, TestRequest::put("/konnectors/maintenance/Bank").attributes(json!({}))).await.status, 422);
}

#[tokio::test]
async fn no_schedule_starts_a_konnector_in_maintenance_and_a_person_may() {
    let api = Api::new().await;
    let token = api.token("*");
    let message = json!({ "konnector": "bank" });
    let trigger = |kind: &str, arguments: &str| {
        let new = json!({ "type": kind, "arguments": arguments, "worker": "konnector", "message": message });
        api.send(TestRequest::post("/jobs/triggers").token(&token).attributes(new))
    };
    let webhook = trigger("@webhook", "").await.id();
    let slug = "bank".parse().expect("a slug");
    let begin = async |options: Value| {
        api.platform.konnectors().begin_maintenance(&slug, object(options)).await.expect("begun")
    };
    let launch = || api.send(TestRequest::post(&format!("/jobs/triggers/{webhook}/launch")).token(&token));
    let push = |manual: bool| {
        let job = json!({ "arguments": message, "manual": manual });
        api.send(TestRequest::post("/jobs/queue/konnector").token(&token).attributes(job))
    };
    let live = async || {
        api.send(TestRequest::get("/jobs/queue/konnector").token(&token)).await.json()["meta"]["count"].clone()
    };
    begin(json!({})).await;
    assert_eq!(api.send(TestRequest::post(&format!("/jobs/webhooks/{webhook}"))).await.status, 204);
    assert_eq!(live().await, 0, "the call of the webhook waits for nothing and starts nothing");
    assert_eq!((push(false).await.status, push(true).await.status, launch().await.status), (503, 202, 201));
    assert_eq!(live().await, 2);
    begin(json!({ "flag_disallow_manual_exec": true })).await;
    assert_eq!((push(true).await.status, launch().await.status), (503, 503));
    api.platform.konnectors().end_maintenance(&slug).await.expect("ended");
    assert_eq!(api.send(TestRequest::post(&format!("/jobs/webhooks/{webhook}"))).await.status, 204);
    assert_eq!(live().await, 3);
}

#[tokio::test]
async fn x8_an_instance_runs_all_the_same_what_its_switch_names() {
    let api = Api::new().await;
    api.platform
        .konnectors()
        .begin_maintenance(&"bank".parse().expect("a slug"), object(json!({})))
        .await
        .expect("begun");
    let push = async || {
        let job = json!({ "arguments": { "konnector": "bank" } });
        api.send(TestRequest::post("/jobs/queue/konnector").token(&api.token("*")).attributes(job)).await.status
    };
    let switch = async |list: Value| {
        let flags = object(json!({ "harvest.skip-maintenance-for": list }));
        api.platform.instances().update_feature_flags(&api.alice, &flags).await.expect("changed");
    };
    assert_eq!(push().await, 503);
    switch(json!({ "list": ["other"] })).await;
    assert_eq!(push().await, 503);
    switch(json!({ "list": ["other", "bank"] })).await;
    assert_eq!(push().await, 202);
}
