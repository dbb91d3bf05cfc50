//! Event streams (`text/event-stream`, HTML Standard §9.2), with the line ends and the comment that Cozy sends.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;

use crate::error::ApiError;

/// Media type that a client must accept to receive a stream.
pub const MEDIA_TYPE: &str = "text/event-stream";
/// Interval of the comments that keep a silent stream alive.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Serialised event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event(Bytes);

impl Event {
    /// Creates an event whose data is JSON, which serde writes on one line.
    pub fn json(name: &str, data: &impl Serialize) -> Self {
        let data = serde_json::to_string(data).unwrap_or_else(|error| {
            tracing::error!(%error, event = name, "cannot serialise an event");
            "null".to_owned()
        });
        Self(Bytes::from(format!("event: {name}\r\ndata: {data}\r\n\r\n")))
    }

    /// Creates an `error` event.
    pub fn error(message: &str) -> Self {
        Self::json("error", &message)
    }

    /// Creates an `error` event with the client's message of an API error. Logs server errors.
    pub fn failure(failure: &ApiError) -> Self {
        if failure.status.is_server_error() {
            tracing::error!("{}", failure.message);
        }
        Self::error(failure.client_message())
    }
}

/// Responds with the events as they arrive. The stream ends after the last event; while there are no events, a comment
/// every ten seconds keeps the connection alive.
pub fn response(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    stream_with_keep_alive(events, KEEP_ALIVE_INTERVAL)
}

fn stream_with_keep_alive(events: impl Stream<Item = Event> + Send + 'static, interval: Duration) -> Response {
    let body = stream::unfold(Box::pin(events), move |mut events| async move {
        let bytes = match tokio::time::timeout(interval, events.next()).await {
            Ok(None) => return None,
            Ok(Some(Event(bytes))) => bytes,
            Err(_) => Bytes::from_static(b": still working\r\n"),
        };
        Some((Ok::<_, Infallible>(bytes), events))
    });
    let headers = [
        (CONTENT_TYPE, MEDIA_TYPE),
        (CACHE_CONTROL, "no-store"),
        // Otherwise nginx would buffer events.
        (http::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn an_event_is_two_lines_and_an_empty_one() {
        let event = Event::json("state", &serde_json::json!({ "text": "two\nlines\r\n" }));
        assert_eq!(event.0, "event: state\r\ndata: {\"text\":\"two\\nlines\\r\\n\"}\r\n\r\n");
    }

    #[tokio::test]
    async fn a_silent_stream_shows_that_it_is_alive() {
        let (sender, events) = tokio::sync::mpsc::channel(1);
        let events = tokio_stream::wrappers::ReceiverStream::new(events);
        let mut body = stream_with_keep_alive(events, Duration::from_millis(5)).into_body();
        let first = body.frame().await.expect("not ended").expect("a frame").into_data().expect("data");
        assert_eq!(first, ": still working\r\n");
        sender.send(Event::error("late")).await.expect("the stream is open");
        drop(sender);
        let rest = body.collect().await.expect("a body").to_bytes();
        assert!(rest.ends_with(b"event: error\r\ndata: \"late\"\r\n\r\n"), "{rest:?}");
    }
}
