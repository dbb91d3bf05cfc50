//! Command components in a real server: the environment contract of Cozy's konnectors, end to end.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::collections::BTreeMap;

use demo_vendor::{Vendor, VendorHandle, VendorOptions};
use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::server::{TestServer, example_binary, run_command};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// A server with plain101 and an account at the vendor.
struct CommandFixture {
    server: TestServer,
    client: TestClient,
    account: String,
    _data: TempDir,
}

impl CommandFixture {
    async fn new(vendor: &VendorHandle, password: &str, change: impl FnOnce(&mut Value)) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let server = TestServer::start(data.path());
        let client = server.client().await;
        let source = bundle::write_for_vendor(&data.path().join("bundle"), "plain101", vendor.url(), change);
        let (status, body) = client.install("plain101", &source).await;
        assert_eq!(status, 202, "{body}");
        let account = client
            .create_account("plain101", json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": password }))
            .await;
        Self { server, client, account, _data: data }
    }

    /// The bills without the fields that differ between servers.
    async fn bills(&self) -> BTreeMap<String, Value> {
        let bills = self.client.documents("io.cozy.bills").await;
        bills
            .into_iter()
            .map(|mut bill| {
                let members = bill.as_object_mut().expect("an object");
                let id = members.remove("_id").and_then(|id| id.as_str().map(str::to_owned)).expect("an id");
                members.retain(|name, _| !name.starts_with('_') && name != "cozyMetadata");
                (id, bill)
            })
            .collect()
    }

    async fn run(&self) -> (Value, String) {
        let trigger = self.client.create_trigger("plain101", &self.account).await;
        let job = self.client.launch(&trigger).await;
        let job_document = self.client.wait_for_job(&job).await;
        (job_document, trigger)
    }
}

async fn vendor() -> VendorHandle {
    Vendor::start(VendorOptions::default()).await.expect("a vendor")
}

