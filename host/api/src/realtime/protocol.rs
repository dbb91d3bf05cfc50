//! Frames of client and server, as JSON.

use konnector_platform::realtime::{ChangeKind, RealtimeEvent};
use konnector_store::Map;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Frame of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The first frame, with the token.
    Auth(String),
    Subscribe(Topic),
    Unsubscribe(Topic),
    /// Any other frame, with its method.
    Unknown(String),
}

/// Topic of a subscription: a doctype, or one document of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    pub doctype: String,
    pub id: Option<String>,
}

impl Topic {
    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.doctype.len() + self.id.as_ref().map_or(0, String::len)
    }
}

#[derive(Deserialize)]
struct Frame {
    #[serde(default)]
    method: String,
    #[serde(default)]
    payload: Value,
}

impl Request {
    /// Parses a frame. A frame that is not JSON becomes [`Request::Unknown`] with an empty method.
    pub fn parse(text: &str) -> Self {
        let Ok(Frame { method, payload }) = serde_json::from_str(text) else { return Self::Unknown(String::new()) };
        let field = |name: &str| payload.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let topic =
            || Topic { doctype: field("type").unwrap_or_default().to_owned(), id: field("id").map(str::to_owned) };
        match method.to_ascii_uppercase().as_str() {
            "AUTH" => Self::Auth(payload.as_str().unwrap_or_default().to_owned()),
            "SUBSCRIBE" => Self::Subscribe(topic()),
            "UNSUBSCRIBE" => Self::Unsubscribe(topic()),
            _ => Self::Unknown(method),
        }
    }

    /// Returns the name of the method for errors.
    pub fn method(&self) -> &str {
        match self {
            Self::Auth(_) => "AUTH",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::Unknown(method) => method,
        }
    }
}

/// Reason for rejecting a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RealtimeError {
    /// The method does not exist, or is not allowed at this point.
    UnknownMethod(String),
    InvalidToken,
    /// The token does not permit reading documents of this doctype.
    Forbidden(String),
    /// The doctype is not valid, or missing if it is empty.
    InvalidDoctype(String),
    /// The websocket has too many topics; contains the maximum.
    TooManyTopics(usize),
}

impl RealtimeError {
    /// Returns the reason in the close frame, if the error closes the websocket.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidToken => "the token is not valid",
            _ => "the first frame must be {\"method\":\"AUTH\",\"payload\":\"<token>\"}",
        }
    }

    /// Creates the frame that reports the error.
    pub fn error_frame(&self, source: &Value) -> String {
        let (status, code, title) = match self {
            Self::UnknownMethod(method) => {
                ("405 Method Not Allowed", "method not allowed", format!("The {method} method is not supported"))
            }
            Self::InvalidToken => ("401 Unauthorized", "unauthorized", "The authentication has failed".to_owned()),
            Self::Forbidden(doctype) => {
                ("403 Forbidden", "forbidden", format!("The application can't subscribe to {doctype}"))
            }
            Self::InvalidDoctype(doctype) if doctype.is_empty() => {
                ("404 Page Not Found", "page not found", "The type parameter is mandatory for SUBSCRIBE".to_owned())
            }
            Self::InvalidDoctype(doctype) => (
                "404 Page Not Found",
                "page not found",
                format!("type: '{doctype}' is not a valid doctype; send one such as io.cozy.bills"),
            ),
            Self::TooManyTopics(max) => (
                "429 Too Many Requests",
                "too many requests",
                format!("A websocket may have at most {max} subscriptions, of at most 64 KiB in total"),
            ),
        };
        json!({ "event": "error", "payload": { "status": status, "code": code, "title": title, "source": source } })
            .to_string()
    }
}

/// Creates the frame that reports an event.
pub fn event_frame(event: &RealtimeEvent) -> String {
    #[derive(Serialize)]
    struct Payload<'a> {
        r#type: &'a str,
        id: &'a str,
        doc: &'a Map,
    }
    #[derive(Serialize)]
    struct Frame<'a> {
        event: ChangeKind,
        payload: Payload<'a>,
    }
    let payload = Payload { r#type: event.doctype.as_str(), id: &event.id, doc: &event.doc };
    let text = serde_json::to_string(&Frame { event: event.kind, payload });
    // A map of JSON values can always be serialised.
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_clients() {
        let topic = |doctype: &str, id: Option<&str>| Topic { doctype: doctype.to_owned(), id: id.map(str::to_owned) };
        for (text, request) in [
            (r#"{"method":"AUTH","payload":"abc"}"#, Request::Auth("abc".to_owned())),
            (r#"{"method":"auth","payload":1}"#, Request::Auth(String::new())),
            (
                r#"{"method":"SUBSCRIBE","payload":{"type":"io.cozy.jobs","id":"1"}}"#,
                Request::Subscribe(topic("io.cozy.jobs", Some("1"))),
            ),
            (
                r#"{"method":"UNSUBSCRIBE","payload":{"type":"io.cozy.jobs","id":""}}"#,
                Request::Unsubscribe(topic("io.cozy.jobs", None)),
            ),
            (r#"{"method":"SUBSCRIBE"}"#, Request::Subscribe(topic("", None))),
            (r#"{"method":"PING"}"#, Request::Unknown("PING".to_owned())),
            ("hello", Request::Unknown(String::new())),
        ] {
            assert_eq!(Request::parse(text), request, "{text}");
        }
    }
}
