//! Bodies: whose are read, and how much of them is held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::openapi::operations;
use crate::support::{Api, TestRequest};

/// Operations that take no token. Whoever adds one decides that everybody's bodies are read there.
const OPEN: [&str; 6] = [
    "post /jobs/webhooks/{id}",
    "get /files/archive/{secret}/{name}",
    "get /files/downloads/{secret}/{name}",
    "post /auth/register",
    "post /auth/authorize",
    "post /auth/access_token",
];

/// A body that notes whether somebody wanted it.
fn tracked_body() -> (Body, Arc<AtomicBool>) {
    let asked = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&asked);
    let parts = stream::once(async move {
        note.store(true, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(b"{}"))
    });
    (Body::from_stream(parts), asked)
}

#[tokio::test]
async fn no_byte_of_a_body_is_read_before_the_token() {
    let api = Api::new().await;
    let description = api.send(TestRequest::get("/openapi.json")).await.json();
    let mut read = Vec::new();
    for (operation, _) in operations(&description) {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let method: Method = method.to_uppercase().parse().expect("a method");
        let path = path.replace("{doctype}", "io.cozy.bills").replace(['{', '}'], "");
        for token in [None, Some("forged"), Some("a.b.c")] {
            let (body, asked) = tracked_body();
            let call = TestRequest::new(method.clone(), &path).text(body);
            let call = if let Some(token) = token { call.token(token) } else { call };
            api.send(call).await;
            if asked.load(Ordering::Relaxed) {
                read.push(operation.clone());
            }
        }
    }
    read.dedup();
    assert_eq!(read, OPEN);
}

#[tokio::test]
async fn no_byte_about_a_registration_is_read_before_its_token() {
    let api = Api::new().await;
    let client =
        serde_json::json!({ "redirect_uris": ["https://app.example/"], "client_name": "App", "software_id": "app" });
    let client =
        api.platform.oauth_clients().register(&api.alice, crate::support::object(client)).await.expect("a client");
    let path = format!("/auth/register/{}", client.client.id);
    for (token, status, read) in
        [(None, 401, false), (Some("forged"), 401, false), (Some(client.registration_token.as_str()), 400, true)]
    {
        let (body, asked) = tracked_body();
        let call = TestRequest::put(&path).text(body);
        let answer = api.send(if let Some(token) = token { call.token(token) } else { call }).await;
        assert_eq!((answer.status, asked.load(Ordering::Relaxed)), (status, read), "{answer}");
    }
}

async fn start(api: &Api) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(konnector_api::serve(listener, konnector_api::public(api.platform.clone()), std::future::pending()));
    address
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut read = vec![0; 4096];
    let length = stream.read(&mut read).await.expect("an answer");
    read.truncate(length);
    String::from_utf8(read).expect("a text")
}

#[tokio::test]
async fn a_missing_token_is_rejected_before_the_body_arrives() {
    let api = Api::new().await;
    let address = start(&api).await;
    for token in ["", "authorization: Bearer forged\r\n"] {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = format!(
            "POST /data/io.cozy.bills/ HTTP/1.1\r\nhost: alice.example\r\n{token}content-length: 1000000\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 401") || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

/// Half bodies to a route that is for everybody: an address gets its share and no more, and others are answered meanwhile.
#[tokio::test]
async fn half_bodies_of_strangers_are_held_within_bounds() {
    let api = Api::new().await;
    let address = start(&api).await;
    let half = vec![b' '; 1_000_000];
    let mut held = Vec::new();
    let mut refused = 0;
    while refused == 0 {
        assert!(held.len() < 16, "nobody is refused");
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = "POST /auth/register HTTP/1.1\r\nhost: alice.example\r\ncontent-length: 1048576\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("written");
        // A server that refuses may close before it has read all of it.
        drop(stream.write_all(&half).await);
        held.push(stream);
        // Of those that are held none is answered; the one that is too much is.
        let waited = tokio::time::timeout(std::time::Duration::from_millis(200), async {
            let stream = held.last_mut().expect("the new one");
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.map(|_| first)
        });
        match waited.await {
            Ok(Ok(first)) => {
                assert_eq!(&first, b"HTTP/1.1 503");
                refused += 1;
            }
            Ok(Err(_reset)) => refused += 1,
            Err(_) => {}
        }
    }
    assert_eq!(held.len(), 5, "four of a million bytes have room");
    let token = api.token("*");
    let created = api.send(TestRequest::post("/data/io.cozy.bills/").token(&token).text("{}")).await;
    assert_eq!(created.status, 201, "{created}");
}
