//! Standard output of a command component while it runs: messages go to the log and to whoever watches, and what they say of the run's end
//! is remembered. All of it is masked and held to the run's budget of log lines.

use std::sync::{Arc, Mutex, PoisonError};

use crate::capability::{Level, Progress};
use crate::logs::Logs;
use crate::protocol::{Line, MAX_LINE, MAX_MESSAGE, Message, Reader, Told, Unreadable, Weight};
use crate::stdio::Sink;

/// What a run said of its end, for whoever judges it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastWords(Arc<Mutex<Told>>);

impl LastWords {
    pub(crate) fn told(&self) -> Told {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, message: &Message, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(message, text);
    }

    fn note_unreadable(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note_unreadable(text);
    }
}

/// Reads the messages.
pub(crate) struct Conversation {
    reader: Reader,
    hearer: Hearer,
}

struct Hearer {
    logs: Logs,
    progress: Arc<dyn Progress>,
    last_words: LastWords,
}

impl Conversation {
    pub(crate) fn new(logs: Logs, progress: Arc<dyn Progress>, last_words: LastWords) -> Self {
        Self { reader: Reader::default(), hearer: Hearer { logs, progress, last_words } }
    }
}

impl Sink for Conversation {
    fn push(&mut self, bytes: &[u8]) {
        let Self { reader, hearer } = self;
        let stopped = reader.has_stopped();
        reader.push(bytes, |line| hearer.hear(line));
        if reader.has_stopped() && !stopped {
            let text = "a line of standard output is longer than 64 KiB; nothing more is read from there in this run";
            hearer.logs.line(Level::Warn, text);
        }
    }

    fn finish(&mut self) {
        if let Some(line) = self.reader.finish() {
            self.hearer.hear(line);
        }
    }
}

impl Hearer {
    fn hear(&self, line: Line) {
        match line {
            Line::Text(text) => {
                self.logs.line(Level::Debug, &text);
            }
            Line::Message(message) => self.hear_message(&message),
            Line::Unreadable(unreadable, line) => self.hear_unreadable(&unreadable, &line),
        }
    }

    /// A message, as it may be shown.
    fn shown(&self, message: &str) -> String {
        let mut text = self.logs.readable(message, MAX_LINE);
        text.truncate(text.floor_char_boundary(MAX_MESSAGE));
        text
    }

    fn hear_unreadable(&self, Unreadable { why, error }: &Unreadable, line: &str) {
        if let Some(error) = error {
            self.last_words.note_unreadable(&self.shown(error));
        }
        let text = format!("a line of standard output looks like a status and cannot be read ({why}): {line}");
        self.logs.line(Level::Warn, &text);
    }

    fn hear_message(&self, message: &Message) {
        let text = self.shown(&message.message);
        let level = match message.weight() {
            Weight::Debug | Weight::Unknown => Level::Debug,
            Weight::Info => Level::Info,
            Weight::Warning => Level::Warn,
            Weight::Error | Weight::Critical => Level::Error,
        };
        self.last_words.note(message, &text);
        // What the log has no room for is not published either: a flood would push out the events of others.
        if self.logs.line(level, &text) {
            self.progress.message(&self.logs.readable(&message.kind, MAX_LINE), &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::capability::{Error, Question};
    use crate::limits::Limits;
    use crate::logs::tests::{Kept, logs};

    #[derive(Default)]
    struct Watcher(Mutex<Vec<(String, String)>>);

    #[async_trait]
    impl Progress for Watcher {
        fn report(&self, _: u64, _: Option<u64>, _: &str) {}
        fn login_succeeded(&self) {}
        fn message(&self, kind: &str, message: &str) {
            self.0.lock().unwrap().push((kind.to_owned(), message.to_owned()));
        }
        async fn ask_code(&self, _: Question, _: Duration) -> Result<String, Error> {
            Err(Error::Unattended)
        }
        async fn request_approval(&self, _: &str) -> Result<(), Error> {
            Err(Error::Unattended)
        }
    }

    fn said(limits: &Limits, output: &str) -> (Told, Vec<(String, String)>, Arc<Kept>) {
        let (logs, kept, _) = logs(limits);
        let (watcher, words) = (Arc::new(Watcher::default()), LastWords::default());
        let mut conversation = Conversation::new(logs, watcher.clone(), words.clone());
        conversation.push(output.as_bytes());
        conversation.finish();
        let events = watcher.0.lock().unwrap().clone();
        (words.told(), events, kept)
    }

    #[test]
    fn every_message_is_published_and_secrets_are_masked_everywhere() {
        let output = concat!(
            "{\"type\":\"toto\",\"message\":\"a\"}\nno message, hunter22\n",
            "{\"type\":\"hunter22\",\"message\":\"is hun\\u001b[0mter22\"}\n",
            "{\"type\":\"critical\",\"message\":\"no hunter22\"}",
        );
        let (told, events, kept) = said(&Limits::default(), output);
        let expected = [("toto", "a"), ("[masked]", "is [masked]"), ("critical", "no [masked]")];
        assert_eq!(events, expected.map(|(kind, text)| (kind.to_owned(), text.to_owned())));
        assert_eq!(kept.messages(), ["a", "no message, [masked]", "is [masked]", "no [masked]"]);
        assert_eq!(told.error(), Some("no [masked]"));
    }

    #[test]
    fn a_status_that_cannot_be_read_is_a_warning_and_fails_the_run() {
        let output = concat!(
            "{\"type\":\"info\",\"message\":\"hunter22\",}\n",
            "{\"type\":\"critical\",\"message\":\"LOGIN_FAILED\",\"no_retry\":\"yes\"}\n",
        );
        let (told, events, kept) = said(&Limits::default(), output);
        assert_eq!((told.error(), told.no_retry(), events.len()), (Some("LOGIN_FAILED"), false, 0));
        insta::assert_snapshot!(kept.messages().join("\n"), @r#"
        a line of standard output looks like a status and cannot be read (trailing comma at line 1 column 37): {"type":"info","message":"[masked]",}
        a line of standard output looks like a status and cannot be read (its `no_retry` is a text): {"type":"critical","message":"LOGIN_FAILED","no_retry":"yes"}
        "#);
        let (told, ..) = said(&Limits::default(), "{\"type\":\"info\",\"message\":\"a\",}\n");
        assert_eq!(told.error(), None);
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        let (told, events, _) =
            said(&Limits::default(), &format!("{{\"type\":\"error\",\"message\":\"a{}\"}}", "é".repeat(5_000)));
        assert_eq!(told.error().map(str::len), Some(3_999));
        assert_eq!(events[0].1.len(), 3_999);
    }

    #[test]
    fn a_flood_is_held_to_the_budget_and_its_end_still_counts() {
        let flood =
            "{\"type\":\"info\",\"message\":\"a\"}\n".repeat(1_000) + "{\"type\":\"critical\",\"message\":\"B\"}\n";
        let (told, events, kept) = said(&Limits { log_lines: 10, ..Limits::default() }, &flood);
        assert_eq!((events.len(), kept.messages().len(), told.error()), (10, 10, Some("B")));
    }

    #[test]
    fn after_a_line_that_is_too_long_nothing_is_heard() {
        let output =
            format!("{{\"type\":\"error\",\"message\":\"A\"}}\n{}\n{{\"type\":\"critical\"}}\n", "x".repeat(70_000));
        let (told, _, kept) = said(&Limits::default(), &output);
        assert_eq!(told.error(), Some("A"));
        insta::assert_snapshot!(kept.messages().join("\n"), @"
        A
        a line of standard output is longer than 64 KiB; nothing more is read from there in this run
        ");
    }
}
