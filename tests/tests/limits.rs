//! The limits of a run, from the manifest and the operator's settings to its end and its receipt; and the server
//! around its compiler.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use konnector_tests::client::TestClient;
use konnector_tests::guest;
use konnector_tests::server::{TestServer, binary};
use serde_json::{Value, json};

/// Installs a guest under its own name and waits until it is ready.
async fn install(client: &TestClient, folder: &Path, name: &str, manifest: Value) {
    let bundle = folder.join(name);
    std::fs::create_dir_all(&bundle).expect("a folder");
    let mut members = json!({ "name": name, "type": "konnector", "version": "1.0.0", "permissions": {} });
    members.as_object_mut().expect("an object").extend(manifest.as_object().expect("an object").clone());
    std::fs::write(bundle.join("manifest.konnector"), members.to_string()).expect("written");
    std::fs::write(bundle.join("konnector.wasm"), guest(name)).expect("written");
    let slug = name.replace('_', "-");
    let (status, body) = client.install(&slug, &format!("file://{}", bundle.display())).await;
    assert_eq!(status, 202, "{body}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while client.request(reqwest::Method::GET, &format!("/konnectors/{slug}"), None).await.0 != 200 {
        assert!(Instant::now() < deadline, "{name} is not installed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs a konnector without account; returns the job.
async fn run(client: &TestClient, slug: &str) -> Value {
    let body = json!({ "data": { "attributes": { "arguments": { "konnector": slug }, "manual": true } } });
    let (status, body) = client.post("/jobs/queue/konnector", body).await;
    assert_eq!(status, 202, "{body}");
    client.wait_for_job(body["data"]["id"].as_str().expect("an id")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_asks_and_the_operator_has_the_last_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_with(folder.path(), &["--limit", "memory_mib=32", "--default-limit", "log_lines=7"]);
    let client = server.client().await;
    install(&client, folder.path(), "memory_hog", json!({ "limits": { "memory_mib": 128, "wall_s": 20 } })).await;
    let attributes = client.get("/konnectors/memory-hog").await["data"]["attributes"].clone();
    assert_eq!(attributes["limits"], json!({ "memory_mib": 128, "wall_s": 20 }), "the manifest stays as written");
    assert_eq!(attributes["limits_cut"], json!({ "memory_mib": { "asked": 128, "granted": 32 } }));
    let job = run(&client, "memory-hog").await;
    let sentence = job["error_message"].as_str().expect("a sentence");
    let (end, retry) = sentence.split_once(" It will be retried at ").expect("a retry");
    insta::assert_snapshot!(end, @"The run was stopped: the run needs more memory than its limit of 32 MiB.");
    assert!(retry.contains(" as the job "), "{retry}");

    let flood = json!({ "parameters": { "lines": 100 } });
    install(&client, folder.path(), "log_flood", flood).await;
    assert_eq!(client.get("/konnectors/log-flood").await["data"]["attributes"]["limits_cut"], Value::Null);
    let receipt = run(&client, "log-flood").await["receipt"].clone();
    assert_eq!((&receipt["log_lines"], &receipt["log_lines_dropped"]), (&json!(7), &json!(93)), "{receipt:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_outlives_the_server_and_nothing_else_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = || TestServer::start(folder.path());
    let server = start();
    install(&server.client().await, folder.path(), "noop", json!({})).await;
    let job = run(&server.client().await, "noop").await;
    assert_eq!(job["receipt"]["code"], "memory", "{job:#}");
    server.kill();

    let server = start();
    let receipt = run(&server.client().await, "noop").await["receipt"].clone();
    assert_eq!(receipt["code"], "disk", "{receipt:#}");
    assert!(receipt["prepare_us"].as_u64().expect("a number") > 0);
    server.kill();

    let cache = std::fs::read_dir(folder.path().join("cache")).expect("the cache");
    let [code] = cache.map(|entry| entry.expect("a file").path()).collect::<Vec<_>>().try_into().expect("one file");
    let mut bytes = std::fs::read(&code).expect("code");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&code).expect("removed");
    std::fs::write(&code, bytes).expect("written");
    let server = start();
    let receipt = run(&server.client().await, "noop").await["receipt"].clone();
    assert_eq!(receipt["code"], "compiled", "{receipt:#}");
    assert!(server.log().contains("was not created by this server, or was modified"), "{}", server.log());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_leaves_no_image_of_its_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(folder.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"], "{core}");
}

#[test]
fn errors_are_json_if_json_was_requested() {
    let error = |arguments: &[&str]| {
        let output = Command::new(binary()).args(arguments).output().expect("it runs");
        let text = String::from_utf8(output.stderr).expect("text");
        let error: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(output.stdout.is_empty());
        (output.status.code(), error["error"]["kind"].as_str().expect("a kind").to_owned())
    };
    assert_eq!(error(&["--json", "check", "/nowhere"]), (Some(1), "failed".to_owned()));
    assert_eq!(error(&["jobs", "show", "--json"]), (Some(2), "usage".to_owned()));
}
