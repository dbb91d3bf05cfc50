//! The server itself, over real connections.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
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
    let mut answer = Vec::new();
    // A server that refuses a request may close before it has read all of it.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8(answer).expect("a text")
}

#[tokio::test]
async fn it_answers_until_it_is_told_to_stop_and_lets_requests_end() {
    let slow = get(async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "done"
    });
    let (address, stop, server) = start(Router::new().route("/", slow)).await;
    let request =
        tokio::spawn(async move { exchange(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(()).expect("it runs");
    let answer = request.await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    server.await.expect("no panic").expect("no error");
    TcpStream::connect(address).await.expect_err("nobody listens any more");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let (address, _stop, _server) = start(Router::new().route("/", get(async || "ok"))).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(200 << 10));
    let answer = exchange(address, &long).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn the_admin_api_is_reached_under_the_address_it_listens_on() {
    use konnector_api::LocalAddress;
    let show = get(async |axum::Extension(LocalAddress(address)): axum::Extension<LocalAddress>| address.to_string());
    let (address, _stop, _server) = start(Router::new().route("/", show)).await;
    let answer = exchange(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with(&address.to_string()), "{answer}");
}
