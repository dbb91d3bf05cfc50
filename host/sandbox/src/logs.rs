//! The log of a run: lines of the `log` interface and of standard output and error. Each line is sanitised, masked,
//! limited by one budget, and passed to [`capability::Log`](crate::capability::Log).
//!
//! The bytes charged to the budget, and the position where a line and its fields are cut, depend only on the bytes that
//! the guest passed. If masked strings were counted, the budget would reveal to a guest whether a string contains a
//! secret, or the length of a secret.

use parking_lot::Mutex;
use std::sync::Arc;

use crate::capability::{Level, Log, LogLine};
use crate::clock::Clock;
use crate::limits::Limits;
use crate::meter::Meter;
use konnector_egress::SecretTable;
use konnector_egress::text;
use konnector_egress::yield_budget::YieldBudget;

/// Maximum number of fields of one line; further fields are dropped.
const MAX_FIELDS_PER_LINE: usize = 32;

/// Fixed cost of emitting a line, expressed in bytes of masking.
const LINE_OVERHEAD_BYTES: usize = 4 << 10;

/// Length of the longest encoded secret that is searched for after the end of the visible part. With longer secrets,
/// less of the line is shown.
const MAX_SECRET_MARGIN: usize = 256 << 10;

/// Text before the location of a panic.
const PANIC_PREFIX: &str = "panicked at ";

/// Log of a run. Clones share it.
#[derive(Clone)]
pub(crate) struct RunLog(Arc<RunLogState>);

struct RunLogState {
    log: Arc<dyn Log>,
    secrets: Arc<SecretTable>,
    clock: Arc<Clock>,
    meter: Arc<Meter>,
    max_bytes: u64,
    max_lines: u64,
    max_line_bytes: usize,
    panic: Mutex<PanicState>,
}

/// The fields of one line that are stored.
#[derive(Debug, Default)]
struct Fields {
    readable: Vec<(String, String)>,
    /// Number of bytes of the guest that are charged for the fields.
    counted: usize,
}

/// Panic output of a guest before it aborts: from its standard library on standard error, or from the SDK's panic hook
/// as a log line.
#[derive(Debug, Default, PartialEq, Eq)]
enum PanicState {
    #[default]
    None,
    /// `thread 'main' panicked at src/lib.rs:3:5:`; the message comes in the next line.
    Location(String),
    Complete {
        message: String,
        location: String,
    },
}

