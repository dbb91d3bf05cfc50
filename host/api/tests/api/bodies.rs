//! Request bodies: whether they are read, and the limits on their memory.

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

/// Operations without a token: they read the bodies of unauthenticated clients.
const OPEN: [&str; 6] = [
    "post /jobs/webhooks/{id}",
    "get /files/archive/{secret}/{name}",
    "get /files/downloads/{secret}/{name}",
    "post /auth/register",
    "post /auth/authorize",
    "post /auth/access_token",
];

/// Returns a body, and a flag that is set when the body is read.
fn tracked_body() -> (Body, Arc<AtomicBool>) {
    let was_read = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&was_read);
    let parts = stream::once(async move {
        flag.store(true, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(b"{}"))
    });
    (Body::from_stream(parts), was_read)
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
            let (body, was_read) = tracked_body();
            let call = TestRequest::new(method.clone(), &path).text(body);
            let call = if let Some(token) = token { call.token(token) } else { call };
            api.send(call).await;
            if was_read.load(Ordering::Relaxed) {
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
        let (body, was_read) = tracked_body();
        let call = TestRequest::put(&path).text(body);
        let response = api.send(if let Some(token) = token { call.token(token) } else { call }).await;
        assert_eq!((response.status, was_read.load(Ordering::Relaxed)), (status, read), "{response}");
    }
}

async fn start(api: &Api) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(konnector_api::serve(listener, konnector_api::public(api.platform.clone()), std::future::pending()));
    address
}

async fn read_response(stream: &mut TcpStream) -> String {
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
        let response = read_response(&mut stream).await;
        assert!(response.starts_with("HTTP/1.1 401") || response.starts_with("HTTP/1.1 400"), "{response}");
    }
}

/// Incomplete bodies on a public route: an address may use its share and no more, and others still get responses.
#[tokio::test]
async fn half_bodies_of_strangers_are_held_within_bounds() {
    let api = Api::new().await;
    let address = start(&api).await;
    let half = vec![b' '; 1_000_000];
    let mut streams = Vec::new();
    let mut rejected = 0;
    while rejected == 0 {
        assert!(streams.len() < 16, "nobody is refused");
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = "POST /auth/register HTTP/1.1\r\nhost: alice.example\r\ncontent-length: 1048576\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("written");
        // A server that rejects a request may close before it has read all of it.
        drop(stream.write_all(&half).await);
        streams.push(stream);
        // The waiting requests get no response; the one that exceeds the share does.
        let waited = tokio::time::timeout(std::time::Duration::from_millis(200), async {
            let stream = streams.last_mut().expect("the new one");
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.map(|_| first)
        });
        match waited.await {
            Ok(Ok(first)) => {
                assert_eq!(&first, b"HTTP/1.1 503");
                rejected += 1;
            }
            Ok(Err(_reset)) => rejected += 1,
            Err(_) => {}
        }
    }
    assert_eq!(streams.len(), 5, "four of a million bytes have room");
    let token = api.token("*");
    let created = api.send(TestRequest::post("/data/io.cozy.bills/").token(&token).text("{}")).await;
    assert_eq!(created.status, 201, "{created}");
}
