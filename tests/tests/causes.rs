//! The cause of a run reaches the konnector, through the typed contract and through Cozy's environment; and clean-up
//! runs when accounts are deleted.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::recorder::RecordingServer;
use konnector_tests::server::{TestServer, reqwest_client, run_command};
use reqwest::Method;
use serde_json::{Value, json};

/// What a vendor received since the last call: cause and login, sorted.
fn received(vendor: &RecordingServer) -> Vec<String> {
    let requests = vendor.take_requests().into_iter().map(|body| {
        let request: Value = serde_json::from_str(&body).expect("JSON");
        format!("{} {}", request["cause"].as_str().expect("a cause"), request["login"].as_str().expect("a login"))
    });
    let mut requests: Vec<String> = requests.collect();
    requests.sort();
    requests
}

/// Installs a guest that cleans up.
async fn install(client: &TestClient, folder: &Path, slug: &str, guest: &str, vendor: Option<&RecordingServer>) {
    let mut manifest = json!({
        "name": slug, "version": "1.0.0", "type": "konnector", "on_delete_account": "onDeleteAccount.js",
        "permissions": { "accounts": { "type": "io.cozy.accounts", "verbs": ["GET"] } },
        "fields": { "login": { "type": "text" }, "password": { "type": "password" } },
    });
    if let Some(RecordingServer { url, .. }) = vendor {
        manifest["permissions"]["vendor"] = json!({ "type": "http", "values": [url] });
        manifest["parameters"] = json!({ "url": url });
    }
    let source = bundle::write_guest(&folder.join(slug), guest, &manifest);
    assert_eq!(client.install(slug, &source).await.0, 202);
}

async fn account(client: &TestClient, slug: &str, login: &str) -> String {
    client.create_account(slug, json!({ "login": login, "password": "s3cret-enough" })).await
}

