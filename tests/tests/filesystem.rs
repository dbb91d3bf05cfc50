//! `/files` end to end: a program's ordinary file operations create files of the user, as the rules allow.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::server::TestServer;
use serde_json::{Value, json};
use tempfile::TempDir;

const PDF: &str = "%PDF-1.7\nnot much of one\n";

struct FilesystemFixture {
    _server: TestServer,
    client: TestClient,
    data: TempDir,
}

impl FilesystemFixture {
    async fn new() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let server = TestServer::start(data.path());
        let client = server.client().await;
        Self { _server: server, client, data }
    }

    /// Installs a konnector with one rule on files, or none, and runs it once; returns its log and the job.
    async fn run(&self, slug: &str, rule: Value, script: Value) -> (String, Value) {
        let folder = self.data.path().join("bundles").join(slug);
        let rules = if rule.is_null() { json!({}) } else { json!({ "files": rule }) };
        let manifest = json!({ "name": "fs_script", "type": "konnector", "version": "1.0.0", "permissions": rules, "parameters": { "script": script } });
        let source = bundle::write_guest(&folder, "fs_script", &manifest);
        let (status, body) = self.client.install(slug, &source).await;
        assert_eq!(status, 202, "{body}");
        let account = self.client.create_account(slug, json!({ "login": "claude" })).await;
        let trigger = self.client.create_trigger(slug, &account).await;
        let job = self.client.launch(&trigger).await;
        let attributes = self.client.wait_for_job(&job).await;
        let log = String::from_utf8(self.client.bytes(&format!("/jobs/{job}/log")).await).expect("text");
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            format!("{}: {}", line["level"].as_str().expect("a level"), line["message"].as_str().expect("a message"))
        };
        let log = log.lines().map(line).collect::<Vec<_>>().join("\n");
        let files = self.client.documents("io.cozy.files").await;
        let named = |log: String, file: &Value| {
            let (id, name) = (file["_id"].as_str().expect("an id"), file["name"].as_str().expect("a name"));
            log.replace(id, &format!("<id of {name}>"))
        };
        (files.iter().fold(log, named), attributes)
    }

    async fn file(&self, name: &str) -> Value {
        let mut files = self.client.files().await;
        files.retain(|file| file["name"] == name);
        assert_eq!(files.len(), 1, "{files:#?}");
        files.remove(0)
    }
}

