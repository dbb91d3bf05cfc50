//! Standard output of a command component while it runs. Messages are written to the log and reported as progress, and
//! the status that they set is recorded. All output is masked and limited by the run's budget of log lines.

use parking_lot::Mutex;
use std::sync::Arc;

use crate::capability::{Level, Progress};
use crate::logs::RunLog;
use crate::protocol::{Line, MAX_LINE, MAX_MESSAGE, MalformedStatus, Message, RunStatus, Severity, StdoutReader};
use crate::stdio::OutputSink;

/// Status that a run reported, shared with the code that determines its outcome.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExitMessage(Arc<Mutex<RunStatus>>);

impl ExitMessage {
    pub(crate) fn status(&self) -> RunStatus {
        self.0.lock().clone()
    }

    fn record(&self, message: &Message, text: &str) {
        self.0.lock().record(message, text);
    }

    fn record_malformed(&self, text: &str) {
        self.0.lock().record_malformed(text);
    }
}

/// Handles the messages of a run.
pub(crate) struct StdoutSession {
    reader: StdoutReader,
    handler: MessageHandler,
}

struct MessageHandler {
    logs: RunLog,
    progress: Arc<dyn Progress>,
    exit_message: ExitMessage,
}

impl StdoutSession {
    pub(crate) fn new(logs: RunLog, progress: Arc<dyn Progress>, exit_message: ExitMessage) -> Self {
        Self { reader: StdoutReader::default(), handler: MessageHandler { logs, progress, exit_message } }
    }
}

impl OutputSink for StdoutSession {
    fn push(&mut self, bytes: &[u8]) {
        let Self { reader, handler } = self;
        let stopped = reader.has_stopped();
        reader.push(bytes, |line| handler.handle_line(line));
        if reader.has_stopped() && !stopped {
            let text = "a line of standard output is longer than 64 KiB; the rest of standard output is ignored";
            handler.logs.write_line(Level::Warn, text);
        }
    }

    fn finish(&mut self) {
        if let Some(line) = self.reader.finish() {
            self.handler.handle_line(line);
        }
    }
}

impl MessageHandler {
    fn handle_line(&self, line: Line) {
        match line {
            Line::Text(text) => {
                self.logs.write_line(Level::Debug, &text);
            }
            Line::Message(message) => self.handle_message(&message),
            Line::Malformed(status, line) => self.handle_malformed(&status, &line),
        }
    }

    /// Returns a message in its visible form.
    fn safe_message(&self, message: &str) -> String {
        let mut text = self.logs.safe_text(message, MAX_LINE);
        text.truncate(text.floor_char_boundary(MAX_MESSAGE));
        text
    }

    fn handle_malformed(&self, MalformedStatus { reason, error }: &MalformedStatus, line: &str) {
        if let Some(error) = error {
            self.exit_message.record_malformed(&self.safe_message(error));
        }
        let text = format!("a line of standard output looks like a status but cannot be parsed ({reason}): {line}");
        self.logs.write_line(Level::Warn, &text);
    }

