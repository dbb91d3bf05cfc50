//! `/realtime`, over real sockets.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{HOST, SEC_WEBSOCKET_PROTOCOL};
use konnector_platform::principal::Audience;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{Api, TestRequest};

/// Starts a server; returns its address.
async fn start_with_token() -> (Api, String) {
    let api = Api::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let router = konnector_api::public(api.platform.clone());
    tokio::spawn(konnector_api::serve(listener, router, std::future::pending()));
    (api, address)
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(address: &str) -> Self {
        let mut request = format!("ws://{address}/realtime/").into_client_request().expect("a request");
        request.headers_mut().insert(HOST, "alice.example".parse().expect("a header"));
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, "io.cozy.websocket".parse().expect("a header"));
        let (socket, response) = connect_async(request).await.expect("a websocket");
        assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "io.cozy.websocket");
        Self(socket)
    }

    async fn open_authenticated(address: &str, token: &str) -> Self {
        let mut socket = Self::open(address).await;
        socket.send(json!({ "method": "AUTH", "payload": token })).await;
        socket
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("sent");
    }

    async fn subscribe(&mut self, doctype: &str, id: Option<&str>) {
        self.send(json!({ "method": "SUBSCRIBE", "payload": { "type": doctype, "id": id } })).await;
    }

    /// Receives the next frame; `None` if the server closes or sends nothing for a while.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let message = tokio::time::timeout(Duration::from_millis(500), self.0.next()).await.ok()??.ok()?;
            match message {
                Message::Text(text) => return Some(serde_json::from_str(&text).expect("JSON")),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Waits until all sent frames are processed: an unknown method gets its response in order.
    async fn sync(&mut self) {
        self.send(json!({ "method": "SETTLE" })).await;
        let response = self.next().await.expect("an answer");
        assert_eq!(response["payload"]["title"], "The SETTLE method is not supported");
    }
}

async fn notify(api: &Api, path: &str, body: Value) {
    let call = TestRequest::post(&format!("/realtime/{path}")).token(&api.token("*")).json(&body);
    assert_eq!(api.send(call).await.status, 204);
}

