//! One websocket, from its first frame to its end.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use konnector_platform::Platform;
use konnector_platform::instance::Instance;
use konnector_platform::realtime::Lagged;
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at, timeout};

use super::MAX_FRAME_SIZE;
use super::permits::{self, SocketPermit};
use super::protocol::{self, RealtimeError, Request};
use super::subscriptions::Subscriptions;
use crate::server::ClientAddress;

/// Maximum time for a client to send its token.
const AUTH_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between pings to a client.
const PING_INTERVAL: Duration = Duration::from_secs(54);
/// Maximum time that a client may be silent; checked at each ping.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time for a client to accept a frame.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection is closed or unusable.
struct Disconnected;

/// Serves a websocket until its client disconnects, times out or lags, or the server shuts down.
pub async fn serve(
    platform: Platform,
    instance: Arc<Instance>,
    stream: WebSocket,
    pending: SocketPermit<ClientAddress>,
) {
    let shutdown = platform.shutdown_requested();
    let mut socket = Socket { stream, last_received: Instant::now() };
    tokio::select! {
        biased;
        () = shutdown => socket.close(close_code::AWAY, "the server is shutting down").await,
        _ = socket.run(&platform, instance, pending) => {}
    }
}

struct Socket {
    stream: WebSocket,
    /// Time at which the last frame of the client arrived.
    last_received: Instant,
}

impl Socket {
    async fn run(
        &mut self,
        platform: &Platform,
        instance: Arc<Instance>,
        pending: SocketPermit<ClientAddress>,
    ) -> Result<(), Disconnected> {
        let mut subscriptions = self.authenticate(platform, Arc::clone(&instance)).await?;
        drop(pending);
        let Some(_open) = permits::acquire_open(instance.id.clone()) else {
            self.close(close_code::AGAIN, "there are too many open websockets; try again later").await;
            return Err(Disconnected);
        };
        // Subscribe to the bus before the first topic, so that no event after it is missed.
        let mut events = platform.realtime().subscribe(&instance.id);
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            tokio::select! {
                request = self.receive() => self.handle_request(&mut subscriptions, &request?).await?,
                event = events.recv() => match event {
                    Ok(event) if subscriptions.matches(&event) => self.send(protocol::event_frame(&event)).await?,
                    Ok(_) => {}
                    Err(Lagged::Transient) => {}
                    Err(Lagged::Documents) => {
                        // The missed events are unknown, so the client must reconnect and reload.
                        self.close(close_code::AGAIN, "events were missed; reconnect").await;
                        return Err(Disconnected);
                    }
                },
                _ = pings.tick() => self.ping().await?,
            }
        }
    }

    /// Waits for the first frame, which must authenticate the client.
    async fn authenticate(
        &mut self,
        platform: &Platform,
        instance: Arc<Instance>,
    ) -> Result<Subscriptions, Disconnected> {
        let text = timeout(AUTH_TIMEOUT, self.receive()).await.map_err(|_| Disconnected)??;
        let request = Request::parse(&text);
        let error = match &request {
            Request::Auth(token) => match platform.auth().authenticate(&instance, token) {
                Ok(principal) => return Ok(Subscriptions::new(platform.clone(), instance, principal)),
                Err(_) => RealtimeError::InvalidToken,
            },
            other => RealtimeError::UnknownMethod(other.method().to_owned()),
        };
        // Do not echo a token.
        let source = if error == RealtimeError::InvalidToken { Value::Null } else { parse_or_string(&text) };
        self.send(error.error_frame(&source)).await?;
        self.close(close_code::POLICY, error.reason()).await;
        Err(Disconnected)
    }

    async fn handle_request(&mut self, subscriptions: &mut Subscriptions, text: &str) -> Result<(), Disconnected> {
        let result = match Request::parse(text) {
            Request::Subscribe(topic) => subscriptions.add(topic),
            Request::Unsubscribe(topic) => {
                subscriptions.remove(&topic);
                Ok(())
            }
            // The first authentication suffices.
            Request::Auth(_) => Ok(()),
            Request::Unknown(method) => Err(RealtimeError::UnknownMethod(method)),
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) => self.send(error.error_frame(&parse_or_string(text))).await,
        }
    }

    /// Receives the next text frame of the client. Cancel-safe.
    async fn receive(&mut self) -> Result<Utf8Bytes, Disconnected> {
        loop {
            let message = match self.stream.recv().await.ok_or(Disconnected)? {
                Ok(Message::Text(text)) if text.len() > MAX_FRAME_SIZE => return self.reject_oversized().await,
                Ok(Message::Binary(bytes)) if bytes.len() > MAX_FRAME_SIZE => return self.reject_oversized().await,
                Ok(message) => message,
                Err(error) if is_too_large(&error) => return self.reject_oversized().await,
                Err(_) => return Err(Disconnected),
            };
            self.last_received = Instant::now();
            match message {
                Message::Text(text) => return Ok(text),
                Message::Close(_) => return Err(Disconnected),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }

    async fn reject_oversized<T>(&mut self) -> Result<T, Disconnected> {
        self.close(close_code::SIZE, "the frame is longer than 1024 bytes").await;
        Err(Disconnected)
    }

    async fn ping(&mut self) -> Result<(), Disconnected> {
        if self.last_received.elapsed() > IDLE_TIMEOUT {
            return Err(Disconnected);
        }
        self.write(Message::Ping(bytes::Bytes::new())).await
    }

    async fn send(&mut self, text: String) -> Result<(), Disconnected> {
        self.write(Message::Text(text.into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Disconnected> {
        timeout(WRITE_TIMEOUT, self.stream.send(message)).await.map_err(|_| Disconnected)?.map_err(|_| Disconnected)
    }

    async fn close(&mut self, code: u16, reason: &'static str) {
        // If the client has disconnected, the close frame is not needed.
        let _ = self.write(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }
}

/// Returns whether a message was rejected for its size.
fn is_too_large(error: &axum::Error) -> bool {
    let inner = std::error::Error::source(error).and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(tokio_tungstenite::tungstenite::Error::Capacity(_)))
}

/// Returns the source of an error: the frame as received.
fn parse_or_string(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}
