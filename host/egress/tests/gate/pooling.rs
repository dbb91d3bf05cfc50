//! Tests how connections are used, shared and closed.

use std::sync::Arc;

use konnector_egress::Request;
use tokio::task::JoinSet;

use super::fixture::{Fixture, get, milliseconds};
use super::server::{ResponseStep, Server, ok, response};

#[tokio::test]
async fn a_run_uses_its_connection_again_and_shares_it_with_nobody() {
    let server = Server::start(|_| ok("")).await;
    let fixture = Fixture::new().allow(server.url("a.example", ""));
    let gate = fixture.gate();
    let (one, two) = (fixture.session_of(&gate), fixture.session_of(&gate));
    for _ in 0..3 {
        get(&one, server.url("a.example", "/")).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    get(&two, server.url("a.example", "/")).await.unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn giving_up_a_request_closes_its_connection() {
    let server = Server::start(|_| vec![ResponseStep::Stall]).await;
    let session = Fixture::new().allow(server.url("a.example", "")).session();
    let sending = tokio::spawn({
        let (session, url) = (session.clone(), server.url("a.example", "/"));
        async move { get(&session, url).await }
    });
    while server.requests().is_empty() {
        tokio::time::sleep(milliseconds(5)).await;
    }
    sending.abort();
    server.wait_for_disconnect().await;
}

#[tokio::test]
async fn giving_up_a_stream_closes_its_connection_and_frees_its_place() {
    let server = Server::start(|_| {
        vec![ResponseStep::Write(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nx".to_vec()), ResponseStep::Stall]
    })
    .await;
    let mut fixture = Fixture::new().allow(server.url("a.example", ""));
    fixture.options.max_exchanges = 1;
    let session = fixture.session();
    for _ in 0..3 {
        drop(session.open(Request::get(server.url("a.example", "/"))).await.unwrap());
    }
    server.wait_for_disconnect().await;
}

async fn max_concurrent_requests(fixture: &Fixture, server: &Server, sessions: usize) -> usize {
    let gate = fixture.gate();
    let sessions: Vec<_> = (0..sessions).map(|_| fixture.session_of(&gate)).collect();
    let url: Arc<str> = server.url("a.example", "/").into();
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let (session, url) = (sessions[number % sessions.len()].clone(), url.to_string());
        tasks.spawn(async move { get(&session, url).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.len(), 20);
    server.max_concurrent_requests()
}

async fn slow() -> Server {
    Server::start(|_| {
        let mut steps = vec![ResponseStep::Wait(milliseconds(50))];
        steps.extend(response(200, &[], ""));
        steps
    })
    .await
}

#[tokio::test]
async fn exchanges_are_limited_for_a_host_and_for_the_process() {
    let server = slow().await;
    let fixture = Fixture::new().allow(server.url("a.example", ""));
    assert_eq!(max_concurrent_requests(&fixture, &server, 1).await, 6);

    let server = slow().await;
    let mut fixture = Fixture::new().allow(server.url("a.example", ""));
    fixture.options.max_exchanges = 3;
    assert_eq!(max_concurrent_requests(&fixture, &server, 5).await, 3);

    // The limit of a run is smaller than the sum of the limits of its hosts.
    let server = slow().await;
    let mut fixture = Fixture::new().allow(server.url("a.example", ""));
    fixture.options.max_exchanges_per_run = 2;
    assert_eq!(max_concurrent_requests(&fixture, &server, 1).await, 2);
    assert!(max_concurrent_requests(&fixture, &server, 2).await > 2);
}
