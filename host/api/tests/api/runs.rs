//! Runs of jobs, and their retries.

use konnector_platform::doctype::JOBS;
use serde_json::{Value, json};

use crate::support::{Api, TestRequest, component_of, manifest, write_bundle};

/// Installs a konnector whose runs execute these instructions.
async fn install(api: &Api, slug: &str, instructions: &str) {
    let folder = api.folder.path().join(slug);
    let source = write_bundle(&folder, &manifest("1.0.0", &["io.cozy.bills"]));
    std::fs::write(folder.join("konnector.wasm"), component_of(instructions)).expect("written");
    let events = api.follow(TestRequest::post(&format!("/konnectors/{slug}?Source={source}"))).await;
    assert_eq!(events.last().map(String::as_str), Some("ready 1.0.0"), "{events:?}");
}

async fn push(api: &Api, slug: &str, options: Value) {
    let job = json!({ "arguments": { "konnector": slug }, "manual": true, "options": options });
    let response = api.send(TestRequest::post("/jobs/queue/konnector").token(&api.token("*")).attributes(job)).await;
    assert_eq!(response.status, 202, "{response}");
}

/// Returns the jobs of a konnector, oldest first, with attempt, state and error.
fn jobs(api: &Api, slug: &str) -> Vec<String> {
    let all = api.platform.raw_store().list(&api.alice.id, &JOBS, None, 100).expect("jobs");
    let own_jobs = all.iter().filter(|job| job.body["message"]["konnector"] == slug);
    let lines = own_jobs.map(|job| {
        let text = |name: &str| job.body.get(name).and_then(Value::as_str).unwrap_or_default();
        format!("{} {} {}", job.body["attempt"], text("state"), text("error")).trim_end().to_owned()
    });
    lines.collect()
}

#[tokio::test]
async fn a_konnector_that_logs_in_is_pushed_with_an_account() {
    let api = Api::new().await;
    let mut new_manifest = manifest("1.0.0", &["io.cozy.bills"]);
    new_manifest["fields"] = json!({ "login": { "type": "text" }, "password": { "type": "password" } });
    let source = write_bundle(&api.folder.path().join("shop"), &new_manifest);
    let events = api.follow(TestRequest::post(&format!("/konnectors/shop?Source={source}"))).await;
    assert_eq!(events.last().map(String::as_str), Some("ready 1.0.0"), "{events:?}");
    let push = |message: Value| {
        let job = json!({ "arguments": message, "manual": true });
        api.send(TestRequest::post("/jobs/queue/konnector").token(&api.token("*")).attributes(job))
    };
    let rejected = push(json!({ "konnector": "shop" })).await;
    assert_eq!(
        (rejected.status, &rejected.json()["errors"][0]["source"]["pointer"]),
        (422, &json!("/data/attributes/arguments/account")),
        "{rejected}"
    );
    assert_eq!(jobs(&api, "shop"), [""; 0]);
    let body = json!({ "account_type": "shop", "auth": { "login": "ada" } });
    let account =
        api.send(TestRequest::post("/data/io.cozy.accounts/").token(&api.token("*")).json(&body)).await.json();
    assert_eq!(push(json!({ "konnector": "shop", "account": account["id"] })).await.status, 202);
    let trigger = |message: Value| {
        let new = json!({ "type": "@cron", "arguments": "0 0 13 * * *", "worker": "konnector", "message": message });
        api.send(TestRequest::post("/jobs/triggers").token(&api.token("*")).attributes(new))
    };
    let rejected = trigger(json!({ "konnector": "shop" })).await;
    assert_eq!(
        (rejected.status, &rejected.json()["errors"][0]["source"]["pointer"]),
        (422, &json!("/data/attributes/message/account")),
        "{rejected}"
    );
    let created = trigger(json!({ "konnector": "shop", "account": account["id"] })).await;
    assert_eq!(created.status, 201, "{created}");
    let patch = json!({ "message": { "konnector": "shop" } });
    let path = format!("/jobs/triggers/{}", created.id());
    let rejected = api.send(TestRequest::patch(&path).token(&api.token("*")).attributes(patch)).await;
    assert_eq!(rejected.status, 422, "{rejected}");
    // A client runs these itself.
    let new = json!({ "type": "@client", "arguments": "", "worker": "client", "message": { "konnector": "shop" } });
    let created = api.send(TestRequest::post("/jobs/triggers").token(&api.token("*")).attributes(new)).await;
    assert_eq!(created.status, 201, "{created}");
    let unknown = trigger(json!({ "konnector": "shop", "account": "of-a-user-who-left" })).await;
    assert_eq!(unknown.status, 201, "an account that does not exist is for the run to find out: {unknown}");
}

