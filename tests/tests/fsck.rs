//! `konnector fsck` and `konnector doctor` on the folder of a stopped server.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::path::{Path, PathBuf};

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
