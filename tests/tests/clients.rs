//! The clients and the SDK that Cozy publishes for Node, unchanged, against a running server: `tests/clients`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::path::{Path, PathBuf};

use demo_vendor::{DEFAULT_LOGIN, DEFAULT_PASSWORD, Vendor, VendorHandle, VendorOptions};
use konnector_tests::bundle;
use konnector_tests::client::TestClient;
use konnector_tests::server::TestServer;
use serde_json::json;
use tempfile::TempDir;
use test_tools::Tool;
use tokio::process::Command;

/// The folder with the programs.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// What the konnector of `tests/clients/sdk` saves in addition to the bank's own konnector.
const SAVED: [&str; 3] = ["io.cozy.accounts", "io.cozy.bank.operations", "io.cozy.notes.bank101"];

/// A server with the bank's konnector, an account and its trigger.
struct ClientsFixture {
    vendor: VendorHandle,
    server: TestServer,
    client: TestClient,
    account: String,
    source: String,
    /// The konnector's token.
    token: String,
    _data: TempDir,
}

impl ClientsFixture {
    async fn new() -> Self {
        let vendor = Vendor::start(VendorOptions::default()).await.expect("a vendor");
        let data = tempfile::tempdir().expect("a folder");
        let server = TestServer::start(data.path());
        let client = server.client().await;
        let source = bundle::bank101(&data.path().join("bundle"), vendor.url(), |manifest| {
            for doctype in SAVED {
                manifest["permissions"][doctype] = json!({ "type": doctype });
            }
        });
        let (status, body) = client.install("bank101", &source).await;
        assert_eq!(status, 202, "{body}");
        let auth = json!({ "login": DEFAULT_LOGIN, "password": DEFAULT_PASSWORD });
        let account = client.create_account("bank101", auth).await;
        client.create_trigger("bank101", &account).await;
        let (_, token) = server.token("konn", "bank101", "").await;
        Self { vendor, server, client, account, source, token, _data: data }
    }

    /// Runs a Node program, which must succeed.
    async fn node(&self, packages: &str, arguments: &[&str]) {
        let output = Command::new("node")
            .args(arguments)
            .current_dir(folder())
            .env("NODE_PATH", packages)
            .env("COZY_URL", &self.server.url)
            .env("COZY_TOKEN", &self.client.token)
            .env("KONNECTOR_SOURCE", &self.source)
            .env("KONNECTOR_ACCOUNT", &self.account)
            .env("KONNECTOR_TOKEN", &self.token)
            .env("KONNECTOR_VENDOR", self.vendor.url())
            .kill_on_drop(true)
            .output()
            .await
            .expect("node, which the packages were installed with");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "node {arguments:?}: {}\n{}\n{}\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr),
            self.server.log()
        );
    }
}

#[tokio::test]
async fn the_clients_that_cozy_publishes_work() {
    let Some(packages) = Tool::NODE_PACKAGES.require_variable("KONNECTOR_TEST_NODE_PACKAGES") else { return };
    let fixture = ClientsFixture::new().await;
    fixture.node(&packages, &["--test", "--test-concurrency=1"]).await;
}