#[tokio::test]
async fn a_written_file_is_one_of_the_users() {
    let site = FilesystemFixture::new().await;
    let script = json!([
        ["mkdir", "/files/Bills/2026"],
        ["write", "/files/Bills/2026/bill.pdf", PDF],
        ["write", "/files/Bills/notes", "a line\n"],
        ["append", "/files/Bills/notes", "and one more\n"],
        ["write much", "/files/Bills/much.bin"],
        ["create", "/files/Bills/notes", "x"],
        ["write", "/files/CON.pdf", PDF],
        ["walk", "/files"],
        ["read", "/files/.cozy_trash"],
        ["rename", "/files/Bills", "/files/Papers"],
        ["read", "/files/Papers/notes"],
    ]);
    let (log, job) = site.run("writer", json!({ "type": "io.cozy.files" }), script).await;
    assert_eq!(job["state"], "done", "{job:#}\n{log}");
    insta::assert_snapshot!(log, @r#"
    info: mkdir /files/Bills/2026: ""
    info: write /files/Bills/2026/bill.pdf %PDF-1.7⏎not much of one⏎: ""
    info: write /files/Bills/notes a line⏎: ""
    info: append /files/Bills/notes and one more⏎: ""
    info: write much /files/Bills/much.bin: ""
    info: create /files/Bills/notes x: AlreadyExists
    warn: /files: the file name is not valid; use '_CON.pdf' instead
    info: write /files/CON.pdf %PDF-1.7⏎not much of one⏎: InvalidInput
    info: walk /files: "/files/Bills/ /files/Bills/2026/ /files/Bills/2026/bill.pdf /files/Bills/much.bin /files/Bills/notes"
    info: read /files/.cozy_trash: NotFound
    info: rename /files/Bills /files/Papers: ""
    info: read /files/Papers/notes: "a line\nand one more\n"
    "#);
    let file = site.file("bill.pdf").await;
    let id = file["_id"].as_str().expect("an id");
    assert_eq!(site.client.bytes(&format!("/files/download/{id}")).await, PDF.as_bytes());
    assert_eq!(
        (&file["mime"], &file["class"], &file["size"]),
        (&json!("application/pdf"), &json!("pdf"), &json!(PDF.len().to_string()))
    );
    assert_eq!(file["md5sum"], "zyMLTEUgFmyamshl4Ul6eg==", "as `md5sum` says of the content");
    assert_eq!(file["cozyMetadata"]["createdByApp"], "writer");
    assert!(
        file["cozyMetadata"]["sourceAccount"].is_string() && file["cozyMetadata"]["uploadedAt"].is_string(),
        "{file:#}"
    );
    let by_path = site.client.bytes("/files/download?Path=/Papers/2026/bill.pdf").await;
    assert_eq!(by_path, PDF.as_bytes(), "directories below a renamed one are found by their new path");
    assert_eq!(site.file("much.bin").await["size"], (10 << 20).to_string());
    assert_eq!(site.file("notes").await["size"], "20");
    let receipt = &job["receipt"];
    assert_eq!((&receipt["files"]["created"], &receipt["files"]["updated"]), (&json!(3), &json!(1)), "{receipt:#}");

    // Repeating it changes nothing; a replaced file keeps its id, a removed one is moved to the trash.
    let script = json!([
        ["write", "/files/Papers/2026/bill.pdf", PDF],
        ["write", "/files/new.pdf", "%PDF-1.7\nanother\n"],
        ["rename", "/files/new.pdf", "/files/Papers/2026/bill.pdf"],
        ["remove", "/files/Papers/notes"],
        ["rmdir", "/files/Papers"],
        ["walk", "/files"],
    ]);
    let (log, job) = site.run("again", json!({ "type": "io.cozy.files" }), script).await;
    insta::assert_snapshot!(log, @r#"
    info: write /files/Papers/2026/bill.pdf %PDF-1.7⏎not much of one⏎: ""
    info: write /files/new.pdf %PDF-1.7⏎another⏎: ""
    info: rename /files/new.pdf /files/Papers/2026/bill.pdf: ""
    info: remove /files/Papers/notes: ""
    info: rmdir /files/Papers: Uncategorized
    info: walk /files: "/files/Papers/ /files/Papers/2026/ /files/Papers/2026/bill.pdf /files/Papers/much.bin"
    "#);
    assert_eq!(job["receipt"]["files"]["unchanged"], 1, "{job:#}");
    assert_eq!(site.client.bytes(&format!("/files/download/{id}")).await, b"%PDF-1.7\nanother\n");
    let trashed = site.client.documents("io.cozy.files").await;
    let trashed = trashed.iter().find(|file| file["name"] == "notes").expect("in the trash");
    assert_eq!(trashed["trashed"], true);
}

#[tokio::test]
async fn files_without_a_rule_are_invisible() {
    let site = FilesystemFixture::new().await;
    let script = json!([
        ["mkdir", "/files/Shown/deep"],
        ["mkdir", "/files/Hidden"],
        ["write", "/files/Shown/deep/this.txt", "this"],
        ["write", "/files/Shown/deep/other.txt", "other"],
        ["write", "/files/Hidden/that.txt", "that"],
        ["write", "/files/top.txt", "top"],
    ]);
    let (log, _) = site.run("writer", json!({ "type": "io.cozy.files" }), script).await;
    assert!(!log.contains("Err"), "{log}");
    let everything = json!([
        ["walk", "/files"],
        ["read", "/files/Shown/deep/this.txt"],
        ["read", "/files/Shown/deep/other.txt"],
        ["read", "/files/Hidden/that.txt"],
        ["read", "/files/Hidden"],
        ["read", "/files/top.txt"],
        ["write", "/files/Shown/deep/this.txt", "changed"],
        ["append", "/files/Shown/deep/this.txt", "changed"],
        ["write", "/files/Shown/deep/new.txt", "new"],
        ["write", "/files/Hidden/new.txt", "new"],
        ["mkdir", "/files/new"],
        ["rename", "/files/Shown/deep/this.txt", "/files/stolen.txt"],
        ["rename", "/files/Hidden", "/files/Shown/deep/h"],
        ["remove", "/files/Shown/deep/this.txt"],
        ["remove", "/files/Hidden/that.txt"],
        ["rmdir", "/files/Hidden"],
    ]);

    let (log, _) = site.run("none", Value::Null, everything.clone()).await;
    insta::assert_snapshot!(log, @r"
    info: walk /files: NotFound
    info: read /files/Shown/deep/this.txt: NotFound
    info: read /files/Shown/deep/other.txt: NotFound
    info: read /files/Hidden/that.txt: NotFound
    info: read /files/Hidden: NotFound
    info: read /files/top.txt: NotFound
    info: write /files/Shown/deep/this.txt changed: NotFound
    info: append /files/Shown/deep/this.txt changed: NotFound
    info: write /files/Shown/deep/new.txt new: NotFound
    info: write /files/Hidden/new.txt new: NotFound
    info: mkdir /files/new: NotFound
    info: rename /files/Shown/deep/this.txt /files/stolen.txt: NotFound
    info: rename /files/Hidden /files/Shown/deep/h: NotFound
    info: remove /files/Shown/deep/this.txt: NotFound
    info: remove /files/Hidden/that.txt: NotFound
    info: rmdir /files/Hidden: NotFound
    ");

    let this = site.file("this.txt").await["_id"].clone();
    let (log, _) = site
        .run("one", json!({ "type": "io.cozy.files", "verbs": ["GET"], "values": [this] }), everything.clone())
        .await;
    insta::assert_snapshot!(log, @r#"
    info: walk /files: "/files/Shown/ /files/Shown/deep/ /files/Shown/deep/this.txt"
    info: read /files/Shown/deep/this.txt: "this"
    info: read /files/Shown/deep/other.txt: NotFound
    info: read /files/Hidden/that.txt: NotFound
    info: read /files/Hidden: NotFound
    info: read /files/top.txt: NotFound
    warn: /files: the manifest has no rule for PUT on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["PUT"] }
    info: write /files/Shown/deep/this.txt changed: PermissionDenied
    warn: /files: the manifest has no rule for PUT on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["PUT"] }
    info: append /files/Shown/deep/this.txt changed: PermissionDenied
    warn: /files: the manifest has no rule for POST on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["POST"] }
    info: write /files/Shown/deep/new.txt new: PermissionDenied
    info: write /files/Hidden/new.txt new: NotFound
    warn: /files: the manifest has no rule for POST on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["POST"] }
    info: mkdir /files/new: PermissionDenied
    warn: /files: the manifest has no rule for PATCH on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["PATCH"] }
    info: rename /files/Shown/deep/this.txt /files/stolen.txt: PermissionDenied
    info: rename /files/Hidden /files/Shown/deep/h: NotFound
    warn: /files: the manifest has no rule for DELETE on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["DELETE"] }
    info: remove /files/Shown/deep/this.txt: PermissionDenied
    info: remove /files/Hidden/that.txt: NotFound
    info: rmdir /files/Hidden: NotFound
    "#);

    let mut directories = site.client.documents("io.cozy.files").await;
    directories.retain(|file| file["name"] == "Shown");
    let directory_id = directories[0]["_id"].clone();
    let rule = json!({ "type": "io.cozy.files", "verbs": ["GET", "POST", "PUT", "PATCH"], "values": [directory_id] });
    let (log, _) = site.run("folder", rule, everything.clone()).await;
    insta::assert_snapshot!(log, @r#"
    info: walk /files: "/files/Shown/ /files/Shown/deep/ /files/Shown/deep/other.txt /files/Shown/deep/this.txt"
    info: read /files/Shown/deep/this.txt: "this"
    info: read /files/Shown/deep/other.txt: "other"
    info: read /files/Hidden/that.txt: NotFound
    info: read /files/Hidden: NotFound
    info: read /files/top.txt: NotFound
    info: write /files/Shown/deep/this.txt changed: ""
    info: append /files/Shown/deep/this.txt changed: ""
    info: write /files/Shown/deep/new.txt new: ""
    info: write /files/Hidden/new.txt new: NotFound
    warn: /files: the manifest allows POST only on some documents of io.cozy.files, but not on the whole type; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["POST"] }
    info: mkdir /files/new: PermissionDenied
    warn: /files: the manifest has no rule for PATCH on the document "<id of this.txt>" of io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["PATCH"], "values": ["<id of this.txt>"] }
    info: rename /files/Shown/deep/this.txt /files/stolen.txt: PermissionDenied
    info: rename /files/Hidden /files/Shown/deep/h: NotFound
    warn: /files: the manifest has no rule for DELETE on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["DELETE"] }
    info: remove /files/Shown/deep/this.txt: PermissionDenied
    info: remove /files/Hidden/that.txt: NotFound
    info: rmdir /files/Hidden: NotFound
    "#);

    let (log, _) = site.run("drop", json!({ "type": "io.cozy.files", "verbs": ["POST"] }), everything).await;
    insta::assert_snapshot!(log, @r#"
    warn: /files: the manifest has no rule for GET on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["GET"] }
    info: walk /files: PermissionDenied
    warn: /files: the manifest has no rule for GET on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["GET"] }
    info: read /files/Shown/deep/this.txt: PermissionDenied
    warn: /files: the manifest has no rule for GET on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["GET"] }
    info: read /files/Shown/deep/other.txt: PermissionDenied
    warn: /files: the manifest has no rule for GET on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["GET"] }
    info: read /files/Hidden/that.txt: PermissionDenied
    info: read /files/Hidden: IsADirectory
    warn: /files: the manifest has no rule for GET on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["GET"] }
    info: read /files/top.txt: PermissionDenied
    warn: /files: the manifest has no rule for PUT on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["PUT"] }
    info: write /files/Shown/deep/this.txt changed: PermissionDenied
    warn: /files: the manifest has no rule for PUT on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["PUT"] }
    info: append /files/Shown/deep/this.txt changed: PermissionDenied
    warn: /files: the manifest has no rule for PUT on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["PUT"] }
    info: write /files/Shown/deep/new.txt new: PermissionDenied
    info: write /files/Hidden/new.txt new: ""
    info: mkdir /files/new: ""
    warn: /files: the manifest has no rule for PATCH on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["PATCH"] }
    info: rename /files/Shown/deep/this.txt /files/stolen.txt: PermissionDenied
    warn: /files: the manifest has no rule for PATCH on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["PATCH"] }
    info: rename /files/Hidden /files/Shown/deep/h: PermissionDenied
    warn: /files: the manifest has no rule for DELETE on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["DELETE"] }
    info: remove /files/Shown/deep/this.txt: PermissionDenied
    warn: /files: the manifest has no rule for DELETE on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["DELETE"] }
    info: remove /files/Hidden/that.txt: PermissionDenied
    warn: /files: the manifest has no rule for DELETE on io.cozy.files; add to "permissions": "files2": { "type": "io.cozy.files", "verbs": ["DELETE"] }
    info: rmdir /files/Hidden: PermissionDenied
    "#);
}

#[tokio::test]
async fn a_full_disk_fails_sync_and_is_otherwise_logged() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client_with_quota(5 << 20).await;
    let site = FilesystemFixture { _server: server, client, data };
    let script = json!([
        ["write", "/files/small.txt", "fits"],
        ["write much", "/files/much.bin"],
        ["sync much", "/files/much.bin"],
        ["size", "/files/much.bin"],
        ["read", "/files/small.txt"],
    ]);
    let (log, job) = site.run("writer", json!({ "type": "io.cozy.files" }), script).await;
    insta::assert_snapshot!(log, @r#"
    info: write /files/small.txt fits: ""
    warn: /files: no storage space is left
    error: /files/much.bin was not saved when it was closed: No space left on device
    info: write much /files/much.bin: Uncategorized
    warn: /files: no storage space is left
    info: sync much /files/much.bin: StorageFull
    info: size /files/much.bin: NotFound
    info: read /files/small.txt: "fits"
    "#);
    assert_eq!(job["state"], "done", "{job:#}");
    assert_eq!(site.client.files().await.len(), 1);
}