impl RunLog {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        secrets: Arc<SecretTable>,
        clock: Arc<Clock>,
        meter: Arc<Meter>,
        limits: &Limits,
    ) -> Self {
        Self(Arc::new(RunLogState {
            log,
            secrets,
            clock,
            meter,
            max_bytes: limits.log_bytes,
            max_lines: limits.log_lines,
            max_line_bytes: limits.log_line_bytes,
            panic: Mutex::default(),
        }))
    }

    /// Writes a message, which may have several lines; the fields belong to the first. Yields between lines and fields.
    pub(crate) async fn write_message(&self, level: Level, message: &str, fields: Vec<(String, String)>) {
        let mut yield_budget = YieldBudget::default();
        let panicked = level == Level::Error && message.starts_with(PANIC_PREFIX);
        let first = message.split_once('\n').map_or(message, |(first, _)| first);
        let available = self.0.max_line_bytes - self.0.counted(first);
        let mut fields = if self.0.is_full() {
            Fields::default()
        } else {
            self.safe_fields(fields, available, &mut yield_budget).await
        };
        let mut rest = Some(message);
        while let Some(text) = rest {
            if self.0.is_full() && !panicked {
                self.0.meter.log_lines_dropped.add(memchr::memchr_iter(b'\n', text.as_bytes()).count() as u64 + 1);
                return;
            }
            let (line, after) = text.split_once('\n').map_or((text, None), |(line, after)| (line, Some(after)));
            if panicked {
                self.0.detect_panic(line);
            }
            let fields = std::mem::take(&mut fields);
            if self.0.is_full() {
                self.0.count_dropped_line();
            } else {
                let readable = self.0.readable_in_slices(line, self.0.max_line_bytes).await;
                self.0.emit_line(level, readable, self.0.counted(line), fields);
            }
            // Regardless of how much of a line is written, its beginning has been processed.
            yield_budget.consume(LINE_OVERHEAD_BYTES + line.len().min(self.0.max_scanned_bytes())).await;
            rest = after;
        }
    }

    /// Returns the fields that fit into `room` bytes.
    async fn safe_fields(
        &self,
        fields: Vec<(String, String)>,
        mut room: usize,
        yield_budget: &mut YieldBudget,
    ) -> Fields {
        let mut safe_fields = Fields::default();
        for (name, value) in fields.into_iter().take(MAX_FIELDS_PER_LINE) {
            if name.len() > room || (name.len() == room && !value.is_empty()) {
                break;
            }
            let for_value = room - name.len();
            let readable = self.0.readable_in_slices(&name, room).await;
            safe_fields.readable.push((readable, self.0.readable_in_slices(&value, for_value).await));
            yield_budget.consume((name.len() + value.len()).min(2 * self.0.max_scanned_bytes())).await;
            let counted = name.len() + value.len().min(for_value);
            safe_fields.counted += counted;
            room -= counted;
        }
        safe_fields
    }

    /// Looks for a panic in a line of standard error.
    pub(crate) fn detect_panic(&self, line: &str) {
        self.0.detect_panic(line);
    }

    /// Writes one line, or counts it as dropped; returns whether it was written.
    pub(crate) fn write_line(&self, level: Level, message: &str) -> bool {
        if self.0.is_full() {
            return self.0.count_dropped_line();
        }
        let readable = self.safe_text(message, self.0.max_line_bytes);
        self.0.emit_line(level, readable, self.0.counted(message), Fields::default())
    }

    /// Writes the beginning of a line whose rest was discarded.
    pub(crate) fn write_truncated_line(&self, level: Level, beginning: &str) -> bool {
        if self.0.is_full() {
            return self.0.count_dropped_line();
        }
        let message = self.0.safe_text(beginning, self.0.max_line_bytes, true);
        self.0.emit_line(level, message, self.0.counted(beginning), Fields::default())
    }

    /// Returns at most `limit` bytes of a string of the guest, without secrets and control characters. Only the
    /// beginning of a long string is processed.
    pub(crate) fn safe_text(&self, text: &str, limit: usize) -> String {
        self.0.safe_text(text, limit, false)
    }

    /// Ends the log with a line that reports how many lines were dropped.
    pub(crate) fn finish(&self) {
        let dropped = self.0.meter.log_lines_dropped.get();
        if dropped > 0 {
            let RunLogState { max_bytes: bytes, max_lines: lines, .. } = &*self.0;
            let message = format!(
                "{dropped} more lines were dropped; a run may log {lines} lines and {}",
                text::ByteSize(*bytes)
            );
            self.0.log.write_line(LogLine {
                elapsed: self.0.clock.wall_elapsed(),
                level: Level::Warn,
                message,
                fields: Vec::new(),
            });
        }
    }

    /// Returns the panic message of a Rust guest, for example `index out of bounds (at src/lib.rs:3:5)`.
    pub(crate) fn panic_message(&self) -> Option<String> {
        match &*self.0.panic() {
            PanicState::None => None,
            PanicState::Location(location) => Some(format!("at {location}")),
            PanicState::Complete { message, location } => Some(format!("{message} (at {location})")),
        }
    }
}

