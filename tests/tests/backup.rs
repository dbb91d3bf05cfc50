//! A backup of a busy server, restored into a new folder, contains everything that was acknowledged before it began.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use demo_vendor::{Vendor, VendorOptions};
use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::server::{TestServer, run_command, run_command_with};
use serde_json::{Value, json};

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

async fn create(client: &TestClient, number: usize) -> Value {
    let text = "x".repeat(number * 37 % 9_000);
    let (status, body) = client.post("/data/io.cozy.bills/", json!({ "number": number, "text": text })).await;
    assert_eq!(status, 201, "{body}");
    body["id"].clone()
}

/// All data of a person, with the contents of their files.
async fn all_data(client: &TestClient) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for doctype in ["io.cozy.bills", "io.cozy.accounts", "io.cozy.triggers", "io.cozy.files"] {
        for document in client.documents(doctype).await {
            let id = document["_id"].as_str().expect("an id").to_owned();
            if document["type"] == "file" {
                let content = client.bytes(&format!("/files/download/{id}")).await;
                all.insert(format!("content {id}"), json!(content));
            }
            all.insert(format!("{doctype}/{id}"), document);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_data_is_in_the_next_backup() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    std::fs::create_dir(&old).expect("a folder");
    let server = TestServer::start(&old);
    let client = server.client().await;
    let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");
    let source = bundle::bank101(&folder.path().join("bundle"), vendor.url(), |_| {});
    assert_eq!(client.install("bank101", &source).await.0, 202);
    let auth = json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": demo_vendor::DEFAULT_PASSWORD });
    let account = client.create_account("bank101", auth).await;
    let trigger = client.create_trigger("bank101", &account).await;
    assert_eq!(client.run(&trigger).await["state"], "done");
    for number in 0..50 {
        create(&client, number).await;
    }
    let before = all_data(&client).await;

    // Other clients continue writing during the backup.
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let busy: Vec<_> = (0..3)
        .map(|writer| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let client = client.with_url(&client.url);
            tokio::spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let id = create(&client, 1_000 * writer + number).await;
                    acknowledged.lock().expect("a list").push(id);
                }
            })
        })
        .collect();
    while acknowledged.lock().expect("a list").len() < 50 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let acknowledged_ids = acknowledged.lock().expect("a list").clone();
    let backup = folder.path().join("monday.backup");
    let (backup_of, data) = (backup.clone(), old.clone());
    let created =
        tokio::task::spawn_blocking(move || run_command(&data, &["backup", "create", text(&backup_of)])).await;
    let created = created.expect("a command");
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    stop.store(true, Ordering::SeqCst);
    for writer in busy {
        writer.await.expect("a writer");
    }
    assert!(acknowledged.lock().expect("a list").len() > acknowledged_ids.len(), "nobody wrote meanwhile");
    server.stop();

    let bytes = std::fs::read(&backup).expect("the backup");
    for canary in [demo_vendor::DEFAULT_PASSWORD, "io.cozy.bills"] {
        assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()), "{canary} can be read");
    }
    // From here on, only the backup and the key exist.
    let key = folder.path().join("key");
    std::fs::copy(old.join("master-key"), &key).expect("the key");
    std::fs::remove_dir_all(&old).expect("the end of the old folder");
    let with_key = |command: &str| {
        command
            .split(' ')
            .map(str::to_owned)
            .chain([text(&backup).to_owned(), "--key-file".to_owned(), text(&key).to_owned()])
            .collect::<Vec<_>>()
    };
    let run = |words: &str| {
        let words = with_key(words);
        run_command(&new, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(run("backup verify").code, Some(0));
    let restored = run("backup restore");
    assert_eq!((restored.code, &restored.json["problems"]), (Some(0), &json!(0)), "{}", restored.stderr);
    let twice = run("backup restore");
    assert_eq!(twice.code, Some(2));
    assert!(twice.stderr.contains("is not empty: it contains"), "{}", twice.stderr);

    let server = TestServer::start(&new);
    let client = client.with_url(&server.url);
    // Tokens are signed with the same key, so they are still valid.
    let after = all_data(&client).await;
    assert!(before.keys().any(|name| name.starts_with("content ")), "no file was saved");
    for (name, value) in &before {
        assert_eq!(after.get(name), Some(value), "{name}");
    }
    let bills: Vec<_> = client.documents("io.cozy.bills").await.into_iter().map(|bill| bill["_id"].clone()).collect();
    for id in acknowledged_ids {
        assert!(bills.contains(&id), "{id} was acknowledged before the backup and is not in it");
    }
    // Its password and its konnector exist, too.
    let job_document = client.run(&trigger).await;
    assert_eq!(job_document["state"], "done", "{job_document:#}\n{}", server.log());
    server.stop();
    let checked = run_command(&new, &["fsck", "--deep"]);
    assert_eq!((checked.code, &checked.json["problems"]), (Some(0), &json!(0)), "{checked:?}");
}

#[test]
fn an_interrupted_restore_is_repeated() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("old");
    std::fs::create_dir(&old).expect("a folder");
    TestServer::start(&old).stop();
    let backup = folder.path().join("backup");
    let created = run_command(&old, &["backup", "create", text(&backup)]);
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let key = old.join("master-key");
    let arguments = ["backup", "restore", text(&backup), "--key-file", text(&key)];
    for failpoint_name in ["restore.entries", "restore.read", "restore.checked", "restore.key", "restore.moved"] {
        for action in ["abort", "error"] {
            let new = folder.path().join(format!("{failpoint_name}-{action}"));
            let failpoint = format!("{failpoint_name}={action}");
            let cut_off = run_command_with(&new, &arguments, &[("KONNECTOR_FAILPOINT", &failpoint)]);
            let expected = if action == "abort" { None } else { Some(1) };
            assert_eq!(cut_off.code, expected, "{failpoint}: {}", cut_off.stderr);
            let second = run_command(&new, &arguments);
            // After the move the restore is complete: the folder is not changed again.
            let expected = if failpoint_name == "restore.moved" { Some(2) } else { Some(0) };
            assert_eq!(second.code, expected, "{failpoint}: {}", second.stderr);
            assert_eq!(run_command(&new, &["fsck", "--deep"]).code, Some(0));
            let remaining: Vec<_> =
                std::fs::read_dir(&new).expect("the folder").map(|entry| entry.expect("a name").file_name()).collect();
            assert!(!remaining.iter().any(|name| name == "store.restoring"), "{remaining:?}");
        }
    }
}

