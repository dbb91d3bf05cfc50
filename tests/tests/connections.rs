//! Clients that open connections and leave them idle.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "by a panic, a test says that it failed"
)]

use std::net::{SocketAddr, TcpStream};

use konnector_tests::server::{TestServer, reqwest_client};
use serde_json::Value;

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn more_idle_connections_than_files_keep_neither_clients_nor_the_operator_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_with_open_files(folder.path(), 512);
    let mut idle = Vec::new();
    for (address, count) in [(address(&server.url), 600), (address(&server.admin_url), 100)] {
        for _ in 0..count {
            idle.push(TcpStream::connect(address).expect("a connection"));
        }
    }
    let http = reqwest_client();
    for _ in 0..20 {
        let ready = http.get(format!("{}/readyz", server.url)).send().await.expect("an answer");
        assert_eq!(ready.status(), 200);
    }
    // The operator gets a token, and a client with it stores a document, which needs files.
    let client = server.client().await;
    let (status, body) = client.post("/data/io.cozy.bills/", serde_json::json!({ "text": "x".repeat(100_000) })).await;
    assert_eq!(status, 201, "{body}");
    assert!(!server.log().contains("Too many open files"), "{}", server.log());
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(folder.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("the limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    let status: Value = serde_json::from_str(
        &reqwest_client()
            .get(format!("{}/version", server.url))
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("a text"),
    )
    .expect("JSON");
    assert!(status["version"].is_string(), "{status}");
}