/// Advances the clock by an hour, after which a failed run is retried.
fn pass_an_hour(api: &Api, hour: u32) {
    api.clock.set(format!("2026-11-20T{hour}:00:00Z").parse().expect("a date"));
}

/// Cozy retries within a second.
#[tokio::test]
async fn j18_a_run_that_panics_is_tried_again_and_holds_up_no_other() {
    let api = Api::with_config(|config, _| config.workers = 1).await;
    install(&api, "panics", "unreachable").await;
    install(&api, "works", "i32.const 0").await;
    api.start().await;
    push(&api, "panics", json!({})).await;
    push(&api, "works", json!({})).await;
    api.wait_until(vec!["1 done".to_owned()], async || jobs(&api, "works")).await;
    // The order in which the only worker takes the two is unspecified.
    let retried = vec!["1 errored UNKNOWN_ERROR".to_owned(), "2 queued".to_owned()];
    api.wait_until(retried, async || jobs(&api, "panics")).await;
    pass_an_hour(&api, 13);
    let both = ["1 errored UNKNOWN_ERROR", "2 errored UNKNOWN_ERROR"].map(str::to_owned).to_vec();
    api.wait_until(both, async || jobs(&api, "panics")).await;
}

/// A job may request fewer attempts than the default of two, but not more (Cozy API, konnector worker policy).
#[tokio::test]
async fn j18_a_run_that_takes_too_long_is_tried_again_as_often_as_its_job_allows() {
    let api = Api::new().await;
    install(&api, "once", "(loop br 0) unreachable").await;
    install(&api, "often", "(loop br 0) unreachable").await;
    api.start().await;
    push(&api, "once", json!({ "timeout": 1, "max_exec_count": 1 })).await;
    push(&api, "often", json!({ "timeout": 1, "max_exec_count": 4 })).await;
    api.wait_until(vec!["1 errored UNKNOWN_ERROR.TIMEOUT".to_owned(), "2 queued".to_owned()], async || {
        jobs(&api, "often")
    })
    .await;
    pass_an_hour(&api, 13);
    let both = [1, 2].map(|attempt| format!("{attempt} errored UNKNOWN_ERROR.TIMEOUT")).to_vec();
    api.wait_until(both, async || jobs(&api, "often")).await;
    assert_eq!(jobs(&api, "once"), ["1 errored UNKNOWN_ERROR.TIMEOUT"]);
}

#[tokio::test]
async fn x2_a_konnector_that_is_not_installed_is_not_run() {
    let api = Api::new().await;
    api.start().await;
    push(&api, "absent", json!({})).await;
    let expected = vec!["1 errored UNKNOWN_ERROR.KONNECTOR_NOT_INSTALLED".to_owned()];
    api.wait_until(expected, async || jobs(&api, "absent")).await;
}

#[tokio::test]
async fn j29_a_trigger_of_a_deleted_account_is_removed_by_its_first_job() {
    let api = Api::new().await;
    install(&api, "works", "i32.const 0").await;
    api.start().await;
    let new = json!({
        "type": "@cron", "arguments": "0 0 13 * * *", "worker": "konnector",
        "message": { "konnector": "works", "account": "gone" },
    });
    let trigger = api.send(TestRequest::post("/jobs/triggers").token(&api.token("*")).attributes(new)).await;
    let path = format!("/jobs/triggers/{}", trigger.id());
    pass_an_hour(&api, 13);
    api.wait_until(vec!["1 errored UNKNOWN_ERROR.ACCOUNT_NOT_FOUND".to_owned()], async || jobs(&api, "works")).await;
    assert_eq!(api.send(TestRequest::get(&path).token(&api.token("*"))).await.status, 404);
}
