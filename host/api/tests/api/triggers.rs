//! `/jobs/triggers`.

use konnector_platform::token::Audience;
use serde_json::{Value, json};

use crate::support::{Api, Call};

fn cron(slug: &str) -> Value {
    json!({ "type": "@cron", "arguments": "0 0 0 * * 0", "worker": "konnector", "message": { "konnector": slug } })
}

async fn create(api: &Api, attributes: Value) -> String {
    let answer = api.send(Call::post("/jobs/triggers").token(&api.token("*")).attributes(attributes)).await;
    assert_eq!(answer.status, 201, "{answer}");
    answer.id()
}

/// J7, J8, J11, J15, J16.
#[tokio::test]
async fn triggers_are_created_and_wrong_ones_refused() {
    let api = Api::new().await;
    let token = api.token("io.cozy.triggers io.cozy.jobs");
    let post = |attributes: Value| {
        let mut all = cron("bank");
        let (all_members, own) = (all.as_object_mut().expect("an object"), attributes.as_object().expect("an object"));
        all_members.extend(own.clone());
        Call::post("/jobs/triggers").token(&token).attributes(all)
    };
    let calls = [
        post(json!({ "type": "@at", "arguments": "2026-12-01T08:00:00Z" })),
        post(json!({ "options": { "timeout": 42_000_000_000_u64, "max_exec_count": 1 } })),
        post(json!({ "type": "@at", "arguments": "garbage" })),
        post(json!({ "type": "@in", "arguments": "garbage" })),
        post(json!({ "type": "@cron", "arguments": "0 0 0 * * 7" })),
        post(json!({ "type": "@foo" })),
        post(json!({ "type": 1 })),
        post(json!({ "worker": "none" })),
        post(json!({ "debounce": "soon" })),
        Call::get("/jobs/triggers/0123456789abcdef0123456789abcdef").token(&token),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

/// J9, J11, J16.
#[tokio::test]
async fn a_trigger_is_changed_launched_and_deleted() {
    let api = Api::new().await;
    let token = api.token("io.cozy.triggers io.cozy.jobs");
    let id = create(&api, cron("bank")).await;
    let at = create(&api, json!({ "type": "@at", "arguments": "2027-01-01T00:00:00Z", "worker": "konnector" })).await;
    let path = format!("/jobs/triggers/{id}");
    let patch = |path: &str, attributes| api.send(Call::patch(path).token(&token).attributes(attributes));
    assert_eq!(patch(&path, json!({ "arguments": "0 0 0 * * 1" })).await.status, 200);
    let message = json!({ "konnector": "bank", "folder_to_save": "123" });
    assert_eq!(patch(&path, json!({ "message": message })).await.status, 200);
    assert_eq!(patch(&path, json!({})).await.status, 400);
    assert_eq!(patch(&path, json!({ "arguments": "bad cron", "message": {} })).await.status, 400);
    let refused = patch(&format!("/jobs/triggers/{at}"), json!({ "arguments": "2028-01-01T00:00:00Z" })).await;
    assert_eq!(
        (refused.status, &refused.json()["errors"][0]["source"]),
        (422, &json!({ "pointer": "/data/attributes/Type" }))
    );

    let shown = api.send(Call::get(&path).token(&token)).await.json();
    let attributes = &shown["data"]["attributes"];
    assert_eq!((&attributes["arguments"], &attributes["message"]), (&json!("0 0 0 * * 1"), &message));
    assert_eq!(attributes["current_state"]["status"], "done");

    let job = api.send(Call::post(&format!("{path}/launch")).token(&token)).await;
    assert_eq!((job.status, &job.json()["data"]["attributes"]["manual_execution"]), (201, &json!(true)));
    let jobs = api.send(Call::get(&format!("{path}/jobs?Limit=1")).token(&token)).await.json();
    assert_eq!((jobs["data"][0]["id"].as_str(), &jobs["meta"]["count"]), (Some(job.id().as_str()), &json!(1)));
    assert_eq!(api.send(Call::get(&format!("{path}/jobs?Limit=many")).token(&token)).await.status, 400);
    insta::assert_snapshot!(api.transcript([Call::get(&format!("{path}/state")).token(&token)]).await);

    assert_eq!(api.send(Call::delete(&path).token(&token)).await.status, 204);
    assert_eq!(api.send(Call::get(&path).token(&token)).await.status, 404);
}

#[tokio::test]
async fn a_list_is_filtered_and_a_narrow_right_reads_one_worker() {
    let api = Api::new().await;
    create(&api, cron("bank")).await;
    create(&api, json!({ "type": "@every", "arguments": "1h", "worker": "konnector" })).await;
    let narrow = api.token("io.cozy.triggers:GET:konnector:worker");
    let list = async |query: &str| {
        let answer = api.send(Call::get(&format!("/jobs/triggers?{query}")).token(&narrow)).await;
        (answer.status == 200).then(|| answer.json()["meta"]["count"].clone())
    };
    assert_eq!(list("Worker=konnector").await, Some(json!(2)));
    assert_eq!(list("Worker=konnector&Type=@every,@in").await, Some(json!(1)));
    for refused in ["", "Worker=konnector,print", "Worker=print"] {
        assert_eq!(list(refused).await, None, "{refused}");
    }
}

#[tokio::test]
async fn a_konnector_keeps_its_own_triggers_and_no_others() {
    let api = Api::new().await;
    api.install("other", json!({})).await;
    let own = format!("/jobs/triggers/{}", create(&api, cron("other")).await);
    let foreign = format!("/jobs/triggers/{}", create(&api, cron("bank")).await);
    let token = api.token_of(Audience::Konnector, "other", "");
    let status = async |call: Call| api.send(call.token(&token)).await.status;
    let change = json!({ "arguments": "0 0 0 * * 1" });
    assert_eq!(status(Call::get(&own)).await, 200);
    assert_eq!(status(Call::get(&format!("{own}/state"))).await, 200);
    assert_eq!(status(Call::patch(&own).attributes(change.clone())).await, 200);
    for forbidden in [
        Call::get(&foreign),
        Call::get(&format!("{foreign}/state")),
        Call::patch(&foreign).attributes(change),
        Call::delete(&foreign),
        Call::get("/jobs/triggers"),
        Call::post("/jobs/triggers").attributes(cron("other")),
        Call::post(&format!("{own}/launch")),
        Call::get(&format!("{own}/jobs")),
    ] {
        assert_eq!(status(forbidden).await, 403);
    }
    assert_eq!(status(Call::delete(&own)).await, 204);
}
