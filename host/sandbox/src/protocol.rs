//! Protocol of a command component on standard output: one JSON object per line (Cozy API, konnector run-time contract,
//! §6.3). Pure: bytes in, lines out.

mod status;

pub use status::MalformedStatus;
use status::StatusLine;

/// Maximum size of a line in bytes, without its line feed. A longer line stops the reading of standard output.
pub const MAX_LINE: usize = 64 << 10;
/// Maximum size of a message in bytes; the rest is cut off.
pub const MAX_MESSAGE: usize = 4_000;
/// Maximum size of a message type in bytes; the rest is cut off.
const MAX_TYPE_LENGTH: usize = 100;

/// A line of standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A message to the host.
    Message(Message),
    /// A line that looks like a message but cannot be parsed; with the line itself.
    Malformed(MalformedStatus, String),
    /// Any other line, only for the log.
    Text(String),
}

/// A message to the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Type of the message; any string.
    pub kind: String,
    /// Text of the message.
    pub message: String,
    /// Whether a retry is pointless. Only considered in a critical message.
    pub no_retry: bool,
}

/// Effect of a message, determined by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Goes to the log.
    Debug,
    /// Goes to the log.
    Info,
    /// Goes to the log.
    Warning,
    /// Fails the run, unless a critical message does.
    Error,
    /// Fails the run.
    Critical,
    /// Is published as an event, without an effect on the run.
    Unknown,
}

impl Message {
    /// Returns the effect of the message.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.kind.as_str() {
            "debug" => Severity::Debug,
            "info" => Severity::Info,
            "warning" | "warn" => Severity::Warning,
            "error" => Severity::Error,
            "critical" => Severity::Critical,
            _ => Severity::Unknown,
        }
    }
}

impl Line {
    /// Parses a line without its line feed.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        let text = || String::from_utf8_lossy(line).into_owned();
        match StatusLine::parse(line) {
            StatusLine::Message(mut message) => {
                message.kind.truncate(message.kind.floor_char_boundary(MAX_TYPE_LENGTH));
                Self::Message(message)
            }
            StatusLine::Malformed(unreadable) => Self::Malformed(unreadable, text()),
            StatusLine::Other => Self::Text(text()),
        }
    }
}

/// Assembles lines from writes. Buffers at most one line.
#[derive(Debug, Default)]
pub struct StdoutReader {
    partial_line: Vec<u8>,
    stopped: bool,
}

impl StdoutReader {
    /// Reads written bytes and passes each completed line to `take`. After a line that is too long, further bytes are
    /// ignored.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Line)) {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        // `split` yields at least one part, the bytes after the last line feed.
        let mut part = parts.next();
        while let Some(bytes) = part.filter(|_| !self.stopped) {
            part = parts.next();
            if self.partial_line.len() + bytes.len() > MAX_LINE {
                self.partial_line.extend(bytes.iter().take(MAX_LINE - self.partial_line.len()));
                let beginning = Line::parse(&std::mem::take(&mut self.partial_line));
                self.stopped = true;
                // The message is incomplete, but the beginning may show that the line is a message.
                if matches!(beginning, Line::Malformed(..)) {
                    take(beginning);
                }
                return;
            }
            self.partial_line.extend_from_slice(bytes);
            if part.is_some() {
                take(Line::parse(&std::mem::take(&mut self.partial_line)));
            }
        }
    }

    /// Returns a last line without a line feed.
    pub fn finish(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.partial_line);
        (!line.is_empty()).then(|| Line::parse(&line))
    }

    /// Returns whether reading stopped because a line was too long.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }
}

/// Status of a run that results from its messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunStatus {
    error: Option<String>,
    critical: Option<String>,
    /// Text of an error that could not be fully parsed.
    malformed: Option<String>,
    no_retry: bool,
}

/// Replaces the message of an error that could not be parsed; Cozy's code for unknown errors.
const UNKNOWN_ERROR: &str = "UNKNOWN_ERROR";

impl RunStatus {
    /// Records a message that affects the outcome of the run; `text` is its visible form.
    pub fn record(&mut self, message: &Message, text: &str) {
        match message.severity() {
            Severity::Error => self.error = Some(text.to_owned()),
            Severity::Critical => {
                self.critical = Some(text.to_owned());
                self.no_retry |= message.no_retry;
            }
            _ => {}
        }
    }

    /// Records that an error could not be parsed; `text` is the visible form of its message, as far as it is known.
    pub fn record_malformed(&mut self, text: &str) {
        self.malformed = Some(if text.is_empty() { UNKNOWN_ERROR } else { text }.to_owned());
    }

