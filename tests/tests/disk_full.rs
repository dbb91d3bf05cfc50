//! A full disk: new data is rejected in time; and if the disk itself fails, no acknowledged data is lost.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use konnector_tests::client::TestClient;
use konnector_tests::server::{TestServer, run_command};
use reqwest::Method;
use serde_json::{Value, json};
use test_tools::Tool;

/// An in-memory disk of a fixed size. Unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` if this user may not mount.
    fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={mebibytes}m");
        succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()))
            .then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file that leaves this many bytes free.
    fn fill(&self, leave: u64) {
        let free = || {
            let text = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(self.path()).output().expect("stat");
            let text = String::from_utf8_lossy(&text.stdout).into_owned();
            let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
            numbers[0] * numbers[1]
        };
        let mut filler =
            std::fs::File::options().create(true).append(true).open(self.path().join("filler")).expect("a file");
        while free() > leave {
            let part = usize::try_from((free() - leave).min(64 * 1024)).expect("small");
            if filler.write_all(&vec![0; part]).is_err() {
                break;
            }
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.path().join("filler")).expect("the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

/// Returns whether a command started and succeeded.
fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Set in the process that runs a test again, in its own namespace.
const NAMESPACE_VARIABLE: &str = "KONNECTOR_TEST_IN_NAMESPACE";

/// Runs a test again in its own user namespace, in which it may mount. Skips the test if the system does not permit
/// such namespaces.
fn run_in_namespace(test: &str) {
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount"]);
        unshare
    };
    let folder = tempfile::tempdir().expect("a folder");
    let is_permitted = std::env::var_os(NAMESPACE_VARIABLE).is_none()
        && succeeds(unshare().args(["mount", "-t", "tmpfs", "tmpfs"]).arg(folder.path()));
    if Tool::TMPFS.require(is_permitted.then_some(())).is_none() {
        return;
    }
    let this = std::env::current_exe().expect("the path of this test");
    let output = unshare().arg(this).args(["--exact", test]).env(NAMESPACE_VARIABLE, "1").output().expect("unshare");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

/// Like a request of the client, but a missing response is not a failure of the test.
async fn attempt(client: &TestClient, method: Method, path: &str, body: Value) -> Option<(u16, Value)> {
    let http = konnector_tests::server::reqwest_client();
    let request =
        http.request(method, format!("{}{path}", client.url)).header("Host", &client.domain).bearer_auth(&client.token);
    let response = request.header("Content-Type", "application/json").body(body.to_string()).send().await.ok()?;
    Some((response.status().as_u16(), response.json().await.ok()?))
}

async fn bill(client: &TestClient, number: usize) -> (u16, Value) {
    client.post("/data/io.cozy.bills/", json!({ "number": number, "text": "x".repeat(3_000) })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let Some(disk) = SmallDisk::mount(64) else {
        return run_in_namespace("a_full_disk_loses_nothing_that_was_acknowledged");
    };
    let data = disk.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let arguments = ["--disk-reserve-mib", "8"];
    let mut server = TestServer::start_with(&data, &arguments);
    let client = server.client().await;
    let mut known = Vec::new();
    for number in 0..100 {
        let (status, body) = bill(&client, number).await;
        assert_eq!(status, 201, "{body}");
        known.push((body["id"].clone(), body["rev"].clone(), number));
    }

    // Below the reserve, new data is rejected, and existing data can be changed.
    disk.fill(7 << 20);
    let (status, body) = bill(&client, 100).await;
    assert_eq!(status, 507, "{body}");
    assert!(body.to_string().contains("the disk is nearly full"), "{body}");
    let change = |known: &(Value, Value, usize), number: usize| {
        let body = json!({ "_id": known.0, "_rev": known.1, "number": number, "text": "y".repeat(3_000) });
        (format!("/data/io.cozy.bills/{}", known.0.as_str().expect("an id")), body)
    };
    let (path, changed) = change(&known[0], 1_000);
    let (status, body) = client.request(Method::PUT, &path, Some(changed)).await;
    assert_eq!(status, 200, "{body}");
    known[0] = (body["id"].clone(), body["rev"].clone(), 1_000);
    disk.empty();
    assert_eq!(bill(&client, 101).await.0, 201, "room again");

    // With no space left, changes fail as well, and the first failure stops the server.
    disk.fill(0);
    let mut uncertain = None;
    'ended: for round in 1.. {
        for known in &mut known {
            let (path, changed) = change(known, 2_000 + round);
            match attempt(&client, Method::PUT, &path, changed).await {
                Some((200, body)) => *known = (known.0.clone(), body["rev"].clone(), 2_000 + round),
                refused => {
                    assert!(refused.is_none_or(|(status, _)| status == 503));
                    uncertain = Some((known.0.clone(), 2_000 + round));
                    break 'ended;
                }
            }
        }
        assert!(round < 500, "the disk does not become full");
    }
    let status = server.wait_for_exit(Duration::from_secs(20));
    assert_eq!(status.code(), Some(1), "{}", server.log());
    let log = server.log();
    let line = log.lines().find(|line| line.contains("error: a write to")).expect("one clear sentence");
    assert!(
        line.contains("No space left on device") && line.contains("all data acknowledged before it is stored"),
        "{line}"
    );

    // The ballast makes room for a start on the full disk, for reading and deleting.
    assert!(data.join("store/BALLAST").exists());
    let server = TestServer::start_with(&data, &arguments);
    assert!(!data.join("store/BALLAST").exists());
    let (client, uncertain) = (client.with_url(&server.url), uncertain.expect("an end"));
    assert_eq!(bill(&client, 102).await.0, 507);
    for (id, rev, number) in &known {
        let found = client.get(&format!("/data/io.cozy.bills/{}", id.as_str().expect("an id"))).await;
        let unanswered = uncertain.0 == *id && found["number"] == json!(uncertain.1);
        assert!(unanswered || (&found["_rev"], &found["number"]) == (rev, &json!(number)), "{found}");
    }
    server.kill();
    disk.empty();
    let server = TestServer::start_with(&data, &arguments);
    let client = client.with_url(&server.url);
    assert_eq!(bill(&client, 103).await.0, 201);
    assert!(data.join("store/BALLAST").exists(), "taken on again");
    server.stop();
    let checked = run_command(&data, &["fsck", "--deep"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_disk_at_a_barrier_ends_the_server() {
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    server.stop();
    let mut server = TestServer::start_in(data.path(), &[], &[("KONNECTOR_FAILPOINT", "commit.durable=error#30")]);
    let client = client.with_url(&server.url);
    let mut known = Vec::new();
    while let Some((201, body)) =
        attempt(&client, Method::POST, "/data/io.cozy.bills/", json!({ "n": known.len() })).await
    {
        known.push(body["id"].clone());
        assert!(known.len() < 100, "no error came");
    }
    assert_eq!(server.wait_for_exit(Duration::from_secs(20)).code(), Some(1), "{}", server.log());
    assert!(server.log().contains("all data acknowledged before it is stored"), "{}", server.log());
    let server = TestServer::start(data.path());
    let client = client.with_url(&server.url);
    assert!(!known.is_empty(), "the error came before the first document");
    for id in known {
        client.get(&format!("/data/io.cozy.bills/{}", id.as_str().expect("an id"))).await;
    }
}
