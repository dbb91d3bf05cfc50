//! `konnector fsck` and `konnector doctor` on the folder of a stopped server.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::path::{Path, PathBuf};

use konnector_tests::bundle;
use konnector_tests::server::{TestServer, run_command};
use serde_json::{Value, json};

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn store_in(findings: &Value) -> &Value {
    let findings = findings["findings"].as_array().expect("findings");
    let about =
        |finding: &&Value| finding["what"].as_str().is_some_and(|description| description.contains("the store has "));
    findings.iter().find(about).expect("a finding about the store")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_data_is_found_and_reported() {
    let data = tempfile::tempdir().expect("a folder");
    let empty = run_command(data.path(), &["fsck"]);
    assert_eq!(empty.code, Some(2), "{empty:?}");

    let server = TestServer::start(data.path());
    let client = server.client().await;
    let (status, body) = client.post("/data/io.cozy.bills/", json!({ "text": "x".repeat(20_000) })).await;
    assert_eq!(status, 201, "{body}");
    let busy = run_command(data.path(), &["fsck"]);
    assert!(busy.code == Some(1) && busy.stderr.contains("stop the server first"), "{busy:?}");
    // Killed, so that the server checks the store at its next start.
    server.kill();
    let server = TestServer::start(data.path());
    assert!(server.log().contains("checked the store"), "{}", server.log());
    server.stop();

    let whole = run_command(data.path(), &["fsck", "--deep"]);
    assert_eq!((whole.code, &whole.json["blobs"]), (Some(0), &json!(1)), "{whole:?}");
    assert_eq!(store_in(&run_command(data.path(), &["doctor"]).json)["level"], "good");
    let blob = files(&data.path().join("store/blobs")).pop().expect("the document's content");
    let moved = data.path().join("aside");
    std::fs::rename(&blob, &moved).expect("a file");
    let found = run_command(data.path(), &["fsck", "--repair"]);
    assert_eq!((found.code, &found.json["problems"]), (Some(1), &json!(1)), "{found:?}");
    assert_eq!(found.json["findings"][0]["kind"], "content_missing");
    assert_eq!(store_in(&run_command(data.path(), &["doctor"]).json)["level"], "problem");
    std::fs::rename(&moved, &blob).expect("a file");
    assert_eq!(run_command(data.path(), &["fsck"]).code, Some(0));
    TestServer::start(data.path()).stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_component_is_found_without_reading_it() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    let manifest = json!({ "name": "Writer", "version": "1.0.0", "type": "konnector", "permissions": {} });
    let source = bundle::write_guest(&data.path().join("bundle"), "fs_script", &manifest);
    let (status, body) = client.install("writer", &source).await;
    assert_eq!(status, 202, "{body}");
    server.stop();
    assert_eq!(run_command(data.path(), &["fsck"]).code, Some(0));

    let size = |path: &PathBuf| std::fs::metadata(path).expect("a file").len();
    let component = files(&data.path().join("store/blobs")).into_iter().max_by_key(size).expect("the component");
    let shorter = size(&component) - 1;
    let file = std::fs::OpenOptions::new().write(true).open(&component).expect("a file");
    file.set_len(shorter).expect("truncated");
    let found = run_command(data.path(), &["fsck"]);
    let finding = &found.json["findings"][0];
    assert_eq!((found.code, finding["kind"].as_str()), (Some(1), Some("content_damaged")), "{found:?}");
    assert!(finding["advice"].as_str().expect("advice").contains("konnector konnectors update SLUG"), "{finding:#}");
}
