//! Event streams (`text/event-stream`, HTML Standard §9.2), with the line ends and the comment that Cozy sends.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;

use crate::error::Failure;

/// Media type that a client must accept to get a stream.
pub const MEDIA_TYPE: &str = "text/event-stream";
/// How often a silent stream shows that it is alive.
const STILL_WORKING: Duration = Duration::from_secs(10);

/// One event, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event(Bytes);

impl Event {
    /// An event whose data is JSON, which serde writes on one line.
    pub fn json(name: &str, data: &impl Serialize) -> Self {
        let data = serde_json::to_string(data).unwrap_or_else(|error| {
            tracing::error!(%error, event = name, "an event cannot be written");
            "null".to_owned()
        });
        Self(Bytes::from(format!("event: {name}\r\ndata: {data}\r\n\r\n")))
    }

    /// An `error` event.
    pub fn error(message: &str) -> Self {
        Self::json("error", &message)
    }

    /// An `error` event with what a client may read of a failure.
    pub fn failure(failure: &Failure) -> Self {
        if failure.status.is_server_error() {
            tracing::error!("{}", failure.message);
        }
        Self::error(failure.told())
    }
}

/// Answers with the events as they come. The stream ends with them; while there is none, a comment every ten seconds keeps the connection.
pub fn response(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let body = stream::unfold(Box::pin(events), async |mut events| {
        let bytes = match tokio::time::timeout(STILL_WORKING, events.next()).await {
            Ok(None) => return None,
            Ok(Some(Event(bytes))) => bytes,
            Err(_) => Bytes::from_static(b": still working\r\n"),
        };
        Some((Ok::<_, Infallible>(bytes), events))
    });
    let headers = [
        (CONTENT_TYPE, MEDIA_TYPE),
        (CACHE_CONTROL, "no-store"),
        // Nginx would hold events back otherwise.
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

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_shows_that_it_is_alive() {
        let late = stream::once(async {
            tokio::time::sleep(Duration::from_secs(25)).await;
            Event::error("late")
        });
        let body = response(late).into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body, ": still working\r\n: still working\r\nevent: error\r\ndata: \"late\"\r\n\r\n");
    }
}
