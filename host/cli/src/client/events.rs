//! Event streams (`text/event-stream`, HTML Standard §9.2).

use reqwest::Response;
use serde_json::Value;

use crate::error::{Error, Result};

/// An event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Name of the event; `message` if it has none.
    pub name: String,
    /// Data of the event; a string if it is not valid JSON.
    pub data: Value,
}

/// Stream of the events of a response.
pub struct EventStream {
    response: Response,
    parser: Parser,
    /// Advice for the user if the stream is interrupted.
    advice: String,
}

impl EventStream {
    pub(super) fn new(response: Response, advice: String) -> Self {
        Self { response, parser: Parser::default(), advice }
    }

    /// Returns the next event, or `None` at the end. Cancel-safe: no data is lost.
    ///
    /// # Errors
    ///
    /// If the connection is interrupted.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.parser.next() {
                return Ok(Some(event));
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.parser.push(&bytes),
                Ok(None) => return Ok(None),
                Err(error) => {
                    return Err(Error::failed(
                        format!("the connection to the server was interrupted: {error}"),
                        self.advice.as_str(),
                    ));
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Parser {
    buffer: Vec<u8>,
    name: Option<String>,
    data: Option<String>,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
            let rest = self.buffer.split_off(end + 1);
            let line = std::mem::replace(&mut self.buffer, rest);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if !line.is_empty() {
                self.field(line);
                continue;
            }
            let name = self.name.take().unwrap_or_else(|| "message".to_owned());
            if let Some(data) = self.data.take() {
                let data = serde_json::from_str(&data).unwrap_or(Value::String(data));
                return Some(Event { name, data });
            }
        }
    }

    fn field(&mut self, line: &str) {
        // A line that begins with a colon is a comment.
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.name = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_come_out_however_the_bytes_are_cut() {
        let text = b": still working\r\nevent: state\r\ndata: {\"a\":\"\xc3\xa9\"}\r\n\r\nevent: error\r\ndata: \"no\"\r\n\r\ndata: x\ndata: y\n\n";
        let expected = [
            Event { name: "state".to_owned(), data: json!({ "a": "é" }) },
            Event { name: "error".to_owned(), data: json!("no") },
            Event { name: "message".to_owned(), data: json!("x\ny") },
        ];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for part in text.chunks(size) {
                parser.push(part);
                events.extend(std::iter::from_fn(|| parser.next()));
            }
            assert_eq!(events, expected, "in parts of {size} bytes");
        }
    }
}
