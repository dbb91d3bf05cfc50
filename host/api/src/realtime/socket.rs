//! One socket, from its first frame to its end.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use konnector_platform::Platform;
use konnector_platform::instance::Instance;
use konnector_platform::realtime::Missed;
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at, timeout};

use super::MAX_FRAME;
use super::places::{self, Place};
use super::protocol::{self, Refusal, Request};
use super::subscriptions::Subscriptions;
use crate::server::ClientAddress;

/// How long a client may take to say who it is.
const AUTH: Duration = Duration::from_secs(30);
/// How often a client is asked whether it is there, and how long it may be silent.
const PING: Duration = Duration::from_secs(54);
const SILENCE: Duration = Duration::from_secs(60);
/// How long a client may take to take a frame.
const WRITE: Duration = Duration::from_secs(10);

/// The connection is of no more use.
struct Gone;

/// Serves a socket until its client leaves, falls silent or behind, or the server stops.
pub async fn serve(platform: Platform, instance: Arc<Instance>, stream: WebSocket, pending: Place<ClientAddress>) {
    let stopped = platform.stopped();
    let mut socket = Socket { stream, heard: Instant::now() };
    tokio::select! {
        biased;
        () = stopped => socket.close(close_code::AWAY, "the server stops").await,
        _ = socket.converse(&platform, instance, pending) => {}
    }
}

struct Socket {
    stream: WebSocket,
    /// When the client was last heard of.
    heard: Instant,
}

impl Socket {
    async fn converse(
        &mut self,
        platform: &Platform,
        instance: Arc<Instance>,
        pending: Place<ClientAddress>,
    ) -> Result<(), Gone> {
        let mut subscriptions = self.authenticated(platform, Arc::clone(&instance)).await?;
        drop(pending);
        let Some(_open) = places::open(instance.id.clone()) else {
            self.close(close_code::AGAIN, "too many websockets are open; try again later").await;
            return Err(Gone);
        };
        // Listening begins before the first subscription, so that nothing is missed after it.
        let mut events = platform.bus.subscribe(&instance.id);
        let mut pings = interval_at(Instant::now() + PING, PING);
        loop {
            tokio::select! {
                request = self.request() => self.follow(&mut subscriptions, &request?).await?,
                event = events.recv() => match event {
                    Ok(event) if subscriptions.contain(&event) => self.send(protocol::frame(&event)).await?,
                    Ok(_) => {}
                    Err(Missed::Hints) => {}
                    Err(Missed::Documents) => {
                        // What was missed is not known: the client connects again and looks for itself.
                        self.close(close_code::AGAIN, "events were missed; connect again").await;
                        return Err(Gone);
                    }
                },
                _ = pings.tick() => self.ping().await?,
            }
        }
    }

    /// Waits for the first frame, which must say who the client is.
    async fn authenticated(&mut self, platform: &Platform, instance: Arc<Instance>) -> Result<Subscriptions, Gone> {
        let text = timeout(AUTH, self.request()).await.map_err(|_| Gone)??;
        let request = Request::parse(&text);
        let refusal = match &request {
            Request::Auth(token) => match platform.authenticate(&instance, token) {
                Ok(principal) => return Ok(Subscriptions::new(platform.clone(), instance, principal)),
                Err(_) => Refusal::Token,
            },
            other => Refusal::Method(other.method().to_owned()),
        };
        // A token is no business of whoever reads along.
        let source = if refusal == Refusal::Token { Value::Null } else { source(&text) };
        self.send(refusal.frame(&source)).await?;
        self.close(close_code::POLICY, refusal.reason()).await;
        Err(Gone)
    }

    async fn follow(&mut self, subscriptions: &mut Subscriptions, text: &str) -> Result<(), Gone> {
        let done = match Request::parse(text) {
            Request::Subscribe(topic) => subscriptions.add(topic),
            Request::Unsubscribe(topic) => {
                subscriptions.remove(&topic);
                Ok(())
            }
            // Once is enough.
            Request::Auth(_) => Ok(()),
            Request::Unknown(method) => Err(Refusal::Method(method)),
        };
        match done {
            Ok(()) => Ok(()),
            Err(refusal) => self.send(refusal.frame(&source(text))).await,
        }
    }

    /// The next text of the client. Cancel-safe.
    async fn request(&mut self) -> Result<Utf8Bytes, Gone> {
        loop {
            let message = match self.stream.recv().await.ok_or(Gone)? {
                Ok(Message::Text(text)) if text.len() > MAX_FRAME => return self.refuse_size().await,
                Ok(Message::Binary(bytes)) if bytes.len() > MAX_FRAME => return self.refuse_size().await,
                Ok(message) => message,
                Err(error) if is_too_large(&error) => return self.refuse_size().await,
                Err(_) => return Err(Gone),
            };
            self.heard = Instant::now();
            match message {
                Message::Text(text) => return Ok(text),
                Message::Close(_) => return Err(Gone),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }

    async fn refuse_size<T>(&mut self) -> Result<T, Gone> {
        self.close(close_code::SIZE, "a frame of a client has at most 1024 bytes").await;
        Err(Gone)
    }

    async fn ping(&mut self) -> Result<(), Gone> {
        if self.heard.elapsed() > SILENCE {
            return Err(Gone);
        }
        self.write(Message::Ping(bytes::Bytes::new())).await
    }

    async fn send(&mut self, text: String) -> Result<(), Gone> {
        self.write(Message::Text(text.into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Gone> {
        timeout(WRITE, self.stream.send(message)).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    async fn close(&mut self, code: u16, reason: &'static str) {
        // A client that is gone needs no farewell.
        let _ = self.write(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }
}

/// Whether a message was refused for its size.
fn is_too_large(error: &axum::Error) -> bool {
    let inner = std::error::Error::source(error).and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(tokio_tungstenite::tungstenite::Error::Capacity(_)))
}

/// What an error is about: the frame as it came.
fn source(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}