#[tokio::test]
async fn the_same_program_saves_the_same_as_a_process_and_as_a_component() {
    let vendor = vendor().await;
    let inside = CommandFixture::new(&vendor, demo_vendor::DEFAULT_PASSWORD, |_| {}).await;
    let (job, _) = inside.run().await;
    assert_eq!(job["state"], "done", "{job:#}");
    let bills = inside.bills().await;
    assert_eq!(bills.len(), demo_vendor::DEFAULT_BILLS);

    // The receipt covers both: the bank over the network, and our own API, which is in this process.
    let receipt = &job["receipt"];
    let hosts = receipt["hosts"].as_array().expect("hosts");
    let own = hosts.iter().find(|host| host["own"] == true).expect("our own API");
    assert_eq!(own["host"], inside.server.url, "{receipt:#}");
    assert_eq!(own["requests"], demo_vendor::DEFAULT_BILLS + 2, "{receipt:#}");
    assert!(hosts.iter().any(|host| host["host"] == vendor.url() && host["own"] != true), "{receipt:#}");
    assert_eq!((&receipt["reads_secrets"], &receipt["secrets_read"]), (&json!(true), &json!(1)), "{receipt:#}");
    let konnector = inside.client.get("/konnectors/plain101").await;
    assert_eq!(konnector["data"]["attributes"]["reads_secrets"], true);

    let outside = CommandFixture::new(&vendor, demo_vendor::DEFAULT_PASSWORD, |_| {}).await;
    let (_, token) = outside.server.token("konn", "plain101", "").await;
    let fields = json!({ "account": outside.account, "konnector": "plain101" });
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(example_binary("plain101"))
        .env_clear()
        .current_dir(folder.path())
        .env("COZY_URL", format!("{}/", outside.server.url))
        .env("COZY_CREDENTIALS", token)
        .env("COZY_FIELDS", fields.to_string())
        .env("COZY_PARAMETERS", json!({ "url": vendor.url() }).to_string())
        .output()
        .await
        .expect("the program runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("bills are new"), "{stdout}");
    assert_eq!(outside.bills().await, bills, "{stdout}");

    // The same bytes: in the folder of the process, and in the person's files of the component.
    let files = inside.client.files().await;
    assert_eq!(files.len(), demo_vendor::DEFAULT_BILLS);
    for file in files {
        let name = file["name"].as_str().expect("a name");
        let id = file["_id"].as_str().expect("an id");
        let inside = inside.client.bytes(&format!("/files/download/{id}")).await;
        assert!(inside.starts_with(b"%PDF") && file["mime"] == "application/pdf", "{file:#}");
        assert!(inside == std::fs::read(folder.path().join(name)).expect(name), "{name} differs");
    }

    // Run again: nothing is new, in either way.
    let (again, _) = inside.run().await;
    assert_eq!(again["state"], "done", "{again:#}");
    assert_eq!(inside.bills().await, bills);
}

#[tokio::test]
async fn a_rejected_password_pauses_the_schedule() {
    let vendor = vendor().await;
    let fixture = CommandFixture::new(&vendor, "wrong", |_| {}).await;
    let (job, trigger) = fixture.run().await;
    assert_eq!((&job["state"], &job["error"]), (&json!("errored"), &json!("LOGIN_FAILED")), "{job:#}");
    assert!(job["error_message"].as_str().expect("a sentence").contains("Correct them in the account"), "{job:#}");
    assert_eq!(job["next_attempt_at"], Value::Null, "{job:#}");
    let trigger = fixture.client.get(&format!("/jobs/triggers/{trigger}")).await;
    assert_eq!(trigger["data"]["attributes"]["current_state"]["paused"]["code"], "LOGIN_FAILED", "{trigger:#}");
}

#[tokio::test]
async fn a_vendor_that_is_down_is_tried_again() {
    let vendor = vendor().await;
    let fixture = CommandFixture::new(&vendor, demo_vendor::DEFAULT_PASSWORD, |_| {}).await;
    vendor.control().set(|switches| switches.maintenance = true);
    let (job, _) = fixture.run().await;
    assert_eq!(job["state"], "errored", "{job:#}");
    assert!(job["error"].as_str().expect("a code").starts_with("VENDOR_DOWN"), "{job:#}");
    assert!(job["next_attempt_at"].is_string(), "{job:#}");
}

/// `konnector run` has neither a schedule nor a server that could try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_a_server_promises_no_retry_and_no_schedule() {
    let vendor = vendor().await;
    let data = tempfile::tempdir().expect("a folder");
    let folder = data.path().join("bundle");
    bundle::write_for_vendor(&folder, "plain101", vendor.url(), |_| {});
    let run = |password: &str| {
        let login = format!("login={}", demo_vendor::DEFAULT_LOGIN);
        let password = format!("password={password}");
        let path = folder.to_str().expect("UTF-8");
        let run =
            ["run", path, "--allow-address", "127.0.0.1", "--field", login.as_str(), "--field", password.as_str()];
        run_command(data.path(), &run).json["job"].clone()
    };
    let rejected = run("wrong");
    assert_eq!(rejected["error"], "LOGIN_FAILED", "{rejected:#}");
    let message = rejected["error_message"].as_str().expect("a sentence");
    assert!(message.ends_with("Correct them in the account."), "{message}");
    vendor.control().set(|switches| switches.maintenance = true);
    let down = run(demo_vendor::DEFAULT_PASSWORD);
    assert!(down["error"].as_str().expect("a code").starts_with("VENDOR_DOWN"), "{down:#}");
    assert!(!down["error_message"].as_str().expect("a sentence").contains("retried"), "{down:#}");
    assert_eq!(down["next_attempt_at"], Value::Null, "{down:#}");
}

#[tokio::test]
async fn the_api_and_the_gate_deny_requests_without_a_rule() {
    let vendor = vendor().await;
    let fixture = CommandFixture::new(&vendor, demo_vendor::DEFAULT_PASSWORD, |manifest| {
        manifest["permissions"].as_object_mut().expect("rules").remove("bills");
    })
    .await;
    let (job, _) = fixture.run().await;
    let error = job["error"].as_str().expect("an error");
    assert!(error.contains("403") && error.contains("io.cozy.bills"), "{job:#}");
    assert!(fixture.bills().await.is_empty());
}