/// The log of the only job with this cause, once it has succeeded.
async fn logged(client: &TestClient, slug: &str, cause: &str) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut jobs = client.documents("io.cozy.jobs").await;
        jobs.retain(|job| job["cause"] == cause && job["message"]["konnector"] == slug);
        match jobs.as_slice() {
            [job] if job["state"] == "done" => {
                let id = job["_id"].as_str().expect("an id");
                let log = String::from_utf8(client.bytes(&format!("/jobs/{id}/log")).await).expect("text");
                let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
                return lines.map(|line| line["message"].as_str().expect("a message").to_owned()).collect();
            }
            [] | [_] => {}
            several => panic!("several: {several:#?}"),
        }
        assert!(Instant::now() < deadline, "{slug} {cause}: {jobs:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Adds a trigger; returns its id and the path of its webhook.
async fn trigger(client: &TestClient, kind: &str, arguments: &str, slug: &str, account: &str) -> (String, String) {
    let message = json!({ "konnector": slug, "account": account });
    let attributes = json!({ "type": kind, "arguments": arguments, "worker": "konnector", "message": message });
    let (status, body) = client.post("/jobs/triggers", json!({ "data": { "attributes": attributes } })).await;
    assert_eq!(status, 201, "{body}");
    let id = body["data"]["id"].as_str().expect("an id").to_owned();
    let webhook = format!("/jobs/webhooks/{id}");
    (id, webhook)
}

async fn delete_account(client: &TestClient, id: &str) {
    let path = format!("/data/io.cozy.accounts/{id}");
    let rev = client.get(&path).await["_rev"].as_str().expect("a revision").to_owned();
    assert_eq!(client.request(Method::DELETE, &format!("{path}?rev={rev}"), None).await.0, 200);
}

#[tokio::test]
async fn a_konnector_learns_why_it_was_started() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    for (slug, guest) in [("typed", "cause"), ("command", "environment")] {
        install(&client, data.path(), slug, guest, None).await;
        let account = account(&client, slug, "ada").await;
        let doctype = format!("io.cozy.{slug}");
        let (soon, _) = trigger(&client, "@in", "1s", slug, &account).await;
        let (event, _) = trigger(&client, "@event", &format!("{doctype}:CREATED"), slug, &account).await;
        let (hook, webhook) = trigger(&client, "@webhook", "", slug, &account).await;
        let by_hand = client.create_trigger(slug, &account).await;
        client.launch(&by_hand).await;
        assert_eq!(client.post(&format!("/data/{doctype}/"), json!({ "paid": true })).await.0, 201);
        assert_eq!(client.post(&webhook, json!({ "order": 7 })).await.0, 204);
        for (cause, trigger) in [
            ("manual", Some(&by_hand)),
            ("schedule", Some(&soon)),
            ("event", Some(&event)),
            ("webhook", Some(&hook)),
            ("account_deleted", None),
        ] {
            if cause == "account_deleted" {
                delete_account(&client, &account).await;
            }
            let lines = logged(&client, slug, cause).await;
            let says = |text: &str| assert!(lines.iter().any(|line| line == text), "{cause}: no {text} in {lines:#?}");
            let payload = Some(r#"{"order":7}"#).filter(|_| cause == "webhook");
            if slug == "typed" {
                let name = match cause {
                    "manual" => "Manual",
                    "schedule" => "Schedule",
                    "event" => "Event",
                    "webhook" => "Webhook",
                    _ => "AccountDeleted",
                };
                let payload = payload.unwrap_or("null");
                says(&format!(r#"{{"cause":"Cause::{name}","login":"ada","payload":{payload}}}"#));
                continue;
            }
            says(&format!("COZY_JOB_MANUAL_EXECUTION={}", matches!(cause, "manual" | "account_deleted")));
            says(&format!("COZY_PAYLOAD={}", payload.unwrap_or_default()));
            let fields = lines.iter().find_map(|line| line.strip_prefix("COZY_FIELDS=")).expect("fields");
            let fields: Value = serde_json::from_str(fields).expect("JSON");
            assert_eq!(fields["account"], account.as_str());
            assert_eq!(fields["account_deleted"] == true, cause == "account_deleted", "{cause}: {fields}");
            match trigger {
                Some(id) => says(&format!("COZY_TRIGGER_ID={id}")),
                None => assert!(!lines.iter().any(|line| line.starts_with("COZY_TRIGGER_ID")), "{lines:#?}"),
            }
        }
    }
}

/// X9 of the behaviour reference, first part: an account that is deleted, and a konnector that is uninstalled.
#[tokio::test]
async fn x9_a_konnector_cleans_up_after_an_account_and_after_all_before_it_goes() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let (client, vendor) = (server.client().await, RecordingServer::start(|_| (200, "{}")));
    install(&client, data.path(), "shop", "cause", Some(&vendor)).await;
    let first = account(&client, "shop", "ada").await;
    for login in ["bob", "eve"] {
        account(&client, "shop", login).await;
    }
    delete_account(&client, &first).await;
    logged(&client, "shop", "account_deleted").await;
    assert_eq!(received(&vendor), ["Cause::AccountDeleted ada"]);
    assert_eq!(client.request(Method::DELETE, "/konnectors/shop", None).await.0, 202);
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.request(Method::GET, "/konnectors/shop", None).await.0 != 404 {
        assert!(Instant::now() < deadline, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(received(&vendor), ["Cause::AccountDeleted bob", "Cause::AccountDeleted eve"]);
    assert_eq!(client.documents("io.cozy.accounts").await.len(), 0);
}

/// X9, second part: an instance that is deleted. There is no mail: the caller who deletes it is informed.
#[tokio::test]
async fn x9_an_instance_goes_after_all_konnectors_cleaned_up_and_stays_while_one_fails() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    let status = Arc::new(AtomicU16::new(500));
    let response_status = Arc::clone(&status);
    let healthy_vendor = RecordingServer::start(|_| (200, "{}"));
    let failing_vendor = RecordingServer::start(move |_| (response_status.load(Ordering::Relaxed), "{}"));
    install(&client, data.path(), "shop", "cause", Some(&healthy_vendor)).await;
    install(&client, data.path(), "bank", "cause", Some(&failing_vendor)).await;
    account(&client, "shop", "ada").await;
    let with_trigger = account(&client, "shop", "bob").await;
    client.create_trigger("shop", &with_trigger).await;
    let fails = account(&client, "bank", "eve").await;
    account(&client, "absent", "joe").await;

    let remove = || run_command(data.path(), &["instances", "rm", &client.domain, "--yes"]);
    for expected in [vec!["Cause::AccountDeleted ada", "Cause::AccountDeleted bob"], vec![]] {
        let ran = remove();
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let error: Value = serde_json::from_str(&ran.stderr).expect("JSON");
        let message = error["error"]["message"].as_str().expect("a text");
        assert!(message.contains(&format!("{fails} (bank)")) && !message.contains("(shop)"), "{message}");
        assert!(message.contains("the vendor answers 500"), "{message}");
        // The instance exists, as does everything that needs no clean-up; konnectors that succeeded are not run
        // again.
        assert_eq!(client.documents("io.cozy.accounts").await.len(), 1);
        assert_eq!(received(&healthy_vendor), expected);
        assert_eq!(received(&failing_vendor), ["Cause::AccountDeleted eve"]);
    }
    status.store(200, Ordering::Relaxed);
    let ran = remove();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(received(&failing_vendor), ["Cause::AccountDeleted eve"]);
    let response = reqwest_client().get(format!("{}/konnectors/", server.url)).bearer_auth(&client.token).send().await;
    assert_eq!(response.expect("an answer").status(), 404);
}
