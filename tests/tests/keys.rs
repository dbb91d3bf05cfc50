//! The key and the data: a wrong key changes nothing, and a rotation of the key can be interrupted anywhere.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::path::Path;

use demo_vendor::{Vendor, VendorOptions};
use konnector_tests::bundle;
use konnector_tests::server::{TestServer, run_command, run_command_with};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Hash of all files below a folder, with names and contents.
fn hash(folder: &Path) -> String {
    let (mut hash, mut folders, mut files) = (Sha256::new(), vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    for file in files.iter().filter(|file| !file.ends_with("server.log")) {
        hash.update(file.to_str().expect("a path of text"));
        hash.update(std::fs::read(file).expect("a file"));
        hash.update(format!("{:?}", file.metadata().expect("metadata").modified()));
    }
    hex::encode(hash.finalize())
}

const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

#[test]
fn another_key_or_none_touches_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    TestServer::start(&data).stop();
    let right = run_command(&data, &["keys", "show"]).json["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let key = data.join("master-key");
    std::fs::rename(&key, folder.path().join("safe")).expect("a file");
    let before = hash(&data);
    let missing = run_command(&data, &SERVE);
    assert_eq!(missing.code, Some(78), "{missing:?}");
    assert!(missing.stderr.contains(&right) && missing.stderr.contains("restore the key file"), "{}", missing.stderr);
    assert_eq!(hash(&data), before, "something was written");

    let other = tempfile::tempdir().expect("a folder");
    TestServer::start(other.path()).stop();
    let wrong =
        run_command(other.path(), &["keys", "show"]).json["fingerprint"].as_str().expect("a fingerprint").to_owned();
    std::fs::copy(other.path().join("master-key"), &key).expect("a key");
    let before = hash(&data);
    let output = run_command(&data, &SERVE);
    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(output.stderr.contains(&right) && output.stderr.contains(&wrong), "{}", output.stderr);
    assert_eq!(hash(&data), before, "something was written");

    std::fs::rename(folder.path().join("safe"), &key).expect("a file");
    TestServer::start(&data).stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_rotation_continues_after_any_interruption() {
    let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    let source = bundle::bank101(&data.path().join("bundle"), vendor.url(), |_| {});
    assert_eq!(client.install("bank101", &source).await.0, 202);
    let auth = json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": demo_vendor::DEFAULT_PASSWORD });
    let account = client.create_account("bank101", auth.clone()).await;
    client.create_account("bank101", auth).await;
    let trigger = client.create_trigger("bank101", &account).await;
    // So that the account has cookies, too.
    assert_eq!(client.run(&trigger).await["state"], "done");
    server.stop();
    let fingerprint = || run_command(data.path(), &["keys", "show"]).json["fingerprint"].clone();
    for place in [
        "rotate.made",
        "rotate.begun",
        "rotate.account",
        "rotate.account",
        "rotate.sealed",
        "rotate.noted",
        "rotate.kept",
    ] {
        for action in ["abort", "error"] {
            let old = fingerprint();
            let failpoint = format!("{place}={action}");
            let cut_off = run_command_with(data.path(), &["keys", "rotate"], &[("KONNECTOR_FAILPOINT", &failpoint)]);
            assert_ne!(cut_off.code, Some(0), "{failpoint}: {}", cut_off.stderr);
            let rejected = run_command(data.path(), &SERVE);
            assert_eq!(rejected.code, Some(78), "{failpoint}: {rejected:?}");
            assert!(rejected.stderr.contains("run konnector keys rotate to finish it"), "{}", rejected.stderr);
            let output = run_command(data.path(), &["keys", "rotate"]);
            assert_eq!(output.code, Some(0), "{failpoint}: {}", output.stderr);
            assert_eq!((&output.json["from"], output.json["to"] == old), (&old, false), "{failpoint}");
            assert_eq!(fingerprint(), output.json["to"]);
            assert_eq!(run_command(data.path(), &["fsck"]).code, Some(0));
        }
    }
    let last = run_command(data.path(), &["keys", "rotate"]);
    assert_eq!(last.json["secrets"], json!(3), "two passwords, and the cookies of one: {last:?}");
    // The old key no longer opens anything.
    let (key, old_key) =
        (data.path().join("master-key"), last.json["old_key_file"].as_str().expect("a path").to_owned());
    let new = std::fs::read(&key).expect("the key");
    std::fs::copy(old_key, &key).expect("a key");
    assert_eq!(run_command(data.path(), &SERVE).code, Some(78));
    std::fs::write(&key, new).expect("the key");

    // The passwords are unchanged.
    let server = TestServer::start(data.path());
    let client = server.client().await;
    let job_document = client.run(&trigger).await;
    assert_eq!(job_document["state"], "done", "{job_document:#}\n{}", server.log());
    server.stop();
}
