//! `/jobs`.

use axum::body::Body;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use konnector_platform::clock::Clock as _;
use konnector_platform::doctype::{JOB_EVENTS, JOB_LOGS, JOBS};
use konnector_platform::principal::Audience;
use konnector_platform::realtime::{ChangeKind, RealtimeEvent};
use konnector_store::{Changes, Map, QueueEntry};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{Api, NOW, TestRequest, object};

/// Cozy's cases use the worker `print`; here `konnector` replaces it.
#[tokio::test]
async fn j1_j2_a_job_is_pushed_into_an_empty_queue() {
    let api = Api::new().await;
    let token = api.token("io.cozy.jobs::konnector:worker");
    let calls = [
        TestRequest::get("/jobs/queue/konnector").token(&token),
        TestRequest::post("/jobs/queue/konnector")
            .token(&token)
            .attributes(json!({ "arguments": { "konnector": "bank" } })),
    ];
    insta::assert_snapshot!(api.transcript(calls).await, @r#"
    GET /jobs/queue/konnector
    200 application/vnd.api+json
    {
      "data": [],
      "links": {},
      "meta": {
        "count": 0
      }
    }

    POST /jobs/queue/konnector
    202 application/vnd.api+json
    {
      "data": {
        "type": "io.cozy.jobs",
        "id": "<id>",
        "attributes": {
          "domain": "alice.example",
          "worker": "konnector",
          "message": {
            "konnector": "bank"
          },
          "event": null,
          "state": "queued",
          "queued_at": "2026-11-20T12:00:00Z",
          "started_at": "0001-01-01T00:00:00Z",
          "finished_at": "0001-01-01T00:00:00Z",
          "cause": "schedule",
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
    let queued = api.send(TestRequest::get("/jobs/queue/konnector").token(&token)).await.json();
    let id = queued["data"][0]["id"].as_str().expect("an id");
    let job = api.send(TestRequest::get(&format!("/jobs/{id}")).token(&token)).await.json();
    assert_eq!(job["data"], queued["data"][0]);
}

#[tokio::test]
async fn j3_j4_a_job_keeps_its_limits_and_that_a_person_asked_for_it() {
    let api = Api::new().await;
    let body = json!({ "arguments": { "konnector": "bank" }, "manual": true, "options": { "timeout": 42 } });
    let response = api.send(TestRequest::post("/jobs/queue/konnector").token(&api.token("*")).attributes(body)).await;
    assert_eq!(response.status, 202, "{response}");
    let attributes = &response.json()["data"]["attributes"];
    let stored = json!({ "options": attributes["options"], "manual_execution": attributes["manual_execution"] });
    insta::assert_snapshot!(stored, @r#"{"options":{"timeout":42000000000},"manual_execution":true}"#);
}

#[tokio::test]
async fn j5_j6_other_workers_are_forbidden_or_unknown() {
    let api = Api::new().await;
    let narrow = api.token("io.cozy.jobs::print:worker io.cozy.jobs::none:worker");
    let push = |worker: &str, token: &str| {
        let call = TestRequest::post(&format!("/jobs/queue/{worker}")).token(token);
        call.attributes(json!({ "arguments": { "konnector": "bank" } }))
    };
    let all = api.token("*");
    let calls = [push("trash-files", &narrow), push("none", &narrow), push("trash-files", &all)];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    POST /jobs/queue/trash-files → 403 the token does not allow POST on io.cozy.jobs in this case; use one whose scope has io.cozy.jobs:POST
    POST /jobs/queue/none → 404 Not Found: there is no worker 'none'; use konnector
    POST /jobs/queue/trash-files → 404 Not Found: there is no worker 'trash-files'; use konnector
    ");
}

/// In Cozy, the worker detects this, and the job is not retried.
#[tokio::test]
async fn j18_an_invalid_job_never_reaches_its_worker() {
    let api = Api::new().await;
    let token = api.token("*");
    let queue = || TestRequest::post("/jobs/queue/konnector").token(&token);
    let calls = [
        queue().attributes(json!({})),
        queue().attributes(json!({ "arguments": "foobar" })),
        queue().attributes(json!({ "arguments": { "konnector": "bank" }, "options": { "timeout": "long" } })),
        queue().text("{"),
        queue().json(&json!({})),
    ];
    insta::assert_snapshot!(api.summary(calls).await, @r#"
    POST /jobs/queue/konnector → 400 Bad Request: the arguments of a konnector's job must be an object with 'konnector' (a slug) and, if it needs one, 'account' (an id)
    POST /jobs/queue/konnector → 400 Bad Request: the arguments of a konnector's job must be an object with 'konnector' (a slug) and, if it needs one, 'account' (an id)
    POST /jobs/queue/konnector → 422 Invalid Attribute (/data/attributes/options): options: timeout is the string "long"; expected a non-negative integer; set max_exec_count and timeout (in seconds) to whole numbers
    POST /jobs/queue/konnector → 400 Bad Request: the body is not valid JSON: EOF while parsing an object at line 1 column 1
    POST /jobs/queue/konnector → 400 Bad Request: JSON input is malformed or is missing mandatory fields; send {"data": {"attributes": {…}}}
    "#);
}

/// Cozy sends the mail and responds with 204.
#[tokio::test]
async fn j17_mail_is_checked_and_not_sent() {
    let api = Api::new().await;
    let post = |name: &str, token: String, mail: Value| {
        TestRequest::post(&format!("/jobs/{name}")).token(&token).attributes(json!({ "arguments": mail }))
    };
    let campaign = json!({ "subject": "News", "parts": [{ "type": "text/plain", "body": "Hello" }] });
    let support = json!({ "subject": "Help", "body": "It does not work" });
    let (sends, asks) = (|| api.token("io.cozy.jobs:POST:sendmail:worker"), || api.token("io.cozy.support:POST"));
    let calls = [
        post("campaign-emails", api.token("io.cozy.jobs:POST:konnector:worker"), campaign.clone()),
        post("campaign-emails", sends(), json!({ "parts": campaign["parts"] })),
        post("campaign-emails", sends(), json!({ "subject": "News", "parts": [] })),
        post("campaign-emails", sends(), campaign),
        post("support", sends(), support.clone()),
        post("support", api.token_of(Audience::Konnector, "bank", ""), support.clone()),
        post("support", asks(), json!({ "body": "It does not work" })),
        post("support", asks(), support),
    ];
    insta::assert_snapshot!(api.summary(calls).await, @r"
    POST /jobs/campaign-emails → 403 the token does not allow POST on io.cozy.jobs in this case; use one whose scope has io.cozy.jobs:POST
    POST /jobs/campaign-emails → 400 Bad Request: the mail has no subject; give arguments.subject
    POST /jobs/campaign-emails → 400 Bad Request: the mail has no parts; give arguments.parts
    POST /jobs/campaign-emails → 501 Not Implemented: This server cannot send mail.
    POST /jobs/support → 403 the token does not allow POST on io.cozy.support; use one whose scope has io.cozy.support:POST
    POST /jobs/support → 403 a konnector may not send mail to the support team
    POST /jobs/support → 400 Bad Request: the mail has no subject; give arguments.subject
    POST /jobs/support → 501 Not Implemented: This server cannot send mail.
    ");
}

/// By mistake, Cozy keeps the oldest fifty of each state and worker; here the newest fifty remain.
#[tokio::test]
async fn j20_old_jobs_are_purged_but_not_the_last_ones_of_each_state() {
    let api = Api::with_config(|config, _| config.hourly_limits.jobs = 0).await;
    let ended = async |time: &str, count: usize, state: &str| {
        api.clock.set(time.parse().expect("a date"));
        let token = api.token("*");
        for _ in 0..count {
            let job = api.send(TestRequest::post("/jobs/queue/client").token(&token).attributes(json!({}))).await.id();
            let patch = TestRequest::patch(&format!("/jobs/{job}")).token(&token).attributes(json!({ "state": state }));
            assert_eq!(api.send(patch).await.status, 200);
        }
    };
    ended("2026-01-01T00:00:00Z", 1, "done").await;
    ended(NOW, 1, "done").await;
    ended("2100-01-01T00:00:00Z", 1, "done").await;
    ended("2026-01-01T00:00:00Z", 3, "errored").await;
    // The last fifty remain regardless of their age.
    ended("2026-01-01T00:00:00Z", 50, "done").await;
    push(&api).await;
    api.clock.set("2026-11-22T12:00:00Z".parse().expect("a date"));
    let purge = async |query: &str| {
        let response = api.send(TestRequest::delete(&format!("/jobs/purge?{query}")).token(&api.token("*"))).await;
        response.text().to_owned()
    };
    assert_eq!(purge("duration=1D&workers=konnector").await, r#"{"deleted":0}"#);
    assert_eq!(purge("duration=1D&workers=konnector,client").await, r#"{"deleted":2}"#, "the past and the present one");
    assert_eq!(purge("duration=1D").await, r#"{"deleted":0}"#);
    assert_eq!(api.platform.raw_store().list(&api.alice.id, &JOBS, None, 100).expect("jobs").len(), 55);
    let wrong = ["duration=soon", "duration=D", "duration=-1D"]
        .map(|query| TestRequest::delete(&format!("/jobs/purge?{query}")).token(&api.token("*")));
    insta::assert_snapshot!(api.summary(wrong).await, @r"
            DELETE /jobs/purge?duration=soon → 422 Invalid Parameter (duration): 'soon' is not a valid age: expected days, weeks or months, for example 10D, 3W or 2M
            DELETE /jobs/purge?duration=D → 422 Invalid Parameter (duration): 'D' is not a valid age: expected days, weeks or months, for example 10D, 3W or 2M
            DELETE /jobs/purge?duration=-1D → 422 Invalid Parameter (duration): '-1D' is not a valid age: expected days, weeks or months, for example 10D, 3W or 2M
            ");
    let narrow = api.token("io.cozy.jobs:DELETE:client:worker");
    assert_eq!(api.send(TestRequest::delete("/jobs/purge").token(&narrow)).await.status, 403);
}

#[tokio::test]
async fn only_the_command_line_may_ask_for_logs() {
    let api = Api::new().await;
    let body = json!({ "arguments": { "konnector": "bank" }, "forward_logs": true });
    let push = |token: String| TestRequest::post("/jobs/queue/konnector").token(&token).attributes(body.clone());
    assert_eq!(api.send(push(api.token("io.cozy.jobs"))).await.status, 202);
    assert_eq!(api.send(push(api.token_of(Audience::App, "home", "io.cozy.jobs"))).await.status, 403);
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_is_refused() {
    let api = Api::new().await;
    let body = json!({ "arguments": { "konnector": "bank", "padding": "x".repeat(1 << 20) } });
    let response = api.send(TestRequest::post("/jobs/queue/konnector").token(&api.token("*")).attributes(body)).await;
    assert_eq!(response.status, 413, "{response}");
    assert_eq!(response.json()["errors"][0]["status"], "413");
}

/// Pushes a job; returns its id.
async fn push(api: &Api) -> String {
    let body = json!({ "arguments": { "konnector": "bank" } });
    api.send(TestRequest::post("/jobs/queue/konnector").token(&api.token("*")).attributes(body)).await.id()
}

/// Marks a job as done, as a worker would.
async fn end(api: &Api, id: &str) {
    let doc_ref = api.alice.doc(&JOBS, id);
    let found = api.platform.raw_store().get(&doc_ref).expect("readable").expect("a job");
    let mut body = found.body;
    body.insert("state".to_owned(), json!("done"));
    body.insert("finished_at".to_owned(), json!(NOW));
    let mut changes = Changes::new();
    changes.put(doc_ref, &found.rev, body);
    api.platform.raw_store().commit(changes).await.expect("stored");
}

#[tokio::test]
async fn a_queued_job_says_what_it_waits_for() {
    let api = Api::new().await;
    let (first, second) = (push(&api).await, push(&api).await);
    let waits_for = async |id: &str| {
        let job = api.send(TestRequest::get(&format!("/jobs/{id}")).token(&api.token("io.cozy.jobs"))).await;
        job.json()["data"]["attributes"].get("waits_for").cloned()
    };
    assert_eq!(waits_for(&first).await, None, "only for a worker");
    // Both run the same konnector without an account.
    let now = api.clock.now();
    let started = |body: &mut Map| drop(body.insert("state".to_owned(), json!("running")));
    let leases = api.platform.raw_store().claim("w", now, 2, &|_, _| Vec::new(), &started).await.expect("claimed");
    assert_eq!(leases.iter().map(|lease| lease.job.id.as_str()).collect::<Vec<_>>(), [first.as_str()]);
    assert_eq!(waits_for(&first).await, None);
    assert_eq!(waits_for(&second).await, Some(json!({ "reason": "job", "id": first })));

    // A retry has a time.
    let later = now + chrono::TimeDelta::minutes(5);
    let mut changes = Changes::new();
    changes.enqueue(api.alice.doc(&JOBS, &second), QueueEntry::new(later, now));
    api.platform.raw_store().commit(changes).await.expect("stored");
    assert_eq!(waits_for(&second).await, Some(json!({ "reason": "time", "until": later })));
}

#[tokio::test]
async fn a_job_without_kept_lines_has_an_empty_log() {
    let api = Api::new().await;
    let id = push(&api).await;
    let response = api.send(TestRequest::get(&format!("/jobs/{id}/log")).token(&api.token("io.cozy.jobs"))).await;
    assert_eq!((response.status, response.text(), response.header(CONTENT_TYPE)), (200, "", "application/x-ndjson"));
}

/// Secrets in them are masked; a konnector that read its own would learn which of its guesses are secrets.
#[tokio::test]
async fn a_konnector_does_not_read_what_runs_say() {
    let api = Api::new().await;
    let rules = json!({ "jobs": { "type": "io.cozy.jobs" }, "triggers": { "type": "io.cozy.triggers" } });
    api.install("reader", rules).await;
    let id = push(&api).await;
    let token = api.token_of(Audience::Konnector, "reader", "");
    for path in [
        format!("/jobs/{id}"),
        format!("/jobs/{id}/log"),
        format!("/jobs/{id}/events"),
        "/jobs/queue/konnector".to_owned(),
        format!("/data/io.cozy.jobs/{id}"),
        "/data/io.cozy.jobs/_all_docs".to_owned(),
        "/data/io.cozy.jobs/_normal_docs".to_owned(),
        "/data/io.cozy.jobs/_changes".to_owned(),
    ] {
        let response = api.send(TestRequest::get(&path).token(&token)).await;
        assert_eq!(response.status, 403, "{path}: {}", response.text());
    }
    let find = TestRequest::post("/data/io.cozy.jobs/_find").token(&token).json(&json!({ "selector": {} }));
    assert_eq!(api.send(find).await.status, 403);
}

/// Returns the event stream of a job. It is subscribed when this returns; the job is read with the first frame.
async fn follow(api: &Api, id: &str) -> Body {
    let request = TestRequest::get(&format!("/jobs/{id}/events")).token(&api.token("io.cozy.jobs"));
    konnector_api::public(api.platform.clone()).oneshot(Request::from(request)).await.expect("infallible").into_body()
}

#[tokio::test]
async fn a_job_is_followed_until_it_ends() {
    let api = Api::new().await;
    let (id, other) = (push(&api).await, push(&api).await);
    let token = api.token("io.cozy.jobs");
    let publish = |doctype: &konnector_manifest::Doctype, id: &str, doc| {
        api.platform.realtime().publish(RealtimeEvent {
            instance: api.alice.id.clone(),
            kind: ChangeKind::Updated,
            doctype: doctype.clone(),
            id: id.to_owned(),
            doc: object(doc),
        });
    };
    let mut body = follow(&api, &id).await;
    let first = body.frame().await.expect("not ended").expect("a frame").into_data().expect("data");
    publish(&JOB_LOGS, &other, json!({ "message": "of another job" }));
    publish(&JOB_LOGS, &id, json!({ "level": "info", "message": "hello" }));
    publish(&JOB_EVENTS, &id, json!({ "type": "progress", "done": 1, "total": 3, "label": "bills" }));
    publish(&JOB_EVENTS, &id, json!({ "type": "code_needed", "medium": "SMS", "hint": "**12" }));
    end(&api, &id).await;
    publish(&JOBS, &id, json!({}));
    let rest = body.collect().await.expect("a body").to_bytes();
    let text = String::from_utf8([first, rest].concat()).expect("a text");
    let events: Vec<&str> = text.split("\r\n\r\n").collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event.split("\r\n").next()).collect();
    let expected = ["event: state", "event: log", "event: progress", "event: code_needed", "event: state", ""];
    assert_eq!(names, expected, "{text}");
    assert_eq!(events[1], "event: log\r\ndata: {\"level\":\"info\",\"message\":\"hello\"}");
    assert!(events[0].contains("\"state\":\"queued\"") && events[4].contains("\"state\":\"done\""), "{text}");
    // A late client gets the final state, and the stream ends.
    let late = api.send(TestRequest::get(&format!("/jobs/{id}/events")).token(&token)).await;
    assert_eq!(late.text(), format!("{}\r\n\r\n", events[4]));
}

#[tokio::test]
async fn a_slow_listener_still_receives_the_end() {
    let api = Api::new().await;
    let id = push(&api).await;
    let body = follow(&api, &id).await;
    for number in 0..3_000 {
        api.platform.realtime().publish(RealtimeEvent {
            instance: api.alice.id.clone(),
            kind: ChangeKind::Created,
            doctype: JOB_LOGS.clone(),
            id: id.clone(),
            doc: object(json!({ "message": number })),
        });
        if number == 100 {
            end(&api, &id).await;
        }
    }
    let body = body.collect().await.expect("a body").to_bytes();
    let text = std::str::from_utf8(&body).expect("a text");
    assert!(text.contains("\"state\":\"done\""), "{text}");
}