impl RunLogState {
    fn panic(&self) -> parking_lot::MutexGuard<'_, PanicState> {
        self.panic.lock()
    }

    /// Returns whether the budget is exhausted.
    fn is_full(&self) -> bool {
        self.meter.log_lines.get() >= self.max_lines || self.meter.log_bytes.get() >= self.max_bytes
    }

    fn count_dropped_line(&self) -> bool {
        self.meter.log_lines_dropped.add(1);
        false
    }

    /// Returns the bytes charged for a line or a part of it, that is, the bytes that the guest passed, up to the
    /// visible length.
    fn counted(&self, text: &str) -> usize {
        text.len().min(self.max_line_bytes)
    }

    /// Emits a readable message, for which `counted` bytes of the guest are charged.
    fn emit_line(&self, level: Level, message: String, counted: usize, fields: Fields) -> bool {
        self.meter.log_lines.add(1);
        // One byte for the line itself, because empty lines must have a cost too.
        self.meter.log_bytes.add((counted + fields.counted) as u64 + 1);
        self.log.write_line(LogLine { elapsed: self.clock.wall_elapsed(), level, message, fields: fields.readable });
        true
    }

    /// Maximum number of bytes of a line that are processed.
    fn max_scanned_bytes(&self) -> usize {
        self.max_line_bytes.saturating_add(self.secrets.max_encoded_length().min(MAX_SECRET_MARGIN))
    }

    /// The only place where a guest's text becomes safe to show. It is cut first, to bound the cost independently of
    /// the guest's input; then sanitised, then masked, because removing a control character must not reassemble a
    /// secret after the search for secrets.
    ///
    /// A cut may leave the beginning of a secret, which is no longer recognised. Therefore, the masked part exceeds the
    /// limit by the length of the longest secret, and the same length is removed from the end of the result.
    fn safe_text(&self, text: &str, limit: usize, is_cut: bool) -> String {
        let longest = self.secrets.max_encoded_length();
        let beginning = beginning(text, limit, longest);
        let readable = self.secrets.mask(&text::sanitize(beginning)).into_owned();
        shorten(readable, longest, limit, is_cut || beginning.len() < text.len())
    }

    /// Like [`safe_text`](Self::safe_text), but yields to other tasks.
    async fn readable_in_slices(&self, text: &str, limit: usize) -> String {
        let longest = self.secrets.max_encoded_length();
        let beginning = beginning(text, limit, longest);
        let readable = self.secrets.mask_in_slices(&text::sanitize(beginning)).await;
        shorten(readable, longest, limit, beginning.len() < text.len())
    }

    fn detect_panic(&self, line: &str) {
        let readable = || self.safe_text(line, 1 << 10, false);
        let mut panic = self.panic();
        if (line.starts_with("thread '") && line.contains(PANIC_PREFIX)) || line.starts_with(PANIC_PREFIX) {
            let line = readable();
            let location = line.split_once(PANIC_PREFIX).map_or("", |(_, location)| location).trim_end_matches(':');
            *panic = PanicState::Location(location.to_owned());
        } else if let PanicState::Location(location) = &mut *panic {
            *panic = PanicState::Complete { message: readable(), location: std::mem::take(location) };
        }
    }
}

/// Returns the part of a text that is processed, which is the visible part plus the length of the longest secret.
fn beginning(text: &str, limit: usize, longest: usize) -> &str {
    let end = text.floor_char_boundary(limit.saturating_add(longest.min(MAX_SECRET_MARGIN)));
    text.get(..end).unwrap_or(text)
}