    fn handle_message(&self, message: &Message) {
        let text = self.safe_message(&message.message);
        let level = match message.severity() {
            Severity::Debug | Severity::Unknown => Level::Debug,
            Severity::Info => Level::Info,
            Severity::Warning => Level::Warn,
            Severity::Error | Severity::Critical => Level::Error,
        };
        self.exit_message.record(message, &text);
        // A message that exceeds the log budget is not published either, because a flood would displace the events of
        // others.
        if self.logs.write_line(level, &text) {
            self.progress.message(&self.logs.safe_text(&message.kind, MAX_LINE), &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::capability::{CapabilityError, Question};
    use crate::limits::Limits;
    use crate::logs::tests::{RecordedLog, recorded_logs};

    #[derive(Default)]
    struct RecordedMessages(Mutex<Vec<(String, String)>>);

    #[async_trait]
    impl Progress for RecordedMessages {
        fn report(&self, _: u64, _: Option<u64>, _: &str) {}
        fn login_succeeded(&self) {}
        fn message(&self, kind: &str, message: &str) {
            self.0.lock().push((kind.to_owned(), message.to_owned()));
        }
        async fn ask_code(&self, _: Question, _: Duration) -> Result<String, CapabilityError> {
            Err(CapabilityError::Unattended)
        }
        async fn request_approval(&self, _: &str) -> Result<(), CapabilityError> {
            Err(CapabilityError::Unattended)
        }
    }

    fn run_session(limits: &Limits, output: &str) -> (RunStatus, Vec<(String, String)>, Arc<RecordedLog>) {
        let (logs, recorder, _) = recorded_logs(limits);
        let (watcher, exit_message) = (Arc::new(RecordedMessages::default()), ExitMessage::default());
        let mut session = StdoutSession::new(logs, watcher.clone(), exit_message.clone());
        session.push(output.as_bytes());
        session.finish();
        let events = watcher.0.lock().clone();
        (exit_message.status(), events, recorder)
    }

    #[test]
    fn every_message_is_published_and_secrets_are_masked_everywhere() {
        let output = concat!(
            "{\"type\":\"toto\",\"message\":\"a\"}\nno message, hunter22\n",
            "{\"type\":\"hunter22\",\"message\":\"is hun\\u001b[0mter22\"}\n",
            "{\"type\":\"critical\",\"message\":\"no hunter22\"}",
        );
        let (status, events, recorder) = run_session(&Limits::default(), output);
        let expected = [("toto", "a"), ("[masked]", "is [masked]"), ("critical", "no [masked]")];
        assert_eq!(events, expected.map(|(kind, text)| (kind.to_owned(), text.to_owned())));
        assert_eq!(recorder.messages(), ["a", "no message, [masked]", "is [masked]", "no [masked]"]);
        assert_eq!(status.error(), Some("no [masked]"));
    }

    #[test]
    fn a_status_that_cannot_be_read_is_a_warning_and_fails_the_run() {
        let output = concat!(
            "{\"type\":\"info\",\"message\":\"hunter22\",}\n",
            "{\"type\":\"critical\",\"message\":\"LOGIN_FAILED\",\"no_retry\":\"yes\"}\n",
        );
        let (status, events, recorder) = run_session(&Limits::default(), output);
        assert_eq!((status.error(), status.no_retry(), events.len()), (Some("LOGIN_FAILED"), false, 0));
        insta::assert_snapshot!(recorder.messages().join("\n"), @r#"
        a line of standard output looks like a status but cannot be parsed (trailing comma at line 1 column 37): {"type":"info","message":"[masked]",}
        a line of standard output looks like a status but cannot be parsed (its `no_retry` is a string): {"type":"critical","message":"LOGIN_FAILED","no_retry":"yes"}
        "#);
        let (status, ..) = run_session(&Limits::default(), "{\"type\":\"info\",\"message\":\"a\",}\n");
        assert_eq!(status.error(), None);
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        let (status, events, _) =
            run_session(&Limits::default(), &format!("{{\"type\":\"error\",\"message\":\"a{}\"}}", "é".repeat(5_000)));
        assert_eq!(status.error().map(str::len), Some(3_999));
        assert_eq!(events[0].1.len(), 3_999);
    }

    #[test]
    fn a_flood_is_limited_to_the_budget_and_its_last_message_still_counts() {
        let flood =
            "{\"type\":\"info\",\"message\":\"a\"}\n".repeat(1_000) + "{\"type\":\"critical\",\"message\":\"B\"}\n";
        let (status, events, recorder) = run_session(&Limits { log_lines: 10, ..Limits::default() }, &flood);
        assert_eq!((events.len(), recorder.messages().len(), status.error()), (10, 10, Some("B")));
    }

    #[test]
    fn nothing_is_read_after_a_line_that_is_too_long() {
        let output =
            format!("{{\"type\":\"error\",\"message\":\"A\"}}\n{}\n{{\"type\":\"critical\"}}\n", "x".repeat(70_000));
        let (status, _, recorder) = run_session(&Limits::default(), &output);
        assert_eq!(status.error(), Some("A"));
        insta::assert_snapshot!(recorder.messages().join("\n"), @"
        A
        a line of standard output is longer than 64 KiB; the rest of standard output is ignored
        ");
    }
}
