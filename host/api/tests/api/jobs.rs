//! `/jobs`.

use axum::body::Body;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use konnector_platform::doctype::{JOB_EVENTS, JOB_LOGS, JOBS};
use konnector_platform::realtime::{Event, Happened};
use konnector_platform::token::Audience;
use konnector_store::Changes;
use serde_json::json;
use tower::ServiceExt as _;

use crate::support::{Api, Call, NOW, object};

/// J1 to J6, J15.
#[tokio::test]
async fn jobs_are_pushed_and_shown() {
    let api = Api::new().await;
    let token = api.token("io.cozy.jobs::konnector:worker io.cozy.jobs::none:worker");
    let queue = || Call::post("/jobs/queue/konnector").token(&token);
    let message = json!({ "konnector": "bank", "account": "a1" });
    let calls = [
        Call::get("/jobs/queue/konnector").token(&token),
        queue().attributes(json!({ "arguments": message })),
        queue().attributes(json!({ "arguments": message, "manual": true, "options": { "timeout": 42 } })),
        Call::post("/jobs/queue/trash-files").token(&token).attributes(json!({ "arguments": message })),
        Call::post("/jobs/queue/none").token(&token).attributes(json!({ "arguments": message })),
        queue().attributes(json!({ "arguments": "foobar" })),
        queue().attributes(json!({ "arguments": message, "options": { "timeout": "long" } })),
        queue().text("{"),
        queue().json(&json!({})),
        Call::get("/jobs/0123456789abcdef0123456789abcdef").token(&token),
    ];
    insta::assert_snapshot!(api.transcript(calls).await);
    let queued = api.send(Call::get("/jobs/queue/konnector").token(&token)).await.json();
    assert_eq!(queued["meta"]["count"], 2);
    let id = queued["data"][0]["id"].as_str().expect("an id");
    let shown = api.send(Call::get(&format!("/jobs/{id}")).token(&token)).await.json();
    assert_eq!(shown["data"], queued["data"][0]);
    let patch = Call::patch(&format!("/jobs/{id}")).token(&token).attributes(json!({ "state": "done" }));
    assert_eq!(api.send(patch).await.status, 403);
}

#[tokio::test]
async fn only_the_command_line_may_ask_for_logs() {
    let api = Api::new().await;
    let body = json!({ "arguments": { "konnector": "bank" }, "forward_logs": true });
    let push = |token: String| Call::post("/jobs/queue/konnector").token(&token).attributes(body.clone());
    assert_eq!(api.send(push(api.token("io.cozy.jobs"))).await.status, 202);
    assert_eq!(api.send(push(api.token_of(Audience::App, "home", "io.cozy.jobs"))).await.status, 403);
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_is_refused() {
    let api = Api::new().await;
    let body = json!({ "arguments": { "konnector": "bank", "padding": "x".repeat(1 << 20) } });
    let answer = api.send(Call::post("/jobs/queue/konnector").token(&api.token("*")).attributes(body)).await;
    assert_eq!(answer.status, 413, "{answer}");
    assert_eq!(answer.json()["errors"][0]["status"], "413");
}

/// Pushes a job; its id.
async fn push(api: &Api) -> String {
    let body = json!({ "arguments": { "konnector": "bank" } });
    api.send(Call::post("/jobs/queue/konnector").token(&api.token("*")).attributes(body)).await.id()
}

/// Lets a job be done, as a worker would.
async fn end(api: &Api, id: &str) {
    let at = api.alice.doc(&JOBS, id);
    let found = api.platform.store.get(&at).expect("readable").expect("a job");
    let mut body = found.body;
    body.insert("state".to_owned(), json!("done"));
    body.insert("finished_at".to_owned(), json!(NOW));
    let mut changes = Changes::new();
    changes.put(at, &found.rev, body);
    api.platform.store.commit(changes).await.expect("stored");
}

#[tokio::test]
async fn a_job_without_kept_lines_has_an_empty_log() {
    let api = Api::new().await;
    let id = push(&api).await;
    let answer = api.send(Call::get(&format!("/jobs/{id}/log")).token(&api.token("io.cozy.jobs"))).await;
    assert_eq!((answer.status, answer.text(), answer.header(CONTENT_TYPE)), (200, "", "application/x-ndjson"));
}

/// The stream of a job's events. Its listening has begun when this returns; the job is looked at when the first frame is read.
async fn follow(api: &Api, id: &str) -> Body {
    let request = Call::get(&format!("/jobs/{id}/events")).token(&api.token("io.cozy.jobs"));
    konnector_api::public(api.platform.clone()).oneshot(Request::from(request)).await.expect("infallible").into_body()
}

#[tokio::test]
async fn a_job_is_followed_until_it_ends() {
    let api = Api::new().await;
    let (id, other) = (push(&api).await, push(&api).await);
    let token = api.token("io.cozy.jobs");
    let tell = |doctype: &konnector_manifest::Doctype, id: &str, doc| {
        api.platform.bus.publish(Event {
            instance: api.alice.id.clone(),
            happened: Happened::Updated,
            doctype: doctype.clone(),
            id: id.to_owned(),
            doc: object(doc),
        });
    };
    let mut body = follow(&api, &id).await;
    let first = body.frame().await.expect("not ended").expect("a frame").into_data().expect("data");
    tell(&JOB_LOGS, &other, json!({ "message": "of another job" }));
    tell(&JOB_LOGS, &id, json!({ "level": "info", "message": "hello" }));
    tell(&JOB_EVENTS, &id, json!({ "type": "progress", "done": 1, "total": 3, "label": "bills" }));
    tell(&JOB_EVENTS, &id, json!({ "type": "code_needed", "medium": "SMS", "hint": "**12" }));
    end(&api, &id).await;
    tell(&JOBS, &id, json!({}));
    let rest = body.collect().await.expect("a body").to_bytes();
    let text = String::from_utf8([first, rest].concat()).expect("a text");
    let events: Vec<&str> = text.split("\r\n\r\n").collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event.split("\r\n").next()).collect();
    let expected = ["event: state", "event: log", "event: progress", "event: code_needed", "event: state", ""];
    assert_eq!(names, expected, "{text}");
    assert_eq!(events[1], "event: log\r\ndata: {\"level\":\"info\",\"message\":\"hello\"}");
    assert!(events[0].contains("\"state\":\"queued\"") && events[4].contains("\"state\":\"done\""), "{text}");
    // Whoever comes late sees how it ended, and the stream ends.
    let late = api.send(Call::get(&format!("/jobs/{id}/events")).token(&token)).await;
    assert_eq!(late.text(), format!("{}\r\n\r\n", events[4]));
}

#[tokio::test]
async fn a_slow_listener_that_missed_the_end_is_told_it() {
    let api = Api::new().await;
    let id = push(&api).await;
    let body = follow(&api, &id).await;
    for number in 0..3_000 {
        api.platform.bus.publish(Event {
            instance: api.alice.id.clone(),
            happened: Happened::Created,
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