    /// Returns the error that the konnector reported, if any. This is the last critical message, else the last error,
    /// else one that could not be parsed.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.critical.as_deref().or(self.error.as_deref()).or(self.malformed.as_deref())
    }

    /// Returns whether the konnector reported that a retry is pointless.
    #[must_use]
    pub fn no_retry(&self) -> bool {
        self.no_retry
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(writes: &[&[u8]]) -> Vec<Line> {
        let (mut reader, mut lines) = (StdoutReader::default(), Vec::new());
        for bytes in writes {
            reader.push(bytes, |line| lines.push(line));
        }
        lines.extend(reader.finish());
        lines
    }

    fn message(kind: &str, message: &str, no_retry: bool) -> Message {
        Message { kind: kind.to_owned(), message: message.to_owned(), no_retry }
    }

    fn text(text: &str) -> Line {
        Line::Text(text.to_owned())
    }

    #[test]
    fn an_object_a_line() {
        let lines = read(&[
            b"{\"type\":\"info\",\"message\":\"a\"}\nplain\n",
            b"{\"type\":\"criti",
            b"cal\",\"message\":\"LOGIN_FAILED\",\"no_retry\":true,\"more\":[1]}\n",
            b" {\"message\":\"b\"}\r\n[\"info\",\"a\",true]\nnull\n{\"type\":1}\n{\"type\":\"toto\"",
        ]);
        assert_eq!(
            lines,
            [
                Line::Message(message("info", "a", false)),
                text("plain"),
                Line::Message(message("critical", "LOGIN_FAILED", true)),
                Line::Message(message("", "b", false)),
                text(r#"["info","a",true]"#),
                Line::Message(Message::default()),
                text(r#"{"type":1}"#),
                Line::Malformed(
                    MalformedStatus {
                        reason: "EOF while parsing an object at line 1 column 14".to_owned(),
                        error: None
                    },
                    r#"{"type":"toto""#.to_owned()
                ),
            ]
        );
    }

    #[test]
    fn an_error_that_cannot_be_read_counts_last() {
        let mut status = RunStatus::default();
        status.record_malformed("");
        assert_eq!(status.error(), Some("UNKNOWN_ERROR"));
        status.record_malformed("LOGIN_FAILED");
        assert_eq!(status.error(), Some("LOGIN_FAILED"));
        status.record(&message("error", "X", false), "X");
        assert_eq!(status.error(), Some("X"));
    }

    #[test]
    fn a_status_that_is_too_long_is_noticed() {
        let long = format!(r#"{{"type":"critical","message":"A","more":"{}"}}"#, "x".repeat(MAX_LINE));
        let lines = read(&[long.as_bytes(), b"\n{\"type\":\"info\"}\n"]);
        assert!(
            matches!(lines.as_slice(), [Line::Malformed(MalformedStatus { error: Some(error), .. }, _)] if error == "A"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_line_that_is_too_long_ends_the_reading() {
        let longest = vec![b'x'; MAX_LINE];
        assert_eq!(read(&[b"a\n", &longest, b"\n", b"b\n"]).len(), 3);
        let mut reader = StdoutReader::default();
        let mut lines = Vec::new();
        reader.push(b"a\n", |line| lines.push(line));
        for _ in 0..100 {
            reader.push(&[b'x'; 4_096], |line| lines.push(line));
            assert!(reader.partial_line.len() <= MAX_LINE);
        }
        reader.push(b"\n{\"type\":\"critical\"}\n", |line| lines.push(line));
        assert!(reader.has_stopped());
        assert_eq!((lines.len(), reader.finish()), (1, None));
    }

    #[test]
    fn the_last_critical_message_counts_before_the_last_error() {
        let mut status = RunStatus::default();
        let mut note = |kind, text, no_retry| {
            status.record(&message(kind, text, no_retry), text);
            (status.error().map(str::to_owned), status.no_retry())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(note("warning", "w", true), (None, false));
        assert_eq!(note("toto", "t", true), (None, false));
        assert_eq!(note("error", "X", true), (some("X"), false));
        assert_eq!(note("error", "Z", false), (some("Z"), false));
        assert_eq!(note("critical", "Y", true), (some("Y"), true));
        assert_eq!(note("error", "X", false), (some("Y"), true));
        assert_eq!(note("critical", "", false), (some(""), true));
    }

    proptest! {
        /// The lines do not depend on how the output is split into writes.
        #[test]
        fn lines_do_not_depend_on_writes(output in "([a{}\":]|\n|\\{\"type\":\"error\"\\}\n){0,60}", cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(output.len())).collect();
            cuts.sort_unstable();
            let mut writes = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([output.len()]) {
                writes.push(&output.as_bytes()[from..cut]);
                from = cut;
            }
            prop_assert_eq!(read(&writes), read(&[output.as_bytes()]));
        }

        #[test]
        fn any_bytes_are_some_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let lines = read(&[&bytes]);
            let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
            prop_assert!(lines.len() == ends || lines.len() == ends + 1);
        }

        #[test]
        fn a_message_is_read_as_it_was_written(kind in "[a-z]{0,20}", text in any::<String>(), no_retry: bool) {
            let line = serde_json::json!({ "no_retry": no_retry, "message": text, "type": kind }).to_string();
            prop_assert_eq!(Line::parse(line.as_bytes()), Line::Message(message(&kind, &text, no_retry)));
        }
    }
}
