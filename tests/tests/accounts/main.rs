//! An account belongs to one konnector: no other konnector can get any data of the account.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

mod attempts;
mod foreign_jobs;
mod guest_requests;
mod ownership;

use std::time::{Duration, Instant};

use konnector_tests::bundle;
use konnector_tests::client::{StatusAndBody, TestClient};
use konnector_tests::recorder::RecordingServer;
use konnector_tests::server::TestServer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Prefix of the bank's passwords, which only the bank may ever see.
const BANK_PASSWORD_PREFIX: &str = "hunter2-of-the-bank";
const BANK: &str = "bank";
const THIEF: &str = "thief";
/// The password of all other accounts.
const OTHER_PASSWORD: &str = "sesame-of-another";

/// A server with two konnectors that send their vendors everything that they have.
struct AccountsFixture {
    server: TestServer,
    client: TestClient,
    /// A client with a token of the thief.
    thief: TestClient,
    bank_vendor: RecordingServer,
    thief_vendor: RecordingServer,
    data: TempDir,
}

impl AccountsFixture {
    async fn new() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let unlimited = ["jobs", "webhooks", "events"].map(|kind| format!("--hourly-limit={kind}=0"));
        let server = TestServer::start_with(data.path(), &unlimited.each_ref().map(String::as_str));
        let client = server.client().await;
        let [bank_vendor, thief_vendor] = [(); 2].map(|()| RecordingServer::start(|_| (200, "{}")));
        for (slug, vendor) in [(BANK, &bank_vendor), (THIEF, &thief_vendor)] {
            let manifest = json!({
                "name": slug, "version": "1.0.0", "type": "konnector", "parameters": { "url": vendor.url },
                "fields": { "login": { "type": "text" }, "password": { "type": "password" } },
                "permissions": {
                    "accounts": { "type": "io.cozy.accounts" }, "jobs": { "type": "io.cozy.jobs" },
                    "triggers": { "type": "io.cozy.triggers" }, "bills": { "type": "io.cozy.bills" },
                    "vendor": { "type": "http", "values": [vendor.url] },
                },
            });
            let source = bundle::write_guest(&data.path().join(slug), "tells_all", &manifest);
            assert_eq!(client.install(slug, &source).await.0, 202);
        }
        let thief = client.with_token(server.token("konn", THIEF, "").await.1);
        Self { server, client, thief, bank_vendor, thief_vendor, data }
    }

    async fn account(&self, slug: &str, password: &str) -> String {
        self.client.create_account(slug, json!({ "login": "ada", "password": password })).await
    }

    /// Waits until no job is queued or running.
    async fn wait_idle(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let jobs = self.client.get("/jobs/queue/konnector").await["data"].as_array().expect("a list").len();
            let triggers = self.client.get("/jobs/triggers?Type=@in").await["data"].as_array().expect("a list").len();
            if jobs + triggers == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{jobs} jobs and {triggers} triggers remain");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn path(account: &str) -> String {
    format!("/data/io.cozy.accounts/{account}")
}

fn attributes(fields: Value) -> Value {
    json!({ "data": { "attributes": fields } })
}

fn message(konnector: &str, account: &str) -> Value {
    json!({ "konnector": konnector, "account": account })
}

async fn push(client: &TestClient, message: Value) -> StatusAndBody {
    client.post("/jobs/queue/konnector", attributes(json!({ "arguments": message, "manual": true }))).await
}

async fn trigger(client: &TestClient, kind: &str, arguments: &str, message: Value) -> StatusAndBody {
    let fields = json!({ "type": kind, "arguments": arguments, "worker": "konnector", "message": message });
    client.post("/jobs/triggers", attributes(fields)).await
}

fn id((_, body): &StatusAndBody) -> Option<String> {
    body["data"]["id"].as_str().or_else(|| body["id"].as_str()).map(str::to_owned)
}
