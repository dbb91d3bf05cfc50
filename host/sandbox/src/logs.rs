//! Everything a run says: lines of the `log` interface, and of standard output and error. All of it is cleaned, masked, held to one
//! budget, and handed to [`capability::Log`](crate::capability::Log).

use std::sync::{Arc, Mutex, PoisonError};

use crate::capability::{Level, Log, LogLine};
use crate::clock::Clock;
use crate::http::SecretTable;
use crate::limits::Limits;
use crate::meter::Meter;
use crate::text;

/// The names and values of one line beyond this number are cut off.
const FIELDS_PER_LINE: usize = 32;

/// Where a run's lines go.
#[derive(Clone)]
pub(crate) struct Logs(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    secrets: Arc<SecretTable>,
    clock: Arc<Clock>,
    meter: Arc<Meter>,
    bytes: u64,
    lines: u64,
    line_bytes: usize,
    panic: Mutex<Panic>,
}

/// What the guest's standard library says on standard error before it aborts.
#[derive(Debug, Default, PartialEq, Eq)]
enum Panic {
    #[default]
    None,
    /// `thread 'main' panicked at src/lib.rs:3:5:`; the message comes in the next line.
    At(String),
    Said {
        message: String,
        place: String,
    },
}

impl Logs {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        secrets: Arc<SecretTable>,
        clock: Arc<Clock>,
        meter: Arc<Meter>,
        limits: &Limits,
    ) -> Self {
        Self(Arc::new(Inner {
            log,
            secrets,
            clock,
            meter,
            bytes: limits.log_bytes,
            lines: limits.log_lines,
            line_bytes: limits.log_line_bytes,
            panic: Mutex::default(),
        }))
    }

    /// Takes a message, which may be several lines; the fields go with the first.
    pub(crate) fn message(&self, level: Level, message: &str, fields: Vec<(String, String)>) {
        let mut fields = fields;
        for line in message.split('\n') {
            self.line(level, line, std::mem::take(&mut fields));
        }
    }

    /// Takes a line of standard error.
    pub(crate) fn error_line(&self, line: &str) {
        self.0.notice_panic(line);
        self.line(Level::Warn, line, Vec::new());
    }

    /// Takes one line, or counts it as dropped.
    pub(crate) fn line(&self, level: Level, message: &str, fields: Vec<(String, String)>) {
        let Inner { meter, bytes, lines, line_bytes, .. } = &*self.0;
        if meter.log_lines.get() >= *lines || meter.log_bytes.get() >= *bytes {
            meter.log_lines_dropped.add(1);
            return;
        }
        let message = text::cut(self.readable(message), *line_bytes);
        let mut room = line_bytes.saturating_sub(message.len());
        let mut kept = Vec::with_capacity(fields.len().min(FIELDS_PER_LINE));
        for (name, value) in fields.into_iter().take(FIELDS_PER_LINE) {
            let name = text::clean(&name);
            let value = text::cut(self.readable(&value), room.saturating_sub(name.len()));
            if value.is_empty() && name.len() > room {
                break;
            }
            room = room.saturating_sub(name.len() + value.len());
            kept.push((name, value));
        }
        meter.log_lines.add(1);
        // One byte for the line itself, so that empty lines cost something too.
        meter.log_bytes.add((line_bytes - room) as u64 + 1);
        self.0.log.line(LogLine { after: self.0.clock.since_start(), level, message, fields: kept });
    }

    /// A text of the guest, without secrets and without control characters, in this order: a secret interrupted by a control character
    /// must not come together again after it was looked for.
    pub(crate) fn readable(&self, text: &str) -> String {
        self.0.secrets.mask(&text::clean(text)).into_owned()
    }

    /// Ends the log with a line about what is missing from it.
    pub(crate) fn finish(&self) {
        let dropped = self.0.meter.log_lines_dropped.get();
        if dropped > 0 {
            let Inner { bytes, lines, .. } = &*self.0;
            let message =
                format!("{dropped} more lines dropped: a run may log {lines} lines and {}", text::Bytes(*bytes));
            self.0.log.line(LogLine {
                after: self.0.clock.since_start(),
                level: Level::Warn,
                message,
                fields: Vec::new(),
            });
        }
    }

    /// What a Rust guest said before it aborted, for example `index out of bounds (src/lib.rs:3:5)`.
    pub(crate) fn panic_message(&self) -> Option<String> {
        match &*self.0.panic() {
            Panic::None => None,
            Panic::At(place) => Some(format!("at {place}")),
            Panic::Said { message, place } => Some(format!("{message} (at {place})")),
        }
    }
}

impl Inner {
    fn panic(&self) -> std::sync::MutexGuard<'_, Panic> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notice_panic(&self, line: &str) {
        let readable = || text::cut(self.secrets.mask(&text::clean(line)).into_owned(), 1 << 10);
        let mut panic = self.panic();
        if line.starts_with("thread '") && line.contains("panicked at ") {
            let line = readable();
            let place = line.split_once("panicked at ").map_or("", |(_, place)| place).trim_end_matches(':');
            *panic = Panic::At(place.to_owned());
        } else if let Panic::At(place) = &mut *panic {
            *panic = Panic::Said { message: readable(), place: std::mem::take(place) };
        }
    }
}
