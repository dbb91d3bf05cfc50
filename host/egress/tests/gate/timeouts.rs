//! Tests that every wait has a timeout, and that the error says which one expired.

use std::time::{Duration, Instant};

use konnector_egress::{HttpError, Phase, Request};
use tokio::net::TcpListener;

use super::fixture::{Fixture, get, milliseconds};
use super::server::{ResponseStep, Server, response};

const HEAD: &[u8] = b"HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n";

fn assert_timeout(error: HttpError, phase: Phase) {
    assert_eq!(error, HttpError::Timeout(phase));
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let server = Server::start(|_| vec![ResponseStep::Stall]).await;
    let session =
        Fixture::new().allow(server.url("a.example", "")).timeouts(|times| times.headers = milliseconds(100)).session();
    assert_timeout(get(&session, server.url("a.example", "/")).await.unwrap_err(), Phase::Headers);
    server.wait_for_disconnect().await;
}

#[tokio::test]
async fn a_handshake_that_is_never_finished() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://a.example:{}", listener.local_addr().unwrap().port());
    let session = Fixture::new().allow(&*url).timeouts(|times| times.connect = milliseconds(100)).session();
    assert_timeout(get(&session, url).await.unwrap_err(), Phase::Connect);
}

#[tokio::test]
async fn a_body_that_stalls() {
    let server = Server::start(|_| {
        vec![ResponseStep::Write(HEAD.to_vec()), ResponseStep::Write(b"x".to_vec()), ResponseStep::Stall]
    })
    .await;
    let session =
        Fixture::new().allow(server.url("a.example", "")).timeouts(|times| times.idle = milliseconds(100)).session();
    assert_timeout(get(&session, server.url("a.example", "/")).await.unwrap_err(), Phase::Body);
    server.wait_for_disconnect().await;
    let mut stream = session.open(Request::get(server.url("a.example", "/"))).await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "x");
    assert_timeout(stream.chunk().await.unwrap_err(), Phase::Body);
}

#[tokio::test]
async fn a_body_that_takes_its_time() {
    let server = Server::start(|_| {
        let mut steps = vec![ResponseStep::Write(HEAD.to_vec())];
        for _ in 0..1000 {
            steps.extend([ResponseStep::Write(vec![b'x'; 100]), ResponseStep::Wait(milliseconds(20))]);
        }
        steps
    })
    .await;
    let session = Fixture::new()
        .allow(server.url("a.example", ""))
        .timeouts(|times| {
            times.idle = milliseconds(500);
            times.stream = milliseconds(1_200);
        })
        .session();
    // Timeouts below one second, including zero, count as one second.
    let request = || Request { timeout: Some(Duration::ZERO), ..Request::get(server.url("a.example", "/")) };
    let start = Instant::now();
    assert_timeout(session.send(request()).await.unwrap_err(), Phase::Total);
    assert!(start.elapsed() >= milliseconds(950), "{:?}", start.elapsed());
    let mut stream = session.open(Request::get(server.url("a.example", "/"))).await.unwrap();
    let error = loop {
        if let Err(error) = stream.chunk().await {
            break error;
        }
    };
    assert_timeout(error, Phase::Total);
}

/// Returns the steps of a response that arrives byte by byte.
fn dripping(head: &'static [u8], byte: u8) -> Vec<ResponseStep> {
    let drop = [ResponseStep::Write(vec![byte]), ResponseStep::Wait(milliseconds(30))];
    [ResponseStep::Write(head.to_vec())].into_iter().chain(std::iter::repeat_n(drop, 1_000).flatten()).collect()
}

#[tokio::test]
async fn a_body_that_drips() {
    let server = Server::start(|_| dripping(HEAD, b'x')).await;
    let session =
        Fixture::new().allow(server.url("a.example", "")).timeouts(|times| times.idle = milliseconds(300)).session();
    let start = Instant::now();
    assert_timeout(get(&session, server.url("a.example", "/")).await.unwrap_err(), Phase::Body);
    assert!(start.elapsed() >= milliseconds(250) && start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let mut stream = session.open(Request::get(server.url("a.example", "/"))).await.unwrap();
    let error = loop {
        if let Err(error) = stream.chunk().await {
            break error;
        }
    };
    assert_timeout(error, Phase::Body);
}

#[tokio::test]
async fn headers_that_drip() {
    let server = Server::start(|_| dripping(b"HTTP/1.1 200 X\r\nX-Y: ", b'z')).await;
    let session =
        Fixture::new().allow(server.url("a.example", "")).timeouts(|times| times.headers = milliseconds(300)).session();
    assert_timeout(get(&session, server.url("a.example", "/")).await.unwrap_err(), Phase::Headers);
}

#[tokio::test]
async fn who_reads_slowly_does_not_time_out() {
    let server = Server::start(|_| response(200, &[], vec![b'x'; 500])).await;
    let session =
        Fixture::new().allow(server.url("a.example", "")).timeouts(|times| times.idle = milliseconds(200)).session();
    let mut stream = session.open(Request::get(server.url("a.example", "/"))).await.unwrap();
    tokio::time::sleep(milliseconds(500)).await;
    assert_eq!(stream.chunk().await.unwrap().unwrap().len(), 500);
    tokio::time::sleep(milliseconds(500)).await;
    assert_eq!(stream.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_guest_cannot_ask_for_more_than_the_ceiling() {
    let server = Server::start(|_| vec![ResponseStep::Stall]).await;
    let session = Fixture::new()
        .allow(server.url("a.example", ""))
        .timeouts(|times| times.max_total = milliseconds(1_100))
        .session();
    let request = Request { timeout: Some(Duration::MAX), ..Request::get(server.url("a.example", "/")) };
    assert_timeout(session.send(request).await.unwrap_err(), Phase::Total);
}

#[tokio::test]
async fn the_time_counts_over_redirects() {
    let server = Server::start(|_| {
        let mut steps = vec![ResponseStep::Wait(milliseconds(300))];
        steps.extend(response(302, &[("Location", "/")], ""));
        steps
    })
    .await;
    let session =
        Fixture::new().allow(server.url("a.example", "")).timeouts(|times| times.total = milliseconds(1_000)).session();
    assert_timeout(get(&session, server.url("a.example", "/")).await.unwrap_err(), Phase::Total);
    assert!(server.requests().len() <= 4);
}
