//! The HTTP server, over real connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use konnector_api::ConnectionLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

async fn start(router: Router) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(konnector_api::serve(listener, router, async move { drop(stopped.await) }));
    (address, stop, server)
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut response = Vec::new();
    // A server that rejects a request may close before it has read all of it.
    drop(stream.read_to_end(&mut response).await);
    String::from_utf8(response).expect("a text")
}

#[tokio::test]
async fn it_serves_until_shutdown_and_lets_requests_finish() {
    let slow = get(async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "done"
    });
    let (address, stop, server) = start(Router::new().route("/", slow)).await;
    let request =
        tokio::spawn(async move { exchange(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(()).expect("it runs");
    let response = request.await.expect("no panic");
    assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("done"), "{response}");
    server.await.expect("no panic").expect("no error");
    TcpStream::connect(address).await.expect_err("nobody listens any more");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let (address, _stop, _server) = start(Router::new().route("/", get(async || "ok"))).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(200 << 10));
    let response = exchange(address, &long).await;
    assert!(response.starts_with("HTTP/1.1 431"), "{response}");
}

#[tokio::test]
async fn the_admin_api_is_reached_under_the_address_it_listens_on() {
    use konnector_api::LocalAddress;
    let show = get(async |axum::Extension(LocalAddress(address)): axum::Extension<LocalAddress>| address.to_string());
    let (address, _stop, _server) = start(Router::new().route("/", show)).await;
    let response = exchange(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(response.ends_with(&address.to_string()), "{response}");
}

/// Opens connections that send nothing.
async fn idle(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(TcpStream::connect(address).await.expect("a connection"));
    }
    streams
}

async fn start_within(limits: ConnectionLimits, router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(konnector_api::serve_with_limits(limits, listener, router, std::future::pending()));
    address
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn silent_connections_block_nobody() {
    let limits = ConnectionLimits { total: 8, per_address: 8 };
    let address = start_within(limits, Router::new().route("/", get(async || "ok"))).await;
    let mut silent = idle(address, 40).await;
    for _ in 0..40 {
        let response = exchange(address, REQUEST).await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    // The first connections were evicted.
    let mut buffer = [0];
    assert!(matches!(silent[0].read(&mut buffer).await, Ok(0) | Err(_)));
    // A keep-alive connection is idle between two requests, too.
    let mut keep_alive = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        keep_alive.push(stream);
    }
    drop(silent);
}

#[tokio::test]
async fn active_requests_keep_their_connections_and_others_get_503() {
    let (entered, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let handler = {
        let (entered, release) = (entered.clone(), release.clone());
        get(async move || {
            entered.add_permits(1);
            drop(release.acquire().await);
            "done"
        })
    };
    let limits = ConnectionLimits { total: 3, per_address: 2 };
    let address = start_within(limits, Router::new().route("/", handler)).await;
    let (mut first, mut second) =
        (TcpStream::connect(address).await.expect("one"), TcpStream::connect(address).await.expect("two"));
    for stream in [&mut first, &mut second] {
        stream.write_all(REQUEST.as_bytes()).await.expect("written");
    }
    drop(entered.acquire_many(2).await);
    let rejected = exchange(address, "").await;
    assert!(rejected.starts_with("HTTP/1.1 503") && rejected.contains("retry-after: 2"), "{rejected}");
    release.add_permits(100);
    for stream in [&mut first, &mut second] {
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("an answer");
        assert!(response.ends_with("done"), "{response}");
    }
}

#[tokio::test]
async fn an_answer_says_how_long_it_is() {
    let (address, _stop, _server) = start(Router::new().route("/", get(async || "ok"))).await;
    let response = exchange(address, REQUEST).await;
    assert!(response.contains("content-length: 2"), "{response}");
}

#[tokio::test]
async fn a_request_with_two_hosts_is_refused() {
    let api = crate::support::Api::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(konnector_api::serve(listener, konnector_api::public(api.platform.clone()), std::future::pending()));
    for head in [
        "GET /version HTTP/1.1\r\nhost: alice.example\r\nhost: bob.example\r\n",
        "GET /version HTTP/1.1\r\nhost: alice.example\r\nHost: alice.example\r\n",
        "GET /version HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n",
        "POST /version HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n",
        "GET /version HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n",
    ] {
        let response = exchange(address, &format!("{head}connection: close\r\n\r\n")).await;
        assert!(response.starts_with("HTTP/1.1 400"), "{head}: {response}");
    }
}

/// The paused clock advances when all tasks wait.
#[tokio::test(start_paused = true)]
async fn a_connection_that_sends_no_request_is_closed() {
    let (address, _stop, _server) = start(Router::new().route("/", get(async || "ok"))).await;
    for (sent, is_request) in [("", false), ("GET / HT", false), ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", true)] {
        let exchange = tokio::time::timeout(Duration::from_secs(3_600), exchange(address, sent));
        let answer = exchange.await.expect("the connection is closed");
        assert_eq!(answer.starts_with("HTTP/1.1 200"), is_request, "{sent:?}: {answer}");
    }
}