fn shorten(readable: String, longest: usize, limit: usize, is_cut: bool) -> String {
    if is_cut { text::truncate_tail(readable, longest, limit) } else { text::truncate(readable, limit) }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    /// Records all lines.
    #[derive(Default)]
    pub(crate) struct RecordedLog(pub(crate) Mutex<Vec<LogLine>>);

    impl Log for RecordedLog {
        fn write_line(&self, line: LogLine) {
            self.0.lock().push(line);
        }
    }

    impl RecordedLog {
        pub(crate) fn messages(&self) -> Vec<String> {
            self.0.lock().iter().map(|line| line.message.clone()).collect()
        }
    }

    /// Logs with one secret, `hunter22`.
    pub(crate) fn recorded_logs(limits: &Limits) -> (RunLog, Arc<RecordedLog>, Arc<Meter>) {
        let (recorder, meter) = (Arc::new(RecordedLog::default()), Arc::new(Meter::default()));
        let secrets = SecretTable::new([("password".to_owned(), "hunter22".to_owned())]).unwrap();
        let clock = Arc::new(Clock::start(Duration::from_secs(1)));
        let logs =
            RunLog::new(Arc::clone(&recorder) as Arc<dyn Log>, Arc::new(secrets), clock, Arc::clone(&meter), limits);
        (logs, recorder, meter)
    }

    #[tokio::test]
    async fn a_secret_is_masked_also_when_control_characters_interrupt_it() {
        let (logs, recorder, _) = recorded_logs(&Limits::default());
        logs.write_message(
            Level::Info,
            "it is hunt\u{1b}[0mer\u{200b}22",
            vec![("hunter22".to_owned(), "a hunter22".to_owned())],
        )
        .await;
        let lines = recorder.0.lock();
        assert_eq!(lines[0].message, "it is [masked]");
        assert_eq!(lines[0].fields, [("[masked]".to_owned(), "a [masked]".to_owned())]);
    }

    #[tokio::test]
    async fn a_forged_line_stays_one_line_of_its_own() {
        let (logs, recorder, _) = recorded_logs(&Limits::default());
        for forged in [
            r#"{"level":"error","job":"job-2","message":"all is well"}"#,
            "done\r{\"level\":\"error\"}",
            "\u{1b}[2K\u{1b}[1A2026-01-01T00:00:00Z ERROR another job failed",
            "\u{202e}\u{2066}nimda\u{2069} logged in\0",
            "a\u{85}b\u{2028}c\u{2029}d\u{b}e\u{c}f",
            "}{\"a\":\"b\"}\",\"c\":\"",
        ] {
            logs.write_message(Level::Info, forged, vec![("k\n\"".to_owned(), "v\r\n{}".to_owned())]).await;
        }
        let lines = recorder.0.lock();
        assert!(
            lines.iter().all(|line| line.level == Level::Info && line.fields == [("k\"".to_owned(), "v{}".to_owned())])
        );
        let messages: Vec<_> = lines.iter().map(|line| line.message.as_str()).collect();
        assert!(messages.iter().all(|line| line.chars().all(|character| !character.is_control())));
        insta::assert_snapshot!(messages.join("\n"), @r#"
        {"level":"error","job":"job-2","message":"all is well"}
        done{"level":"error"}
        2026-01-01T00:00:00Z ERROR another job failed
        nimda logged in
        abcdef
        }{"a":"b"}","c":"
        "#);
    }

    #[tokio::test]
    async fn a_key_of_several_lines_is_masked_line_by_line() {
        let (logs, recorder, _) = recorded_logs(&Limits::default());
        logs.0.secrets.put("key", "-----BEGIN-----\r\nMIIBVQIBADAN\r\n-----END-----").unwrap();
        logs.write_message(Level::Info, "-----BEGIN-----\r\nMIIBVQIBADAN\r\n-----END-----", Vec::new()).await;
        assert_eq!(recorder.messages(), ["[masked]"; 3]);
    }

    #[tokio::test]
    async fn a_line_is_cut_after_its_secrets_are_masked() {
        let limits = Limits { log_line_bytes: 20, ..Limits::default() };
        let (logs, recorder, _) = recorded_logs(&limits);
        logs.write_message(Level::Info, "0123456789012 hunter22", Vec::new()).await;
        logs.write_message(Level::Info, "short", vec![("name".to_owned(), "a value that is too long".to_owned())])
            .await;
        let lines = recorder.0.lock();
        assert!(!lines[0].message.contains("hunter"), "{}", lines[0].message);
        assert!(lines[0].message.len() <= 20);
        let (name, value) = &lines[1].fields[0];
        assert!(lines[1].message.len() + name.len() + value.len() <= 20, "{value}");
    }

    /// A correct guess costs as much as a wrong one, wherever it occurs, and a long secret as much as a short one.
    #[tokio::test]
    async fn the_used_budget_does_not_depend_on_a_secret() {
        let limits = Limits { log_line_bytes: 60, log_bytes: 600, ..Limits::default() };
        let guess = "correct horse battery";
        let observed = async |secret: &str| {
            let (logs, recorder, meter) = recorded_logs(&limits);
            logs.0.secrets.put("key", secret).unwrap();
            let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let mut taken = Vec::new();
            let mut note = |was_taken| {
                taken.push((was_taken, meter.log_lines.get(), meter.log_bytes.get(), meter.log_lines_dropped.get()));
            };
            for _ in 0..3 {
                note(logs.write_line(Level::Info, guess));
                note(logs.write_line(Level::Info, &format!("{}{guess}", "-".repeat(50))));
                note(logs.write_truncated_line(Level::Info, &format!("{guess}{guess}{guess}")));
                logs.write_message(Level::Info, guess, vec![field(guess, guess), field("a", guess), field("b", "")])
                    .await;
                note(true);
                logs.write_message(Level::Info, &format!("{guess}\n{guess}"), vec![field("a", &guess.repeat(3))]).await;
                note(true);
            }
            let fields: Vec<usize> = recorder.0.lock().iter().map(|line| line.fields.len()).collect();
            (taken, fields)
        };
        let wrong = observed("another one").await;
        assert!(wrong.0.iter().any(|(was_taken, ..)| !was_taken), "the budget is used up: {wrong:?}");
        for secret in [guess, "correct", "horse battery", "corr"] {
            assert_eq!(observed(secret).await, wrong, "{secret}");
        }
    }

    /// A message of many megabytes costs as much as its beginning, and shows no part of a secret at the cut.
    #[tokio::test]
    async fn a_long_line_is_cut_before_it_is_masked() {
        let limits = Limits { log_line_bytes: 100, log_lines: 3, ..Limits::default() };
        let (logs, recorder, meter) = recorded_logs(&limits);
        let value: String = ('a'..='z').cycle().take(1_000).collect();
        logs.0.secrets.put("key", &value).unwrap();
        for before in [0, 1, 50, 90, 99] {
            let line = logs.safe_text(&format!("{}{value}", "-".repeat(before)), 100);
            assert_eq!(line, text::truncate(format!("{}[masked]", "-".repeat(before)), 100));
        }
        // If the cut falls inside the value, which is somewhere after the limit, no part of it is shown.
        let window = 100 + logs.0.secrets.max_encoded_length();
        for before in (window - 1_000..window).step_by(37) {
            for fill in ["-", "\u{7}"] {
                let line = logs.safe_text(&format!("{}{value}{}", fill.repeat(before), "-".repeat(100_000)), 100);
                assert!(!line.contains('a') && line.len() <= 100, "{before} {line}");
            }
        }
        logs.write_message(Level::Info, &"x".repeat(15 << 20), Vec::new()).await;
        let names = (0..3).map(|number| (format!("{number}{}", "n".repeat(1 << 20)), "v".to_owned())).collect();
        logs.write_message(Level::Info, "short", names).await;
        logs.write_message(Level::Info, &"\n".repeat(15 << 20), Vec::new()).await;
        assert_eq!((recorder.messages().len(), meter.log_lines_dropped.get()), (3, 15 << 20));
        // A name that does not fit into the line is left out.
        assert_eq!(recorder.0.lock()[1].fields.len(), 0);
    }

    #[tokio::test]
    async fn lines_over_the_budget_are_counted_and_reported_at_the_end() {
        let limits = Limits { log_lines: 3, ..Limits::default() };
        let (logs, recorder, meter) = recorded_logs(&limits);
        logs.write_message(Level::Info, "1\n2\n3\n4\n5", Vec::new()).await;
        logs.finish();
        assert_eq!(recorder.messages(), ["1", "2", "3", "2 more lines were dropped; a run may log 3 lines and 1 MiB"]);
        assert_eq!((meter.log_lines.get(), meter.log_lines_dropped.get()), (3, 2));
    }

    #[tokio::test]
    async fn empty_lines_use_up_the_budget_too() {
        let limits = Limits { log_bytes: 10, ..Limits::default() };
        let (logs, recorder, _) = recorded_logs(&limits);
        logs.write_message(Level::Info, &"\n".repeat(99), Vec::new()).await;
        assert_eq!(recorder.messages().len(), 10);
    }

    #[test]
    fn the_message_of_a_panicking_guest_is_kept() {
        let (logs, ..) = recorded_logs(&Limits::default());
        assert_eq!(logs.panic_message(), None);
        logs.detect_panic("thread 'main' (1) panicked at src/lib.rs:3:5:");
        assert_eq!(logs.panic_message().as_deref(), Some("at src/lib.rs:3:5"));
        logs.detect_panic("no page for hunter22");
        logs.detect_panic("note: run with `RUST_BACKTRACE=1`");
        assert_eq!(logs.panic_message().as_deref(), Some("no page for [masked] (at src/lib.rs:3:5)"));
    }

    #[tokio::test]
    async fn the_line_of_a_panic_hook_is_kept_and_no_other() {
        let (logs, ..) = recorded_logs(&Limits::default());
        logs.write_message(Level::Info, "panicked at the disco:\nnothing", Vec::new()).await;
        logs.write_message(Level::Error, "the client panicked at noon", Vec::new()).await;
        assert_eq!(logs.panic_message(), None);
        logs.write_message(Level::Error, "panicked at src/lib.rs:3:5:\nno page\nmore", Vec::new()).await;
        assert_eq!(logs.panic_message().as_deref(), Some("no page (at src/lib.rs:3:5)"));
    }
}
