//! The plug is pulled in the middle of a run: the job runs again, and the store ends as after one undisturbed run.

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
use konnector_tests::client::Client;
use konnector_tests::server::Server;
use serde_json::{Value, json};

/// What a person has in the end: bills and files by what identifies them, without times and revisions.
async fn possessions(client: &Client) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
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

async fn prepare(client: &Client, folder: &std::path::Path, vendor: &str) -> String {
    let source = bundle::bank101(&folder.join("bundle"), vendor, |_| {});
    let (status, body) = client.install("bank101", &source).await;
    assert_eq!(status, 202, "{body}");
    let auth = json!({ "login": demo_vendor::DEFAULT_LOGIN, "password": demo_vendor::DEFAULT_PASSWORD });
    let account = client.account("bank101", auth).await;
    client.trigger("bank101", &account).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_ends_where_an_undisturbed_one_does() {
    let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");

    let calm = tempfile::tempdir().expect("a folder");
    let server = Server::start(calm.path());
    let client = server.client().await;
    let trigger = prepare(&client, calm.path(), vendor.url()).await;
    let done = client.run(&trigger).await;
    assert_eq!(done["state"], "done", "{done:#}");
    let expected = possessions(&client).await;
    drop(server);

    let rough = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(rough.path());
    let mut client = server.client().await;
    let trigger = prepare(&client, rough.path(), vendor.url()).await;
    vendor.control().set(|switches| switches.slow_ms = 40);
    let job = client.launch(&trigger).await;
    for round in 0..4_u64 {
        tokio::time::sleep(Duration::from_millis(350 + 150 * round)).await;
        server.kill();
        server = Server::start(rough.path());
        client = server.client().await;
    }
    vendor.control().set(|switches| switches.slow_ms = 0);
    let attributes = client.finished(&job).await;
    assert_eq!(attributes["state"], "done", "{attributes:#}\n{}", server.log());
    assert!(attributes["interruptions"].as_u64().expect("it was interrupted") >= 1, "{attributes:#}");
    assert_eq!(attributes["attempt"], 1, "an interruption costs no attempt");
    assert_eq!(possessions(&client).await, expected);
}
