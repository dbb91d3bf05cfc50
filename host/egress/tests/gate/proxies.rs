//! Tests that a proxy from the environment is not used: it would see, and could redirect, all vetted traffic.

use std::process::Command;

use super::fixture::{Fixture, get, text};
use super::server::{Server, ok};

/// Set in the process that makes the request: variables can only be set safely for a process that has not started.
const CHILD_PROCESS_VARIABLE: &str = "GATE_TEST_BEHIND_PROXY";

#[tokio::test]
async fn the_environment_names_no_proxy() {
    let server = Server::start(|_| ok("direct")).await;
    if std::env::var_os(CHILD_PROCESS_VARIABLE).is_some() {
        let session = Fixture::new().allow(server.url("a.example", "")).session();
        assert_eq!(text(&get(&session, server.url("a.example", "/")).await.unwrap()), "direct");
        return;
    }
    let proxy = format!("http://127.0.0.1:{}", server.port());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "proxies::the_environment_names_no_proxy"]).env(CHILD_PROCESS_VARIABLE, "1");
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        child.env(name, &proxy).env(name.to_ascii_uppercase(), &proxy);
    }
    // Each of these makes some clients ignore a proxy.
    for name in ["REQUEST_METHOD", "NO_PROXY", "no_proxy"] {
        child.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
    assert_eq!(server.connections(), 0);
}