#[test]
fn a_backup_that_is_cut_off_leaves_nothing_under_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    TestServer::start(&data).stop();
    let backup = folder.path().join("backup");
    for failpoint_name in ["backup.entries", "backup.blobs"] {
        for action in ["abort", "error"] {
            let failpoint = format!("{failpoint_name}={action}");
            let created =
                run_command_with(&data, &["backup", "create", text(&backup)], &[("KONNECTOR_FAILPOINT", &failpoint)]);
            assert_ne!(created.code, Some(0), "{failpoint}");
            assert!(!backup.exists(), "{failpoint}");
        }
    }
    assert_eq!(run_command(&data, &["backup", "create", text(&backup)]).code, Some(0));
    let existing = run_command(&data, &["backup", "create", text(&backup)]);
    assert!(existing.code == Some(1) && existing.stderr.contains("already exists"), "{existing:?}");
}

/// Starts `count` backups of a server that sends a part and then stalls; returns once that many files are being
/// written.
fn hanging_backup(folder: &Path, count: usize) -> (std::process::Child, std::thread::JoinHandle<std::net::TcpStream>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        assert_ne!(connection.read(&mut [0; 4096]).expect("a request"), 0);
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").expect("an answer");
        connection
    });
    let child = std::process::Command::new(konnector_tests::server::binary())
        .args(["--admin-url", &format!("http://{address}"), "backup", "create"])
        .arg(folder.join("monday.backup"))
        .env("KONNECTOR_ADMIN_PASSPHRASE", "secret")
        .env("KONNECTOR_DATA_DIR", folder.join("data"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the command starts");
    while sizes(folder) != vec![4; count] {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    (child, server)
}

fn sizes(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").metadata().map_or(0, |metadata| metadata.len())).collect()
}

#[test]
fn an_interrupted_backup_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("HUP", Some(129))] {
        let (mut child, server) = hanging_backup(folder.path(), 1);
        let id = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &id]).status().expect("kill").success());
        assert_eq!(child.wait().expect("a status").code(), code, "{signal}");
        assert_eq!(sizes(folder.path()), [0; 0], "{signal}");
        drop(server.join());
    }

    // Nothing cleans up after SIGKILL. The next backup does, even while a third one is being written.
    let (mut killed, server) = hanging_backup(folder.path(), 1);
    killed.kill().expect("killed");
    killed.wait().expect("a status");
    assert_eq!(sizes(folder.path()), [4]);
    drop(server.join());
    let (mut one, server_of_one) = hanging_backup(folder.path(), 1);
    let (mut other, server_of_other) = hanging_backup(folder.path(), 2);
    for (child, server) in [(&mut one, server_of_one), (&mut other, server_of_other)] {
        drop(server.join());
        assert_eq!(child.wait().expect("a status").code(), Some(1), "the server broke it off");
    }
    assert_eq!(sizes(folder.path()), [0; 0]);
}
