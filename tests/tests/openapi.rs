//! The description of the HTTP APIs against the running server: Schemathesis tries every operation with valid and
//! with invalid input, and finds no server error and no undescribed response.

#![allow(clippy::expect_used, clippy::panic, reason = "by a panic, a test says that it failed")]

use std::path::Path;

use konnector_tests::server::TestServer;
use test_tools::Tool;
use tokio::process::Command;

/// Checks of each response: no server error, and status, media type and body as described.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// Requests for unsupported features, such as sending mail, get an error that is not a failure of the server.
const CONFIG: &str = r#"checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501]"#;
/// Generated requests per operation, in addition to those at the boundaries of the description.
const EXAMPLES: &str = "15";

/// Tests every operation of a description.
async fn run_schemathesis(program: &str, folder: &Path, url: &str, credentials: [&str; 2], server: &TestServer) {
    std::fs::write(folder.join("schemathesis.toml"), CONFIG).expect("written");
    let output = Command::new(program)
        .args(["run", &format!("{url}/openapi.json"), "--checks", CHECKS, "--phases", "coverage,fuzzing"])
        .args(["--max-examples", EXAMPLES, "--seed", "1", "--continue-on-failure", "--request-timeout", "30"])
        .args(["--warnings", "off", "--no-color"])
        .args(credentials)
        .current_dir(folder)
        .kill_on_drop(true)
        .output()
        .await
        .expect("Schemathesis runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let report = stdout.split_once("= FAILURES =").map_or(&*stdout, |(_, failures)| failures);
    assert!(output.status.success(), "{report}\n{}\n{}", String::from_utf8_lossy(&output.stderr), server.log());
}

#[tokio::test]
async fn every_response_is_described() {
    let Some(program) = Tool::SCHEMATHESIS.require_variable("KONNECTOR_TEST_SCHEMATHESIS") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(data.path());
    let client = server.client().await;
    let token = format!("Authorization: Bearer {}", client.token);
    run_schemathesis(&program, data.path(), &server.url, ["--header", &token], &server).await;
    let passphrase = format!("admin:{}", server.passphrase());
    run_schemathesis(&program, data.path(), &server.admin_url, ["--auth", &passphrase], &server).await;
}
