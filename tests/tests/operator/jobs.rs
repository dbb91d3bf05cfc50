//! Commands that watch a job, and commands that must be confirmed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use demo_vendor::{Vendor, VendorHandle, VendorOptions};
use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::server::{TestServer, binary};
use serde_json::json;

use crate::{run_error, run_ok};

/// A bank that asks for a one-time code, with an account and its trigger.
async fn bank_with_codes(data: &Path, server: &TestServer) -> (VendorHandle, TestClient, String) {
    let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");
    vendor.control().set(|switches| switches.otp = true);
    let client = server.client().await;
    let source = bundle::bank101(&data.join("bundle"), vendor.url(), |_| {});
    client.install("bank101", &source).await;
    let login = json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": demo_vendor::DEFAULT_PASSWORD });
    let account = client.create_account("bank101", login).await;
    client.create_trigger("bank101", &account).await;
    (vendor, client, account)
}

/// The vendor must respond while a command runs.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_command_says_that_its_job_continues() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let server = TestServer::start(data);
    let (_vendor, client, account) = bank_with_codes(data, &server).await;
    let command = Command::new(binary())
        .arg("--data-dir")
        .arg(data)
        .args(["konnectors", "run", "bank101"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.get(&format!("/data/io.cozy.accounts/{account}")).await["state"].is_null() {
        assert!(Instant::now() < deadline, "the run does not ask for a code");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    // Until the command has printed the question.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sent = Command::new("kill").args(["-INT", &command.id().to_string()]).status().expect("the program kill");
    assert!(sent.success());
    let output = command.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let jobs = client.documents("io.cozy.jobs").await;
    let job = jobs[0]["_id"].as_str().expect("an id");
    let hint = |words: &str| format!("konnector --data-dir {} {words}", data.display());
    for expected in [
        format!("job {job}: "),
        hint(&format!("accounts code {account} CODE")),
        format!("stopped watching job {job}, which continues"),
        hint(&format!("jobs logs -f {job}")),
    ] {
        assert!(stderr.contains(&expected), "{expected}: {stderr}");
    }
    assert_eq!(jobs[0]["state"], "running");

    let cancelled = run_ok(data, &["jobs", "cancel", job]);
    assert_eq!((&cancelled["state"], &cancelled["error"]), (&json!("errored"), &json!("UNKNOWN_ERROR.CANCELLED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_without_a_confirmation() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let server = TestServer::start(data);
    let (_vendor, client, account) = bank_with_codes(data, &server).await;
    let refusals = [
        run_error(data, &["accounts", "rm", &account]),
        run_error(data, &["konnectors", "uninstall", "bank101"]),
        run_error(data, &["instances", "rm", &client.domain]),
    ];
    for (refusal, expected) in refusals.iter().zip([
        "2 not confirmed: this removes account ",
        "2 not confirmed: this removes bank101, 1 account and 1 trigger; saved documents and files remain",
        "it is the last instance, so the server creates an empty one when it starts again → to confirm it, add --yes",
    ]) {
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
    let trigger = run_ok(data, &["triggers", "ls"])[0]["id"].as_str().expect("an id").to_owned();
    assert!(run_error(data, &["triggers", "set", &trigger]).starts_with("2 nothing to change → give a setting"));
    assert_eq!(run_ok(data, &["accounts", "ls"])[0]["_id"], json!(account));
    run_ok(data, &["accounts", "rm", &account, "--yes"]);
    assert_eq!(run_ok(data, &["accounts", "ls"]), json!([]));
    run_ok(data, &["konnectors", "uninstall", "bank101", "--yes"]);
    assert_eq!(run_ok(data, &["konnectors", "ls"]), json!([]));
}
