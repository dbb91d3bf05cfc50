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

/// J12, J14, J15, J27, and the attributes that are our own.
#[tokio::test]
async fn every_type_is_created_and_shown() {
    let api = Api::new().await;
    let token = api.token("*");
    let post = |attributes: Value| {
        let mut all = cron("bank");
        all.as_object_mut().expect("an object").extend(attributes.as_object().expect("an object").clone());
        Call::post("/jobs/triggers").token(&token).attributes(all)
    };
    let calls = [
        post(json!({ "type": "@webhook", "arguments": "whatever", "debounce": "1m30s" })),
        post(json!({ "type": "@client", "worker": null, "arguments": "" })),
        post(json!({ "type": "@event", "arguments": "io.cozy.bills:CREATED io.cozy.files:UPDATED:some-directory" })),
        post(json!({ "type": "@weekly", "arguments": "on monday before 9am" })),
        post(json!({
            "time_zone": "Asia/Tokyo", "missed_policy": "all", "missed_limit": 3, "catch_up_window": "48h",
            "overlap_policy": "queue-one",
        })),
        post(json!({ "time_zone": "Mars/Base" })),
        post(json!({ "time_zone": "Asia/Tokyo", "arguments": "TZ=Europe/Paris 0 5 * * *" })),
        post(json!({ "missed_policy": "hope" })),
        post(json!({ "missed_policy": "all", "missed_limit": 0 })),
        post(json!({ "catch_up_window": "a while" })),
        post(json!({ "overlap_policy": "both" })),
        post(json!({ "type": "@event", "arguments": "io.cozy.jobs:CREATED" })),
        post(json!({ "type": "@weekly", "arguments": "on funday" })),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn our_own_attributes_are_patched_and_take_effect_at_once() {
    let api = Api::new().await;
    let token = api.token("*");
    let id = create(&api, json!({ "type": "@cron", "arguments": "0 0 3 * * *", "worker": "konnector", "message": { "konnector": "bank" } })).await;
    let path = format!("/jobs/triggers/{id}");
    let patch = |attributes| Call::patch(&path).token(&token).attributes(attributes);
    let calls = [
        patch(
            json!({ "time_zone": "Asia/Tokyo", "missed_policy": "skip", "overlap_policy": "queue-one", "debounce": "5s" }),
        ),
        Call::get(&path).token(&token),
        patch(json!({ "overlap_policy": "none" })),
        patch(json!({})),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

/// J27; the id is all that a caller needs.
#[tokio::test]
async fn a_webhook_is_called_without_a_token() {
    let api = Api::new().await;
    let token = api.token("*");
    let message = json!({ "konnector": "bank" });
    let hook = create(&api, json!({ "type": "@webhook", "worker": "konnector", "message": message })).await;
    let timed = create(&api, cron("bank")).await;
    let path = format!("/jobs/webhooks/{hook}");
    assert_eq!(api.send(Call::post(&path).text("no json")).await.status, 204);
    assert_eq!(api.send(Call::post(&format!("{path}?Manual=true")).json(&json!({ "n": 1 }))).await.status, 204);
    let jobs = api.send(Call::get(&format!("/jobs/triggers/{hook}/jobs")).token(&token)).await.json();
    let shown = |job: usize, name: &str| jobs["data"][job]["attributes"][name].clone();
    assert_eq!((shown(0, "payload"), shown(0, "manual_execution")), (json!("eyJuIjoxfQ=="), json!(true)));
    assert_eq!((shown(1, "payload"), shown(1, "manual_execution")), (json!("bm8ganNvbg=="), Value::Null));
    let refused = [
        Call::post("/jobs/webhooks/0123456789abcdef0123456789abcdef"),
        Call::post(&format!("/jobs/webhooks/{timed}")),
        Call::post(&path).host("bob.example"),
        Call::post(&path).text(vec![b'x'; (1 << 20) + 1]),
    ];
    insta::assert_snapshot!(api.transcript(refused).await);
}

/// J14, J15.
#[tokio::test]
async fn a_client_ends_its_own_jobs() {
    let api = Api::new().await;
    let token = api.token("*");
    let client = create(&api, json!({ "type": "@client", "message": { "konnector": "bank" } })).await;
    let launch = |id: &str| Call::post(&format!("/jobs/triggers/{id}/launch")).token(&token);
    let job = api.send(launch(&client)).await;
    assert_eq!(job.json()["data"]["attributes"]["state"], "running");
    let end = |id: &str, attributes| Call::patch(&format!("/jobs/{id}")).token(&token).attributes(attributes);
    let id = job.id();
    let server = create(&api, cron("bank")).await;
    let of_server = api.send(launch(&server)).await.id();
    let calls = [
        end(&id, json!({ "state": "running" })),
        end(&id, json!({ "state": "errored", "error": "LOGIN_FAILED" })),
        end(&id, json!({ "state": "done" })),
        end(&of_server, json!({ "state": "done" })),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

/// What an event tells must be readable for whoever asks to be told.
#[tokio::test]
async fn events_are_for_those_who_may_read_the_documents() {
    let api = Api::new().await;
    let blind = api.token("io.cozy.triggers io.cozy.jobs");
    let event = json!({ "type": "@event", "arguments": "io.cozy.bills:CREATED", "worker": "konnector", "message": {} });
    assert_eq!(api.send(Call::post("/jobs/triggers").token(&blind).attributes(event.clone())).await.status, 403);
    let seeing = api.token("io.cozy.triggers io.cozy.bills:GET");
    assert_eq!(api.send(Call::post("/jobs/triggers").token(&seeing).attributes(event)).await.status, 201);
}

#[tokio::test]
async fn a_list_has_pages_for_those_who_ask_for_them() {
    let api = Api::new().await;
    let token = api.token("*");
    for _ in 0..5 {
        create(&api, cron("bank")).await;
    }
    create(&api, json!({ "type": "@webhook", "worker": "konnector" })).await;
    let mut path = "/jobs/triggers?Type=@cron&page[limit]=2".to_owned();
    let mut seen = std::collections::BTreeSet::new();
    let mut pages = Vec::new();
    loop {
        let page = api.send(Call::get(&path).token(&token)).await.json();
        let ids: Vec<_> = page["data"].as_array().expect("a list").iter().map(|item| item["id"].to_string()).collect();
        pages.push(ids.len());
        seen.extend(ids);
        match page["links"]["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (vec![2, 2, 1], 5));
}
