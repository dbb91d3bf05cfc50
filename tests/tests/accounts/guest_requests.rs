//! Requests that a konnector itself sends to the API.

use konnector_tests::bundle;
use konnector_tests::server::TestServer;
use serde_json::{Value, json};

use crate::{AccountsFixture, BANK, BANK_PASSWORD_PREFIX, OTHER_PASSWORD, THIEF, attributes, message, path};

/// Requests of a command component, as its parameters: name, method, path and body.
fn requests(server: &TestServer, list: &[(&str, &str, String, Option<Value>)]) -> Value {
    let authority = server.url.trim_start_matches("http://");
    let list = list.iter().map(|(name, method, path, body)| {
        let mut request = json!({
            "name": name, "method": method, "authority": authority, "path": path, "whole": true,
            "headers": [["authorization", "Bearer $COZY_CREDENTIALS"], ["content-type", "application/json"]],
        });
        if let Some(body) = body {
            let text = body.to_string();
            request["headers"].as_array_mut().expect("a list").push(json!(["content-length", text.len().to_string()]));
            request["body"] = json!({ "text": text });
        }
        request
    });
    list.collect()
}

/// Installs a command component that sends requests, and runs it for its own account; returns the lines of its log by
/// name.
async fn run_requests(fixture: &AccountsFixture, slug: &str, list: &[(&str, &str, String, Option<Value>)]) -> String {
    let AccountsFixture { client, .. } = fixture;
    let manifest = json!({
        "name": slug, "version": "1.0.0", "type": "konnector",
        "parameters": { "requests": requests(&fixture.server, list) },
        "permissions": {
            "accounts": { "type": "io.cozy.accounts", "verbs": ["GET", "POST", "PUT", "DELETE"] },
            "jobs": { "type": "io.cozy.jobs" }, "triggers": { "type": "io.cozy.triggers" },
        },
    });
    let source = bundle::write_guest(&fixture.data.path().join(slug), "wasi_requests", &manifest);
    assert_eq!(client.install(slug, &source).await.0, 202);
    let own = fixture.account(slug, OTHER_PASSWORD).await;
    let trigger = client.create_trigger(slug, &own).await;
    let job = client.launch(&trigger).await;
    let document = client.wait_for_job(&job).await;
    assert_eq!(document["state"], "done", "{document:#}");
    String::from_utf8(client.bytes(&format!("/jobs/{job}/log")).await).expect("text")
}

fn line<'a>(log: &'a str, name: &str) -> &'a str {
    log.lines().find(|line| line.contains(&format!("\"{name}: "))).unwrap_or_else(|| panic!("{name}: {log}"))
}

#[tokio::test]
async fn a_konnector_that_may_push_jobs_gets_no_placeholder_of_another_ones_password() {
    let fixture = AccountsFixture::new().await;
    let bank_account = fixture.account(BANK, BANK_PASSWORD_PREFIX).await;
    let job = |konnector: &str| Some(attributes(json!({ "arguments": message(konnector, &bank_account) })));
    let queue = || "/jobs/queue/konnector".to_owned();
    let log = run_requests(
        &fixture,
        "pusher",
        &[
            ("for thief", "POST", queue(), job(THIEF)),
            ("for itself", "POST", queue(), job("pusher")),
            ("for bank", "POST", queue(), job(BANK)),
            ("schedule", "POST", format!("/konnectors/thief/trigger?AccountID={bank_account}&ExecNow=true"), None),
        ],
    )
    .await;
    assert!(line(&log, "for itself").contains(": 422 "), "{log}");
    assert!(line(&log, "for itself").contains("belongs to the konnector"), "{log}");
    // Jobs of other konnectors, and actions of people, are rejected regardless of the account's owner.
    for name in ["for thief", "for bank", "schedule"] {
        assert!(line(&log, name).contains(": 403 "), "{log}");
    }
    fixture.wait_idle().await;
    assert_eq!(fixture.thief_vendor.take_requests(), Vec::<String>::new());
    assert_eq!(fixture.bank_vendor.take_requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_konnector_cannot_make_an_account_its_own() {
    let fixture = AccountsFixture::new().await;
    let client = &fixture.client;
    let bank_account = fixture.account(BANK, BANK_PASSWORD_PREFIX).await;
    let before = client.get(&path(&bank_account)).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut account = before.clone();
        change(&mut account);
        Some(account)
    };
    let taken = changed(&|account| account["account_type"] = json!("taker"));
    let new = Some(json!({ "account_type": "taker", "auth": before["auth"] }));
    let docs = |edits: bool| {
        let mut taken = taken.clone().expect("a body");
        if !edits {
            // The next revision, from a database that also has the current one.
            let (_, current) = before["_rev"].as_str().and_then(|rev| rev.split_once('-')).expect("a revision");
            let next = "0123456789abcdef0123456789abcdef";
            taken["_rev"] = json!(format!("2-{next}"));
            taken["_revisions"] = json!({ "start": 2, "ids": [next, current] });
        }
        Some(json!({ "new_edits": edits, "docs": [taken] }))
    };
    let put = || path(&bank_account);
    let log = run_requests(
        &fixture,
        "taker",
        &[
            ("put", "PUT", put(), taken.clone()),
            ("share", "PUT", put(), changed(&|account| account["shared_with"] = json!(["taker"]))),
            ("host", "PUT", put(), changed(&|account| account["auth"]["url"] = json!("https://thief.example"))),
            ("delete", "DELETE", format!("{}?rev={}", put(), before["_rev"].as_str().expect("a revision")), None),
            ("bulk", "POST", "/data/io.cozy.accounts/_bulk_docs".to_owned(), docs(true)),
            ("replica", "POST", "/data/io.cozy.accounts/_bulk_docs".to_owned(), docs(false)),
            ("sealed", "POST", "/data/io.cozy.accounts/".to_owned(), new),
            ("for bank", "POST", "/data/io.cozy.accounts/".to_owned(), Some(json!({ "account_type": BANK }))),
            ("read", "GET", put(), None),
        ],
    )
    .await;
    for name in ["put", "share", "host", "delete", "for bank"] {
        assert!(line(&log, name).contains(": 403 ") && line(&log, name).contains("account_type: "), "{log}");
    }
    for name in ["bulk", "replica"] {
        assert!(line(&log, name).contains("account_type: "), "{log}");
    }
    assert!(line(&log, "sealed").contains(": 400 ") && line(&log, "sealed").contains("cannot be accepted"), "{log}");
    assert!(line(&log, "read").contains(": 200 ") && line(&log, "read").contains("credentials_encrypted"), "{log}");
    assert!(!log.contains(BANK_PASSWORD_PREFIX), "{log}");
    assert_eq!(client.get(&path(&bank_account)).await, before);
}