#[tokio::test]
async fn a_run_sees_the_passwords_of_its_own_account_and_nothing_of_the_operator() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    let other = client.create_account("requests", json!({ "login": "other", "password": "correct horse" })).await;
    let foreign = client.create_account("elsewhere", json!({ "login": "foreign", "password": "battery staple" })).await;
    let own = client.create_account("requests", json!({ "login": "own", "password": "hunter22" })).await;
    let authority = server.url.trim_start_matches("http://").to_owned();
    let ask = |name: &str, path: String| json!({ "name": name, "authority": authority, "path": path, "whole": true, "headers": [["authorization", "Bearer $COZY_CREDENTIALS"]] });
    let account = |id: &str| format!("/data/io.cozy.accounts/{id}");
    let requests = json!([
        ask("own", account(&own)),
        ask("other", account(&other)),
        ask("foreign", account(&foreign)),
        ask("admin", "/instances".to_owned()),
        { "name": "without token", "authority": authority, "path": account(&own) },
    ]);
    let manifest = json!({
        "name": "Requests", "version": "1.0.0", "type": "konnector", "parameters": { "requests": requests },
        "permissions": { "accounts": { "type": "io.cozy.accounts", "verbs": ["GET"] } },
    });
    let source = bundle::write_guest(&data.path().join("bundle"), "wasi_requests", &manifest);
    assert_eq!(client.install("requests", &source).await.0, 202);
    let trigger = client.create_trigger("requests", &own).await;
    let job = client.launch(&trigger).await;
    let job_document = client.wait_for_job(&job).await;
    assert_eq!(job_document["state"], "done", "{job_document:#}");
    let log = String::from_utf8(client.bytes(&format!("/jobs/{job}/log")).await).expect("text");
    let line = |name: &str| log.lines().find(|line| line.contains(&format!("\"{name}: "))).expect(name).to_owned();
    // Its own password is masked in the log, which proves that it was present.
    assert!(line("own").contains("[masked]") && !line("own").contains("hunter22"), "{log}");
    for (name, password) in [("other", "correct horse"), ("foreign", "battery staple")] {
        assert!(line(name).contains(": 200 ") && line(name).contains("credentials_encrypted"), "{log}");
        assert!(!log.contains(password), "{log}");
    }
    assert!(line("admin").contains("404"), "{log}");
    assert!(line("without token").contains("401"), "{log}");
    assert_eq!(job_document["receipt"]["secrets_read"], 3, "{job_document:#}");
}

/// The API handles requests on its own threads; the run is charged for them anyway.
#[tokio::test]
async fn a_run_pays_for_what_its_requests_cost_the_api() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    for number in 0..60 {
        let bill = json!({ "n": number, "items": vec![json!({ "a": number }); 200] });
        assert_eq!(client.post("/data/io.cozy.bills/", bill).await.0, 201);
    }
    let selector = |parts: usize| {
        let part = json!({ "items": { "$elemMatch": { "a": { "$gt": 1_000 } } } });
        json!({ "selector": { "$or": vec![part; parts], "_id": { "$gt": null } } }).to_string()
    };
    let mut used = Vec::new();
    for parts in [1, 50] {
        let slug = format!("asks-{parts}");
        let body = selector(parts);
        let manifest = json!({
            "name": slug, "version": "1.0.0", "type": "konnector",
            "permissions": { "bills": { "type": "io.cozy.bills" } },
            "parameters": { "requests": [{
                "name": "find", "method": "POST", "authority": server.url.trim_start_matches("http://"),
                "path": "/data/io.cozy.bills/_find", "whole": true, "body": { "text": body },
                "headers": [
                    ["authorization", "Bearer $COZY_CREDENTIALS"], ["content-type", "application/json"],
                    ["content-length", body.len().to_string()],
                ],
            }] },
        });
        let source = bundle::write_guest(&data.path().join(&slug), "wasi_requests", &manifest);
        assert_eq!(client.install(&slug, &source).await.0, 202);
        let account = client.create_account(&slug, json!({ "login": "ada" })).await;
        let trigger = client.create_trigger(&slug, &account).await;
        let job = client.launch(&trigger).await;
        let job_document = client.wait_for_job(&job).await;
        assert_eq!(job_document["state"], "done", "{job_document:#}");
        let log = String::from_utf8(client.bytes(&format!("/jobs/{job}/log")).await).expect("text");
        assert!(log.contains("find: 200"), "{log}");
        used.push(job_document["receipt"]["cpu_ms"].as_u64().expect("a number"));
    }
    // Fifty times as many comparisons: 600,000.
    assert!(used[1] > used[0] + 50, "{used:?}");
}
