//! `/jobs/triggers`.

use konnector_platform::principal::Audience;
use serde_json::{Value, json};

use crate::support::{Api, NOW, TestRequest};

pub fn cron(slug: &str) -> Value {
    json!({ "type": "@cron", "arguments": "0 0 0 * * 0", "worker": "konnector", "message": { "konnector": slug } })
}

pub async fn create(api: &Api, attributes: Value) -> String {
    let response = api.send(TestRequest::post("/jobs/triggers").token(&api.token("*")).attributes(attributes)).await;
    assert_eq!(response.status, 201, "{response}");
    response.id()
}

pub fn post(token: &str, attributes: Value) -> TestRequest {
    let mut all = cron("bank");
    let (members, own) = (all.as_object_mut().expect("an object"), attributes.as_object().expect("an object"));
    members.extend(own.clone());
    TestRequest::post("/jobs/triggers").token(token).attributes(all)
}

#[tokio::test]
async fn j7_an_instant_and_the_worker_are_echoed() {
    let api = Api::new().await;
    let token = api.token("io.cozy.triggers");
    let calls = [
        post(&token, json!({ "type": "@at", "arguments": "2026-12-01T08:00:00Z" })),
        post(&token, json!({ "options": { "timeout": 42_000_000_000_u64, "max_exec_count": 1 } })),
    ];
    insta::assert_snapshot!(api.transcript(calls).await, @r#"
    POST /jobs/triggers
    201 application/vnd.api+json
    {
      "data": {
        "type": "io.cozy.triggers",
        "id": "<id>",
        "attributes": {
          "domain": "alice.example",
          "type": "@at",
          "arguments": "2026-12-01T08:00:00Z",
          "worker": "konnector",
          "message": {
            "konnector": "bank"
          },
          "time_zone": "UTC",
          "missed_policy": "coalesce",
          "overlap_policy": "skip",
          "cozyMetadata": {
            "doctypeVersion": "1",
            "metadataVersion": 1,
            "createdAt": "2026-11-20T12:00:00Z",
            "updatedAt": "2026-11-20T12:00:00Z",
            "createdByApp": "CLI"
          },
          "_id": "<id>"
        },
        "meta": {
          "rev": "1-<id>"
        },
        "links": {
          "self": "/jobs/triggers/<id>"
        }
      }
    }

    POST /jobs/triggers
    201 application/vnd.api+json
    {
      "data": {
        "type": "io.cozy.triggers",
        "id": "<id>",
        "attributes": {
          "domain": "alice.example",
          "type": "@cron",
          "arguments": "0 0 0 * * 0",
          "worker": "konnector",
          "message": {
            "konnector": "bank"
          },
          "options": {
            "max_exec_count": 1,
            "timeout": 42000000000
          },
          "time_zone": "UTC",
          "missed_policy": "coalesce",
          "overlap_policy": "skip",
          "cozyMetadata": {
            "doctypeVersion": "1",
            "metadataVersion": 1,
            "createdAt": "2026-11-20T12:00:00Z",
            "updatedAt": "2026-11-20T12:00:00Z",
            "createdByApp": "CLI"
          },
          "_id": "<id>"
        },
        "meta": {
          "rev": "1-<id>"
        },
        "links": {
          "self": "/jobs/triggers/<id>"
        }
      }
    }
    "#);
}

/// Also rejects other invalid triggers.
#[tokio::test]
async fn j8_an_invalid_instant_is_rejected() {
    let api = Api::new().await;
    let token = api.token("io.cozy.triggers");
    let calls = [
        json!({ "type": "@at", "arguments": "garbage" }),
        json!({ "type": "@in", "arguments": "garbage" }),
        json!({ "type": "@every", "arguments": "1ms" }),
        json!({ "type": "@every", "arguments": "0s" }),
        json!({ "type": "@cron", "arguments": "0 0 0 * * 7" }),
        json!({ "type": 1 }),
        json!({ "worker": "none" }),
    ];
    insta::assert_snapshot!(api.summary(calls.map(|attributes| post(&token, attributes))).await, @r"
    POST /jobs/triggers → 400 Bad Request: Trigger unparsable: 'garbage' is not an RFC 3339 date such as 2026-11-20T08:00:00Z: premature end of input
    POST /jobs/triggers → 400 Bad Request: Trigger unparsable: 'garbage' is not a valid duration; write numbers with units, for example 1h30m or 90s, at most 100 years
    POST /jobs/triggers → 422 Invalid Attribute (/data/attributes/arguments): arguments: the interval '1ms' is shorter than a second; use 1s or more
    POST /jobs/triggers → 422 Invalid Attribute (/data/attributes/arguments): arguments: the interval '0s' is shorter than a second; use 1s or more
    POST /jobs/triggers → 400 Bad Request: Trigger unparsable: the crontab cannot be read: '7' is not a valid day of week: use 0 to 6 or a name
    POST /jobs/triggers → 422 Invalid Attribute (/data/attributes/type): the attribute type must be a string
    POST /jobs/triggers → 404 Not Found: there is no worker 'none'; use konnector
    ");
}

#[tokio::test]
async fn j9_j11_a_trigger_is_made_changed_and_deleted() {
    let api = Api::new().await;
    let token = api.token("io.cozy.triggers");
    let path = format!("/jobs/triggers/{}", create(&api, cron("bank")).await);
    let patch = |attributes| TestRequest::patch(&path).token(&token).attributes(attributes);
    let message = json!({ "konnector": "bank", "folder_to_save": "123" });
    let calls = [patch(json!({ "arguments": "0 0 0 * * 1" })), patch(json!({ "message": message }))];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    PATCH /jobs/triggers/<id> → 200
    PATCH /jobs/triggers/<id> → 200
    ");
    insta::assert_snapshot!(api.transcript([TestRequest::get(&path).token(&token)]).await, @r#"
    GET /jobs/triggers/<id>
    200 application/vnd.api+json
    {
      "data": {
        "type": "io.cozy.triggers",
        "id": "<id>",
        "attributes": {
          "domain": "alice.example",
          "type": "@cron",
          "arguments": "0 0 0 * * 1",
          "worker": "konnector",
          "message": {
            "konnector": "bank",
            "folder_to_save": "123"
          },
          "time_zone": "UTC",
          "missed_policy": "coalesce",
          "overlap_policy": "skip",
          "cozyMetadata": {
            "doctypeVersion": "1",
            "metadataVersion": 1,
            "createdAt": "2026-11-20T12:00:00Z",
            "updatedAt": "2026-11-20T12:00:00Z",
            "createdByApp": "CLI"
          },
          "_id": "<id>",
          "current_state": {
            "trigger_id": "<id>",
            "status": "done",
            "next_execution": "2026-11-23T00:00:00Z",
            "occasions": {
              "fired": 0,
              "coalesced": 0,
              "missed": 0,
              "overlapped": 0,
              "paused": 0
            }
          }
        },
        "meta": {
          "rev": "3-<id>"
        },
        "links": {
          "self": "/jobs/triggers/<id>"
        }
      }
    }
    "#);
    let calls = [TestRequest::delete(&path).token(&token), TestRequest::get(&path).token(&token)];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    DELETE /jobs/triggers/<id> → 204
    GET /jobs/triggers/<id> → 404 Not Found: there is no trigger '<id>'
    ");
}

/// By mistake, Cozy responds with 500 to an unknown job.
#[tokio::test]
async fn j15_what_is_unknown_or_none_of_the_clients_is_refused() {
    let api = Api::new().await;
    let token = api.token("*");
    let body = json!({ "arguments": { "konnector": "bank" } });
    let push = |worker: &str| {
        let call = TestRequest::post(&format!("/jobs/queue/{worker}")).token(&token).attributes(body.clone());
        async { format!("/jobs/{}", api.send(call).await.id()) }
    };
    let (server_job, client_job) = (push("konnector").await, push("client").await);
    let calls = [
        TestRequest::patch(&server_job).token(&token).attributes(json!({ "state": "done" })),
        TestRequest::patch(&client_job).token(&token).attributes(json!({ "state": "running" })),
        TestRequest::get("/jobs/0123456789abcdef0123456789abcdef").token(&token),
        TestRequest::get("/jobs/triggers/0123456789abcdef0123456789abcdef").token(&token),
        post(&token, json!({ "type": "@foo" })),
        post(&token, json!({ "debounce": "soon" })),
    ];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    PATCH /jobs/<id> → 403 jobs of the worker 'konnector' are ended by the server, not by clients
    PATCH /jobs/<id> → 422 Invalid Attribute (/data/attributes/State): 'running' is not a valid final state: expected done or errored
    GET /jobs/<id> → 404 Not Found: there is no job '<id>'
    GET /jobs/triggers/<id> → 404 Not Found: there is no trigger '<id>'
    POST /jobs/triggers → 422 Invalid Attribute (/data/attributes/Type): Unknown trigger type '@foo'; use @cron, @every, @hourly, @daily, @weekly, @monthly, @at, @in, @event, @webhook or @client
    POST /jobs/triggers → 422 Invalid Attribute (/data/attributes/debounce): debounce: 'soon' is not a valid duration; write numbers with units, for example 1h30m or 90s, at most 100 years
    ");
}

/// Cozy changes the message before it rejects the crontab.
#[tokio::test]
async fn j16_a_patch_that_is_refused_changes_nothing() {
    let api = Api::new().await;
    let token = api.token("*");
    let path = format!("/jobs/triggers/{}", create(&api, cron("bank")).await);
    let message = json!({ "konnector": "bank" });
    let one_shot =
        json!({ "type": "@at", "arguments": "2027-01-01T00:00:00Z", "worker": "konnector", "message": message });
    let one_shot = create(&api, one_shot).await;
    let before = api.send(TestRequest::get(&path).token(&token)).await.json();
    let patch = |path: &str, attributes| TestRequest::patch(path).token(&token).attributes(attributes);
    let calls = [
        patch(&path, json!({})),
        patch(&format!("/jobs/triggers/{one_shot}"), json!({ "arguments": "2028-01-01T00:00:00Z" })),
        patch(&path, json!({ "arguments": "bad cron", "message": { "konnector": "other" } })),
    ];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    PATCH /jobs/triggers/<id> → 400 Bad Request: Only arguments and message can be patched, as well as debounce, time_zone, missed_policy, missed_limit, catch_up_window and overlap_policy
    PATCH /jobs/triggers/<id> → 422 Invalid Attribute (/data/attributes/Type): only the arguments of a @cron trigger can be changed; this one is @at
    PATCH /jobs/triggers/<id> → 400 Bad Request: Trigger unparsable: the crontab cannot be read: 'bad cron' has 2 fields; expected 5, or 6 with the seconds first
    ");
    assert_eq!(api.send(TestRequest::get(&path).token(&token)).await.json(), before);
}

#[tokio::test]
async fn a_trigger_is_launched_and_shows_its_state() {
    let api = Api::new().await;
    let token = api.token("io.cozy.triggers io.cozy.jobs");
    let path = format!("/jobs/triggers/{}", create(&api, cron("bank")).await);
    let job = api.send(TestRequest::post(&format!("{path}/launch")).token(&token)).await;
    assert_eq!((job.status, &job.json()["data"]["attributes"]["manual_execution"]), (201, &json!(true)));
    let jobs = api.send(TestRequest::get(&format!("{path}/jobs?Limit=1")).token(&token)).await.json();
    assert_eq!((jobs["data"][0]["id"].as_str(), &jobs["meta"]["count"]), (Some(job.id().as_str()), &json!(1)));
    assert_eq!(api.send(TestRequest::get(&format!("{path}/jobs?Limit=many")).token(&token)).await.status, 400);
    insta::assert_snapshot!(api.transcript([TestRequest::get(&format!("{path}/state")).token(&token)]).await);
}

#[tokio::test]
async fn a_list_is_filtered_and_a_narrow_right_reads_one_worker() {
    let api = Api::new().await;
    create(&api, cron("bank")).await;
    let interval_trigger =
        json!({ "type": "@every", "arguments": "1h", "worker": "konnector", "message": { "konnector": "bank" } });
    create(&api, interval_trigger).await;
    let narrow = api.token("io.cozy.triggers:GET:konnector:worker");
    let list = async |query: &str| {
        let response = api.send(TestRequest::get(&format!("/jobs/triggers?{query}")).token(&narrow)).await;
        (response.status == 200).then(|| response.json()["meta"]["count"].clone())
    };
    assert_eq!(list("Worker=konnector").await, Some(json!(2)));
    assert_eq!(list("Worker=konnector&Type=@every,@in").await, Some(json!(1)));
    for rejected in ["", "Worker=konnector,print", "Worker=print"] {
        assert_eq!(list(rejected).await, None, "{rejected}");
    }
}

#[tokio::test]
async fn a_konnector_keeps_its_own_triggers_and_no_others() {
    let api = Api::new().await;
    api.install("other", json!({})).await;
    let own = format!("/jobs/triggers/{}", create(&api, cron("other")).await);
    let foreign = format!("/jobs/triggers/{}", create(&api, cron("bank")).await);
    let token = api.token_of(Audience::Konnector, "other", "");
    let status = async |call: TestRequest| api.send(call.token(&token)).await.status;
    let change = json!({ "arguments": "0 0 0 * * 1" });
    assert_eq!(status(TestRequest::get(&own)).await, 200);
    assert_eq!(status(TestRequest::get(&format!("{own}/state"))).await, 200);
    assert_eq!(status(TestRequest::patch(&own).attributes(change.clone())).await, 200);
    for forbidden in [
        TestRequest::get(&foreign),
        TestRequest::get(&format!("{foreign}/state")),
        TestRequest::patch(&foreign).attributes(change),
        TestRequest::delete(&foreign),
        TestRequest::get("/jobs/triggers"),
        TestRequest::post("/jobs/triggers").attributes(cron("other")),
        TestRequest::post(&format!("{own}/launch")),
        TestRequest::get(&format!("{own}/jobs")),
    ] {
        assert_eq!(status(forbidden).await, 403);
    }
    assert_eq!(status(TestRequest::delete(&own)).await, 204);
}

#[tokio::test]
async fn every_type_is_created_and_shown() {
    let api = Api::new().await;
    let token = api.token("*");
    let calls = [
        json!({ "type": "@event", "arguments": "io.cozy.bills:CREATED io.cozy.files:UPDATED:some-directory" }),
        json!({ "type": "@weekly", "arguments": "on monday before 9am" }),
        json!({
            "time_zone": "Asia/Tokyo", "missed_policy": "all", "missed_limit": 3, "catch_up_window": "48h",
            "overlap_policy": "queue-one",
        }),
        json!({ "time_zone": "Mars/Base" }),
        json!({ "time_zone": "Asia/Tokyo", "arguments": "TZ=Europe/Paris 0 5 * * *" }),
        json!({ "missed_policy": "hope" }),
        json!({ "missed_policy": "all", "missed_limit": 0 }),
        json!({ "catch_up_window": "a while" }),
        json!({ "overlap_policy": "both" }),
        json!({ "type": "@event", "arguments": "io.cozy.jobs:CREATED" }),
        json!({ "type": "@weekly", "arguments": "on funday" }),
    ];
    insta::assert_snapshot!(api.transcript(calls.map(|attributes| post(&token, attributes))).await);
}

#[tokio::test]
async fn our_own_attributes_are_patched_and_take_effect_at_once() {
    let api = Api::new().await;
    let token = api.token("*");
    let id = create(&api, json!({ "type": "@cron", "arguments": "0 0 3 * * *", "worker": "konnector", "message": { "konnector": "bank" } })).await;
    let path = format!("/jobs/triggers/{id}");
    let patch = |attributes| TestRequest::patch(&path).token(&token).attributes(attributes);
    let calls = [
        patch(
            json!({ "time_zone": "Asia/Tokyo", "missed_policy": "skip", "overlap_policy": "queue-one", "debounce": "5s" }),
        ),
        TestRequest::get(&path).token(&token),
        patch(json!({ "overlap_policy": "none" })),
        patch(json!({})),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
}

#[tokio::test]
async fn j14_a_client_launches_and_ends_its_own_jobs() {
    let api = Api::new().await;
    let token = api.token("*");
    let client = json!({ "type": "@client", "worker": null, "arguments": "" });
    let trigger = api.send(post(&token, client)).await;
    assert_eq!((trigger.status, &trigger.json()["data"]["attributes"]["worker"]), (201, &json!("client")));
    let launch = TestRequest::post(&format!("/jobs/triggers/{}/launch", trigger.id())).token(&token);
    let job = api.send(launch).await;
    insta::assert_snapshot!(job, @r#"
    201 application/vnd.api+json
    {
      "data": {
        "type": "io.cozy.jobs",
        "id": "<id>",
        "attributes": {
          "domain": "alice.example",
          "worker": "client",
          "trigger_id": "<id>",
          "message": {
            "konnector": "bank"
          },
          "event": null,
          "manual_execution": true,
          "state": "running",
          "queued_at": "2026-11-20T12:00:00Z",
          "started_at": "2026-11-20T12:00:00Z",
          "finished_at": "0001-01-01T00:00:00Z",
          "cause": "manual",
          "attempt": 1
        },
        "meta": {
          "rev": "1-<id>"
        },
        "links": {
          "self": "/jobs/<id>"
        }
      }
    }
    "#);
    let path = format!("/jobs/{}", job.id());
    let end = |attributes| TestRequest::patch(&path).token(&token).attributes(attributes);
    let ended = api.send(end(json!({ "state": "errored", "error": "LOGIN_FAILED" }))).await.json();
    let fields = ["state", "error", "finished_at"].map(|name| ended["data"]["attributes"][name].clone());
    assert_eq!(fields, ["errored", "LOGIN_FAILED", NOW]);
    insta::assert_snapshot!(api.send(end(json!({ "state": "done" }))).await.summary(), @"409 Conflict: the job '<id>' has already ended");
}

/// The creator of an event trigger must be allowed to read the documents of its events.
#[tokio::test]
async fn events_are_for_those_who_may_read_the_documents() {
    let api = Api::new().await;
    let blind = api.token("io.cozy.triggers io.cozy.jobs");
    let event = json!({ "type": "@event", "arguments": "io.cozy.bills:CREATED", "worker": "konnector", "message": { "konnector": "bank" } });
    assert_eq!(api.send(TestRequest::post("/jobs/triggers").token(&blind).attributes(event.clone())).await.status, 403);
    let seeing = api.token("io.cozy.triggers io.cozy.bills:GET");
    assert_eq!(api.send(TestRequest::post("/jobs/triggers").token(&seeing).attributes(event)).await.status, 201);
}

#[tokio::test]
async fn a_list_has_pages_for_those_who_ask_for_them() {
    let api = Api::new().await;
    let token = api.token("*");
    for _ in 0..5 {
        create(&api, cron("bank")).await;
    }
    create(&api, json!({ "type": "@webhook", "worker": "konnector", "message": { "konnector": "bank" } })).await;
    let mut path = "/jobs/triggers?Type=@cron&page[limit]=2".to_owned();
    let mut all_ids = std::collections::BTreeSet::new();
    let mut pages = Vec::new();
    loop {
        let page = api.send(TestRequest::get(&path).token(&token)).await.json();
        let ids: Vec<_> = page["data"].as_array().expect("a list").iter().map(|item| item["id"].to_string()).collect();
        pages.push(ids.len());
        all_ids.extend(ids);
        match page["links"]["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((pages, all_ids.len()), (vec![2, 2, 1], 5));
}

/// A message that no run can use is rejected while the user can still correct it.
#[tokio::test]
async fn a_message_that_makes_no_job_is_refused() {
    let api = Api::new().await;
    let token = api.token("*");
    let id = create(&api, cron("bank")).await;
    for message in [
        json!("foo"),
        json!(null),
        json!([]),
        json!({}),
        json!({ "konnector": 7 }),
        json!({ "konnector": "No Slug" }),
        json!({ "konnector": "bank", "account": 7 }),
    ] {
        for kind in ["@cron", "@every", "@webhook", "@event"] {
            let arguments = match kind {
                "@cron" => "0 0 0 * * 0",
                "@every" => "1h",
                _ => "io.cozy.bills",
            };
            let trigger = json!({ "type": kind, "arguments": arguments, "worker": "konnector", "message": message });
            let response = api.send(TestRequest::post("/jobs/triggers").token(&token).attributes(trigger)).await;
            assert_eq!(response.status, 422, "{kind} {message}: {response}");
        }
        let push = TestRequest::post("/jobs/queue/konnector").token(&token).attributes(json!({ "arguments": message }));
        assert_eq!(api.send(push).await.status, 400, "{message}");
        if !message.is_null() {
            let patch = TestRequest::patch(&format!("/jobs/triggers/{id}")).token(&token);
            assert_eq!(api.send(patch.attributes(json!({ "message": message }))).await.status, 422, "{message}");
        }
    }
}