#[tokio::test]
async fn r1_frames_that_are_refused_are_answered() {
    let (api, address) = start_with_token().await;
    let mut frames = Vec::new();
    for first in [
        json!({ "method": "SUBSCRIBE", "payload": { "type": "io.cozy.bills" } }),
        json!({ "method": "AUTH", "payload": "garbage" }),
    ] {
        let mut socket = Socket::open(&address).await;
        socket.send(first).await;
        frames.push(socket.next().await.expect("an answer"));
        assert_eq!(socket.next().await, None, "closed");
    }
    let mut socket =
        Socket::open_authenticated(&address, &api.token("io.cozy.bills:GET io.cozy.contacts:GET:one")).await;
    for (doctype, id) in [
        ("io.cozy.files", None),
        ("io.cozy.contacts", None),
        ("io.cozy.contacts", Some("two")),
        ("", None),
        ("Not A Type", None),
    ] {
        socket.subscribe(doctype, id).await;
        frames.push(socket.next().await.expect("an answer"));
    }
    socket.sync().await;
    insta::assert_snapshot!(frames.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn r1_events_come_exactly_for_what_was_subscribed() {
    let (api, address) = start_with_token().await;
    let mut socket =
        Socket::open_authenticated(&address, &api.token("io.cozy.bills io.cozy.contacts io.cozy.bazs")).await;
    socket.subscribe("io.cozy.bazs", Some("one")).await;
    socket.subscribe("io.cozy.bazs", Some("two")).await;
    socket.subscribe("io.cozy.bills", None).await;
    socket.sync().await;
    for id in ["one", "two", "three"] {
        notify(&api, &format!("io.cozy.bazs/{id}"), json!({ "hello": id })).await;
    }
    notify(&api, "io.cozy.contacts/one", json!({})).await;
    let mut events = vec![socket.next().await.expect("an event"), socket.next().await.expect("an event")];
    socket.send(json!({ "method": "UNSUBSCRIBE", "payload": { "type": "io.cozy.bazs", "id": "one" } })).await;
    socket.sync().await;
    notify(&api, "io.cozy.bazs/one", json!({})).await;
    notify(&api, "io.cozy.bazs/two", json!({ "hello": "again" })).await;
    events.push(socket.next().await.expect("an event"));
    insta::assert_snapshot!(events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"), @r#"
    {"event":"NOTIFIED","payload":{"type":"io.cozy.bazs","id":"one","doc":{"hello":"one","_id":"one"}}}
    {"event":"NOTIFIED","payload":{"type":"io.cozy.bazs","id":"two","doc":{"hello":"two","_id":"two"}}}
    {"event":"NOTIFIED","payload":{"type":"io.cozy.bazs","id":"two","doc":{"hello":"again","_id":"two"}}}
    "#);

    // Changes of stored documents are sent with their kind.
    let token = api.token("io.cozy.bills");
    let created =
        api.send(TestRequest::post("/data/io.cozy.bills/").token(&token).json(&json!({ "amount": 1 }))).await.json();
    let (id, rev) = (created["id"].as_str().expect("an id"), created["rev"].as_str().expect("a revision"));
    let path = format!("/data/io.cozy.bills/{id}");
    let update = json!({ "_id": id, "_rev": rev, "amount": 2 });
    let rev = api.send(TestRequest::put(&path).token(&token).json(&update)).await.json()["rev"]
        .as_str()
        .expect("a revision")
        .to_owned();
    api.send(TestRequest::delete(&format!("{path}?rev={rev}")).token(&token)).await;
    for (event, amount) in [("CREATED", json!(1)), ("UPDATED", json!(2)), ("DELETED", json!(2))] {
        let frame = socket.next().await.expect("an event");
        assert_eq!((&frame["event"], &frame["payload"]["id"]), (&json!(event), &json!(id)), "{frame}");
        assert_eq!(frame["payload"]["doc"]["amount"], amount, "{frame}");
    }
    assert_eq!(socket.next().await, None, "nothing else");
}

/// A rule on a directory covers the files below it; instances receive no events of others.
#[tokio::test]
async fn rules_and_instances_hold_for_events_too() {
    let (api, address) = start_with_token().await;
    let directory = api.platform.files().ensure_directory(&api.alice, "/Bank").await.expect("a directory");
    let below = api.platform.files().ensure_directory(&api.alice, "/Bank/2026").await.expect("a directory");
    let mut socket =
        Socket::open_authenticated(&address, &api.token(&format!("io.cozy.files:GET:{}", directory.id))).await;
    socket.subscribe("io.cozy.files", Some(&below.id)).await;
    socket.subscribe("io.cozy.files", Some("io.cozy.files.root-dir")).await;
    let rejected = socket.next().await.expect("an answer");
    assert_eq!(rejected["payload"]["source"]["payload"]["id"], "io.cozy.files.root-dir");

    let mut everything = Socket::open_authenticated(&address, &api.token("*")).await;
    everything.subscribe("io.cozy.bazs", None).await;
    everything.sync().await;
    api.platform.realtime().notify(&api.bob, &"io.cozy.bazs".parse().expect("a type"), "one", serde_json::Map::new());
    assert_eq!(everything.next().await, None);
}

impl Socket {
    /// Waits for the close frame; returns its code and reason.
    async fn wait_closed(&mut self) -> Option<(u16, String)> {
        let closed = async {
            while let Some(Ok(message)) = self.0.next().await {
                if let Message::Close(frame) = message {
                    return frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                }
            }
            None
        };
        tokio::time::timeout(Duration::from_secs(10), closed).await.expect("an end")
    }
}

/// A frame of more than 1,024 bytes closes the connection with a reason (RFC 6455 §7.4.1).
#[tokio::test]
async fn large_frames_end_the_connection() {
    let (api, address) = start_with_token().await;
    for (length, binary) in [(900, false), (1_025, true), (2_000, false), (60_000, false)] {
        let mut socket = Socket::open_authenticated(&address, &api.token("*")).await;
        socket.sync().await;
        let text = json!({ "method": "SUBSCRIBE", "payload": { "type": "x".repeat(length) } }).to_string();
        let message = if binary { Message::binary(text) } else { Message::text(text) };
        socket.0.send(message).await.expect("sent");
        if length == 900 {
            // It is not too large.
            socket.sync().await;
            continue;
        }
        let close = (1009, "the frame is longer than 1024 bytes".to_owned());
        assert_eq!(socket.wait_closed().await, Some(close), "{length} bytes");
    }
}

#[tokio::test]
async fn the_reason_of_a_close_is_the_reason() {
    let (api, address) = start_with_token().await;
    let first = r#"the first frame must be {"method":"AUTH","payload":"<token>"}"#;
    for (frame, reason) in [
        (json!({ "method": "AUTH", "payload": "garbage" }), "the token is not valid"),
        (json!({ "method": "AUTH", "payload": api.token("*") + "x" }), "the token is not valid"),
        (json!({ "method": "AUTH" }), "the token is not valid"),
        (json!({ "method": "SUBSCRIBE", "payload": { "type": "io.cozy.bills" } }), first),
        (json!("hello"), first),
    ] {
        let mut socket = Socket::open(&address).await;
        socket.send(frame.clone()).await;
        assert_eq!(socket.wait_closed().await, Some((1008, reason.to_owned())), "{frame}");
    }
}

/// Events of one instance never close a socket of another; events of a run close none at all.
#[tokio::test]
async fn a_flood_on_one_instance_is_nothing_to_another() {
    let (api, address) = start_with_token().await;
    let mut socket = Socket::open_authenticated(&address, &api.token("*")).await;
    socket.subscribe("io.cozy.bazs", None).await;
    socket.sync().await;
    let bazs = "io.cozy.bazs".parse().expect("a type");
    for number in 0..300_000 {
        let doc =
            serde_json::Map::from_iter([("type".to_owned(), json!("progress")), ("done".to_owned(), json!(number))]);
        for instance in [&api.alice, &api.bob] {
            api.platform.realtime().publish(konnector_platform::realtime::RealtimeEvent {
                instance: instance.id.clone(),
                kind: konnector_platform::realtime::ChangeKind::Created,
                doctype: konnector_platform::doctype::JOB_EVENTS.clone(),
                id: "job".to_owned(),
                doc: doc.clone(),
            });
        }
        if number % 100 == 0 {
            api.platform.realtime().notify(&api.bob, &bazs, "one", serde_json::Map::new());
        }
    }
    notify(&api, "io.cozy.bazs/one", json!({ "hello": "alice" })).await;
    assert_eq!(socket.next().await.expect("an event")["payload"]["doc"]["hello"], "alice");
}

#[tokio::test]
async fn a_listener_that_falls_behind_is_sent_away() {
    let (api, address) = start_with_token().await;
    let mut socket = Socket::open_authenticated(&address, &api.token("*")).await;
    socket.subscribe("io.cozy.bazs", None).await;
    socket.sync().await;
    let doctype = "io.cozy.bazs".parse().expect("a type");
    // Without a pause, so that the socket's task does not run in between.
    for number in 0..3_000 {
        let body = serde_json::Map::from_iter([("number".to_owned(), json!(number))]);
        api.platform.realtime().notify(&api.alice, &doctype, "one", body);
    }
    let closed = async {
        while let Some(Ok(message)) = socket.0.next().await {
            if let Message::Close(frame) = message {
                return frame.map(|frame| u16::from(frame.code));
            }
        }
        None
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), closed).await.expect("an end"), Some(1013));
}

/// Listeners trust events about jobs, triggers and files.
#[tokio::test]
async fn a_konnector_cannot_notify_about_reserved_doctypes() {
    let (api, address) = start_with_token().await;
    let reserved = ["io.cozy.jobs", "io.cozy.jobs.events", "io.cozy.triggers", "io.cozy.files", "io.cozy.permissions"];
    let rules =
        reserved.iter().chain(&["io.cozy.bills"]).map(|doctype| ((*doctype).to_owned(), json!({ "type": doctype })));
    api.install("liar", Value::Object(rules.collect())).await;
    let token = api.token_of(Audience::Konnector, "liar", "");
    let mut socket = Socket::open_authenticated(&address, &api.token("*")).await;
    for doctype in reserved.iter().chain(&["io.cozy.bills", "io.cozy.contacts"]) {
        socket.subscribe(doctype, None).await;
    }
    socket.sync().await;
    let send = async |doctype: &str| {
        let call =
            TestRequest::post(&format!("/realtime/{doctype}/one")).token(&token).json(&json!({ "state": "done" }));
        api.send(call).await.status
    };
    for doctype in reserved {
        assert_eq!(send(doctype).await, 403, "{doctype}");
    }
    assert_eq!(send("io.cozy.contacts").await, 403, "the manifest has no rule for it");
    assert_eq!(send("io.cozy.bills").await, 204);
    assert_eq!(socket.next().await.expect("an event")["payload"]["type"], "io.cozy.bills", "the only event");
}

#[tokio::test]
async fn websockets_have_bounds() {
    let (api, address) = start_with_token().await;
    // Clients that send no token.
    let mut silent = Vec::new();
    let rejected = loop {
        assert!(silent.len() <= 256, "nobody is refused");
        let mut request = format!("ws://{address}/realtime/").into_client_request().expect("a request");
        request.headers_mut().insert(HOST, "alice.example".parse().expect("a header"));
        match connect_async(request).await {
            Ok((socket, _)) => silent.push(socket),
            Err(error) => break error.to_string(),
        }
    };
    assert!(rejected.contains("503"), "{rejected}");
    assert_eq!(silent.len(), 256);
    // A disconnect frees a permit once the server notices it.
    silent.pop().expect("one").close(None).await.expect("closed");
    let mut known = loop {
        let mut request = format!("ws://{address}/realtime/").into_client_request().expect("a request");
        request.headers_mut().insert(HOST, "alice.example".parse().expect("a header"));
        if let Ok((socket, _)) = connect_async(request).await {
            break Socket(socket);
        }
    };
    known.send(json!({ "method": "AUTH", "payload": api.token("*") })).await;
    let long = "x".repeat(900);
    for number in 0..73 {
        known.subscribe("io.cozy.bills", Some(&format!("{long}{number:03}"))).await;
    }
    let rejected = known.next().await.expect("an answer");
    assert_eq!(rejected["payload"]["status"], "429 Too Many Requests", "{rejected}");
}
