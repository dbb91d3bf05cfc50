//! The main job, end to end: the server as a separate process, the demo vendor, and the bank101 example, seen through
//! the API.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::path::Path;
use std::time::Duration;

use demo_vendor::{NewBill, Switches, Vendor, VendorHandle, VendorOptions};
use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::server::TestServer;
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSWORD: &str = demo_vendor::DEFAULT_PASSWORD;

/// A vendor, and a server with the konnector, an account and its trigger.
struct BankFixture {
    vendor: VendorHandle,
    server: TestServer,
    client: TestClient,
    account: String,
    trigger: String,
    data: TempDir,
}

impl BankFixture {
    async fn new() -> Self {
        Self::with(PASSWORD, |_| {}, &[]).await
    }

    async fn with(password: &str, change: impl FnOnce(&mut Value), arguments: &[&str]) -> Self {
        let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");
        let data = tempfile::tempdir().expect("a folder");
        let server = TestServer::start_with(data.path(), arguments);
        let client = server.client().await;
        let source = bundle::bank101(&data.path().join("bundle"), vendor.url(), change);
        let (status, body) = client.install("bank101", &source).await;
        assert_eq!(status, 202, "{body}");
        let account = client
            .create_account("bank101", json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": password }))
            .await;
        let trigger = client.create_trigger("bank101", &account).await;
        Self { vendor, server, client, account, trigger, data }
    }

    fn switch(&self, change: impl FnOnce(&mut Switches)) {
        self.vendor.control().set(change);
    }

    async fn run(&self) -> Value {
        self.client.run(&self.trigger).await
    }

    async fn counts(&self) -> (usize, usize) {
        (self.client.documents("io.cozy.bills").await.len(), self.client.files().await.len())
    }

    async fn change_password(&self, password: &str) {
        let path = format!("/data/io.cozy.accounts/{}", self.account);
        let mut account = self.client.get(&path).await;
        account["auth"]["password"] = json!(password);
        let (status, body) = self.client.request(reqwest::Method::PUT, &path, Some(account)).await;
        assert_eq!(status, 200, "{body}");
    }
}

#[tokio::test]
async fn bills_and_their_pdfs_are_saved_once_and_unchanged() {
    let fixture = BankFixture::new().await;
    let job = fixture.run().await;
    assert_eq!(job["state"], "done", "{job:#}");
    let bills = fixture.client.documents("io.cozy.bills").await;
    assert_eq!(bills.len(), demo_vendor::DEFAULT_BILLS);
    assert_eq!(fixture.client.files().await.len(), demo_vendor::DEFAULT_BILLS);

    for bill in &bills {
        let reference = bill["vendorRef"].as_str().expect("a reference");
        let id =
            bill["invoice"].as_str().and_then(|invoice| invoice.strip_prefix("io.cozy.files:")).expect("an invoice");
        let expected = fixture.vendor.control().pdf(reference).expect("a bill of the vendor");
        assert!(
            fixture.client.bytes(&format!("/files/download/{id}")).await == expected,
            "the PDF of {reference} differs"
        );
    }
    let receipt = &job["receipt"];
    // The bills, and the customer's identity.
    assert_eq!(receipt["documents"]["created"], demo_vendor::DEFAULT_BILLS + 1, "{receipt:#}");
    assert_eq!(receipt["files"]["created"], demo_vendor::DEFAULT_BILLS, "{receipt:#}");
    assert_eq!(receipt["hosts"][0]["host"], fixture.vendor.url(), "{receipt:#}");

    let second = fixture.run().await;
    assert_eq!(second["state"], "done", "{second:#}");
    assert_eq!(second["receipt"]["documents"]["created"], 0, "{second:#}");
    assert_eq!(second["receipt"]["files"]["created"], 0, "{second:#}");
    assert_eq!(fixture.counts().await, (demo_vendor::DEFAULT_BILLS, demo_vendor::DEFAULT_BILLS));
    assert_eq!(fixture.vendor.control().counters().pdfs, demo_vendor::DEFAULT_BILLS as u64, "a PDF was fetched again");

    fixture.vendor.control().add_bill(NewBill::default());
    let third = fixture.run().await;
    assert_eq!(third["receipt"]["documents"]["created"], 1, "{third:#}");
    assert_eq!(fixture.counts().await, (demo_vendor::DEFAULT_BILLS + 1, demo_vendor::DEFAULT_BILLS + 1));
}

#[tokio::test]
async fn a_bill_whose_pdf_fails_is_reported_and_the_rest_saved() {
    let fixture = BankFixture::new().await;
    let bills = fixture.vendor.control().bills();
    let (broken, page) = (bills[2].reference.clone(), bills[5].reference.clone());
    fixture.switch(|switches| {
        switches.pdf_error = vec![broken.clone()];
        switches.pdf_html = vec![page.clone()];
    });
    let job = fixture.run().await;
    assert_eq!(job["state"], "done", "{job:#}");
    let problems: Vec<&str> =
        job["problems"].as_array().expect("problems").iter().map(|p| p["item"].as_str().expect("an item")).collect();
    assert_eq!(problems.len(), 2, "{job:#}");
    assert!(
        problems.iter().any(|item| item.contains(&broken)) && problems.iter().any(|item| item.contains(&page)),
        "{problems:?}"
    );
    let saved = demo_vendor::DEFAULT_BILLS - 2;
    assert_eq!(fixture.counts().await, (saved, saved));
    // The identity is a document without a file.
    assert_eq!(job["partial"], json!({ "failed": 2, "documents": saved + 1, "files": saved }));

    fixture.switch(|switches| (switches.pdf_error, switches.pdf_html) = (Vec::new(), Vec::new()));
    let job = fixture.run().await;
    assert_eq!(job.get("partial"), None, "{job:#}");
    assert_eq!(
        (job["problems"].as_array().map_or(0, Vec::len), fixture.counts().await),
        (0, (demo_vendor::DEFAULT_BILLS, demo_vendor::DEFAULT_BILLS))
    );
}

#[tokio::test]
async fn a_run_that_saves_none_of_its_bills_has_failed() {
    let fixture = BankFixture::new().await;
    let all = fixture.vendor.control().bills().iter().map(|bill| bill.reference.clone()).collect();
    fixture.switch(|switches| switches.pdf_html = all);
    let job = fixture.run().await;
    assert_eq!((&job["state"], &job["error"]), (&json!("errored"), &json!("UNKNOWN_ERROR.VENDOR_CHANGED")), "{job:#}");
    let message = job["error_message"].as_str().expect("a sentence");
    assert!(
        message.starts_with(&format!("none of {} items could be saved; the first: ", demo_vendor::DEFAULT_BILLS)),
        "{message}"
    );
    assert_eq!(fixture.counts().await, (0, 0));
}

#[tokio::test]
async fn a_rejected_password_is_tried_once_until_it_is_corrected() {
    let fixture = BankFixture::with("wrong", |_| {}, &[]).await;
    let job = fixture.run().await;
    assert_eq!((&job["state"], &job["error"]), (&json!("errored"), &json!("LOGIN_FAILED")), "{job:#}");
    let message = job["error_message"].as_str().expect("a sentence");
    let expected = "Correct them in the account. The schedule is paused until you have acted.";
    assert!(message.ends_with(expected), "{job:#}");
    assert_eq!(fixture.vendor.control().counters().login_attempts_wrong, 1);

    // One tick per second; the schedule waits for the user.
    let path = format!("/jobs/triggers/{}", fixture.trigger);
    let every_second = json!({ "data": { "attributes": { "arguments": "* * * * * *" } } });
    assert_eq!(fixture.client.request(reqwest::Method::PATCH, &path, Some(every_second)).await.0, 200);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(fixture.vendor.control().counters().login_attempts_wrong, 1);
    let state = fixture.client.get(&format!("{path}/state")).await;
    assert_eq!(state["data"]["attributes"]["last_error"], "LOGIN_FAILED", "{state:#}");

    let never = json!({ "data": { "attributes": { "arguments": "0 0 0 29 2 *" } } });
    assert_eq!(fixture.client.request(reqwest::Method::PATCH, &path, Some(never)).await.0, 200);
    fixture.change_password(PASSWORD).await;
    let job = fixture.run().await;
    assert_eq!(job["state"], "done", "{job:#}");
    assert_eq!(fixture.counts().await, (demo_vendor::DEFAULT_BILLS, demo_vendor::DEFAULT_BILLS));
    assert_eq!(fixture.vendor.control().counters().login_attempts_wrong, 1);

    // The session is still valid, but does not hide that the new password is wrong.
    fixture.change_password("wrong again").await;
    let job = fixture.run().await;
    assert_eq!(job["error"], "LOGIN_FAILED", "{job:#}");
}

#[tokio::test]
async fn a_due_trigger_runs_by_itself() {
    let fixture = BankFixture::new().await;
    let path = format!("/jobs/triggers/{}", fixture.trigger);
    let every_second = json!({ "data": { "attributes": { "arguments": "* * * * * *" } } });
    assert_eq!(fixture.client.request(reqwest::Method::PATCH, &path, Some(every_second)).await.0, 200);
    for _ in 0..200 {
        if fixture.counts().await == (demo_vendor::DEFAULT_BILLS, demo_vendor::DEFAULT_BILLS) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no bills: {}", fixture.server.log());
}

#[tokio::test]
async fn a_vendor_in_maintenance_is_tried_again_later() {
    let fixture = BankFixture::new().await;
    fixture.switch(|switches| switches.maintenance = true);
    let job = fixture.run().await;
    assert_eq!(job["state"], "errored", "{job:#}");
    assert!(job["error"].as_str().expect("a code").starts_with("VENDOR_DOWN"), "{job:#}");
    assert!(job["next_attempt_at"].is_string(), "{job:#}");

    fixture.switch(|switches| switches.maintenance = false);
    let jobs = || async { fixture.client.get(&format!("/jobs/triggers/{}/jobs", fixture.trigger)).await };
    for _ in 0..300 {
        let newest = jobs().await["data"][0]["attributes"].clone();
        if newest["cause"] == "retry" && newest["state"] == "done" {
            assert_eq!(newest["attempt"], 2, "{newest:#}");
            assert_eq!(fixture.counts().await, (demo_vendor::DEFAULT_BILLS, demo_vendor::DEFAULT_BILLS));
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not tried again: {:#}", jobs().await);
}

#[tokio::test]
async fn a_changed_site_is_the_authors_task() {
    let fixture = BankFixture::new().await;
    fixture.switch(|switches| switches.layout = demo_vendor::Layout::New);
    let job = fixture.run().await;
    assert_eq!((&job["state"], &job["error"]), (&json!("errored"), &json!("UNKNOWN_ERROR.VENDOR_CHANGED")), "{job:#}");
    assert_eq!(fixture.counts().await, (0, 0));
}

#[tokio::test]
async fn a_one_time_code_reaches_the_run() {
    let fixture = BankFixture::new().await;
    fixture.switch(|switches| switches.otp = true);
    let job = fixture.client.launch(&fixture.trigger).await;
    let path = format!("/data/io.cozy.accounts/{}", fixture.account);
    let mut account = Value::Null;
    for _ in 0..200 {
        account = fixture.client.get(&path).await;
        if account["state"].as_str().is_some_and(|state| state.starts_with("TWOFA_NEEDED")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    account["twoFACode"] = json!(fixture.vendor.control().code().expect("a code was sent"));
    let (status, body) = fixture.client.request(reqwest::Method::PUT, &path, Some(account)).await;
    assert_eq!(status, 200, "{body}");
    let job = fixture.client.wait_for_job(&job).await;
    assert_eq!(job["state"], "done", "{job:#}");
}

/// A rule is missing: the run names it, writes nothing and contacts nobody.
async fn without_rule(names: &str, remove: impl Fn(&Value) -> bool) {
    let change = |manifest: &mut Value| {
        let rules = manifest["permissions"].as_object_mut().expect("rules");
        rules.retain(|_, rule| !remove(rule));
    };
    let fixture = BankFixture::with(PASSWORD, change, &[]).await;
    let job = fixture.run().await;
    assert_eq!(
        (&job["state"], &job["error"]),
        (&json!("errored"), &json!("UNKNOWN_ERROR.PERMISSION_DENIED")),
        "{job:#}"
    );
    let message = job["error_message"].as_str().expect("a sentence");
    assert!(message.contains(names) && message.contains("\"permissions\""), "{message}");
    assert_eq!(fixture.counts().await, (0, 0));
    assert_eq!(fixture.vendor.control().counters().requests(), 0, "the vendor was contacted");
}

#[tokio::test]
async fn without_its_rule_for_bills_nothing_happens() {
    without_rule("io.cozy.bills", |rule| rule["type"] == "io.cozy.bills").await;
}

#[tokio::test]
async fn without_its_rule_for_files_nothing_happens() {
    without_rule("io.cozy.files", |rule| rule["type"] == "io.cozy.files").await;
}

#[tokio::test]
async fn without_its_rule_for_the_vendor_nothing_happens() {
    without_rule("http://127.0.0.1:", |rule| rule["type"] == "http").await;
}

#[tokio::test]
async fn a_password_appears_in_no_response_and_no_log() {
    let fixture = BankFixture::with("kept-9f3b-secret", |_| {}, &[]).await;
    let job = fixture.client.launch(&fixture.trigger).await;
    let attributes = fixture.client.wait_for_job(&job).await;
    let log = String::from_utf8(fixture.client.bytes(&format!("/jobs/{job}/log")).await).expect("text");
    let account = fixture.client.get(&format!("/data/io.cozy.accounts/{}", fixture.account)).await;
    assert!(
        account["auth"]["credentials_encrypted"].is_string() && account["auth"]["password"].is_null(),
        "{account:#}"
    );
    for text in [attributes.to_string(), log, account.to_string(), fixture.server.log()] {
        assert!(!text.contains("kept-9f3b-secret"), "{text}");
    }
    let files = walk(fixture.data.path());
    let store = fixture.data.path().join("store");
    assert!(files.iter().any(|file| file.starts_with(&store)), "no file of the store: {files:?}");
    for file in files {
        let bytes = std::fs::read(&file).expect("a file");
        let found = bytes.windows(16).any(|window| window == b"kept-9f3b-secret");
        assert!(!found, "the password lies in clear in {}", file.display());
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() { files.extend(walk(&entry)) } else { files.push(entry) }
    }
    files
}
