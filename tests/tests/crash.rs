//! Simulated power failures: in the middle of a run, which then ends as if undisturbed; and at random moments of
//! writing and of starting.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use demo_vendor::{Vendor, VendorOptions};
use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::server::{TestServer, binary, run_command};
use serde_json::{Value, json};

/// A person's final data: bills and files by their identifying fields, without times and revisions.
async fn all_data(client: &TestClient) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
    let mut bills = BTreeMap::new();
    for mut bill in client.documents("io.cozy.bills").await {
        let members = bill.as_object_mut().expect("an object");
        for changing in ["_rev", "cozyMetadata"] {
            members.remove(changing);
        }
        bills.insert(bill["_id"].to_string(), bill);
    }
    let mut files = BTreeMap::new();
    for file in client.files().await {
        files.insert(file["_id"].to_string(), json!([file["name"], file["size"], file["md5sum"], file["mime"]]));
    }
    (bills, files)
}

async fn prepare(client: &TestClient, folder: &std::path::Path, vendor: &str) -> String {
    let source = bundle::bank101(&folder.join("bundle"), vendor, |_| {});
    let (status, body) = client.install("bank101", &source).await;
    assert_eq!(status, 202, "{body}");
    let auth = json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": demo_vendor::DEFAULT_PASSWORD });
    let account = client.create_account("bank101", auth).await;
    client.create_trigger("bank101", &account).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_ends_where_an_undisturbed_one_does() {
    let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");

    let undisturbed = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(undisturbed.path());
    let client = server.client().await;
    let trigger = prepare(&client, undisturbed.path(), vendor.url()).await;
    let job = client.run(&trigger).await;
    assert_eq!(job["state"], "done", "{job:#}");
    let expected = all_data(&client).await;
    drop(server);

    let killed = tempfile::tempdir().expect("a folder");
    let mut server = TestServer::start(killed.path());
    let mut client = server.client().await;
    let trigger = prepare(&client, killed.path(), vendor.url()).await;
    vendor.control().set(|switches| switches.slow_ms = 40);
    let job = client.launch(&trigger).await;
    for round in 0..4_u64 {
        tokio::time::sleep(Duration::from_millis(350 + 150 * round)).await;
        server.kill();
        server = TestServer::start(killed.path());
        client = server.client().await;
    }
    vendor.control().set(|switches| switches.slow_ms = 0);
    let attributes = client.wait_for_job(&job).await;
    assert_eq!(attributes["state"], "done", "{attributes:#}\n{}", server.log());
    assert!(attributes["interruptions"].as_u64().expect("it was interrupted") >= 1, "{attributes:#}");
    assert_eq!(attributes["attempt"], 1, "an interruption costs no attempt");
    assert_eq!(all_data(&client).await, expected);
}

/// Creates documents one after the other until the server is killed; returns those that were acknowledged.
async fn write_on(client: TestClient, writer: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let url = format!("{}/data/io.cozy.bills/", client.url);
    let http = konnector_tests::server::reqwest_client();
    loop {
        // Every fifth is too large for the database, and is stored in a separate file.
        let size = if acknowledged.len() % 5 == 4 { 20_000 } else { 500 };
        let body = json!({ "writer": writer, "text": "x".repeat(size) });
        let request = http.post(&url).header("Host", &client.domain).bearer_auth(&client.token);
        let response = request.header("Content-Type", "application/json").body(body.to_string()).send().await;
        let Ok(response) = response else { return acknowledged };
        let status = response.status();
        let Ok(body) = response.json::<Value>().await else { return acknowledged };
        assert_eq!(status, 201, "{body}");
        acknowledged.push(body["id"].as_str().expect("an id").to_owned());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeatedly_killed_server_has_all_acknowledged_data() {
    const ROUNDS: u32 = 24;
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    server.stop();
    let mut known = Vec::new();
    for round in 0..ROUNDS {
        let part = f64::from(round.reverse_bits()) / f64::from(u32::MAX);
        if round % 3 == 0 {
            // Killed while it starts.
            let mut starting = std::process::Command::new(binary())
                .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
                .arg(data.path())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("the server starts");
            tokio::time::sleep(Duration::from_secs_f64(part * 0.5)).await;
            starting.kill().expect("killed");
            starting.wait().expect("a status");
            continue;
        }
        let server = TestServer::start(data.path());
        let writers: Vec<_> =
            (0..4).map(|writer| tokio::spawn(write_on(client.with_url(&server.url), writer))).collect();
        tokio::time::sleep(Duration::from_secs_f64(part * 0.3)).await;
        server.kill();
        for writer in writers {
            known.extend(writer.await.expect("a writer"));
        }
    }
    let server = TestServer::start(data.path());
    let client = client.with_url(&server.url);
    let found = client.documents("io.cozy.bills").await;
    let found: std::collections::HashSet<&str> = found.iter().filter_map(|bill| bill["_id"].as_str()).collect();
    for id in &known {
        assert!(found.contains(id.as_str()), "{id} was acknowledged and is lost");
    }
    assert!(known.len() > 100, "only {} documents: the test shows little", known.len());
    server.stop();
    let checked = run_command(data.path(), &["fsck", "--deep"]);
    assert_eq!((checked.code, &checked.json["problems"]), (Some(0), &json!(0)), "{checked:?}");
}
