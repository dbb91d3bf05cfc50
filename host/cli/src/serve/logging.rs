//! Logging to standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write, stderr};

use konnector_manifest::untrusted::{is_printable, truncate_middle};
use serde_json::Value;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::MakeWriter;

use super::config::LogFormat;
use crate::output::{eprint_line, escape_json};

/// Maximum size of a line in bytes. Strings of guests and clients may be of any length, and log collectors have limits,
/// too (journald: 48 KiB).
const MAX_LINE_SIZE: usize = 16 << 10;
/// Maximum size in bytes of each string in a JSON line that would exceed [`MAX_LINE_SIZE`].
const MAX_TEXT_SIZE: usize = 2 << 10;

/// Starts logging. `RUST_LOG` chooses what is logged; `info` unless set.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sled=warn"));
    let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt().with_env_filter(filter).with_writer(SanitizingWriter { format, colours }).with_ansi(colours);
    let started = match format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        eprint_line(&format!("konnector: logging is already initialised: {error}"));
    }
}

/// Writer that replaces control characters in log lines and limits their length.
#[derive(Debug, Clone, Copy)]
struct SanitizingWriter {
    format: LogFormat,
    /// Whether the logging library colours lines; it escapes control sequences in texts.
    colours: bool,
}

impl SanitizingWriter {
    fn sanitize<'a>(self, line: &'a str) -> Cow<'a, str> {
        let allowed =
            |character: char| is_printable(character) || character == '\n' || (self.colours && character == '\u{1b}');
        if line.len() <= MAX_LINE_SIZE && line.chars().all(allowed) {
            return Cow::Borrowed(line);
        }
        let line = line.trim_end_matches('\n');
        let cleaned = match self.format {
            LogFormat::Text => {
                let replace = |character| if allowed(character) { character } else { char::REPLACEMENT_CHARACTER };
                truncate_middle(line.chars().map(replace).collect(), MAX_LINE_SIZE)
            }
            LogFormat::Json if line.len() > MAX_LINE_SIZE => escape_json(&shorten_line(line)),
            LogFormat::Json => escape_json(line),
        };
        Cow::Owned(cleaned + "\n")
    }
}

/// Shortens the strings of a JSON line, which remains valid JSON.
fn shorten_line(line: &str) -> String {
    let mut event: Value = serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()));
    shorten(&mut event);
    let line = event.to_string();
    if line.len() <= MAX_LINE_SIZE {
        return line;
    }
    let essential =
        ["timestamp", "level", "message"].map(|name| (name.to_owned(), event.get(name).cloned().unwrap_or_default()));
    Value::Object(essential.into_iter().collect()).to_string()
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => *text = truncate_middle(std::mem::take(text), MAX_TEXT_SIZE),
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(members) => members.values_mut().for_each(shorten),
        _ => {}
    }
}

impl<'a> MakeWriter<'a> for SanitizingWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

/// The library writes each event with one call.
impl Write for SanitizingWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        stderr().write_all(self.sanitize(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Returns the log output for an event with this text.
    fn logged(format: LogFormat, text: &str) -> String {
        #[derive(Clone)]
        struct CapturedLog(SanitizingWriter, Arc<Mutex<String>>);
        impl Write for CapturedLog {
            fn write(&mut self, event: &[u8]) -> io::Result<usize> {
                self.1.lock().unwrap().push_str(&self.0.sanitize(std::str::from_utf8(event).unwrap()));
                Ok(event.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let captured = Arc::new(Mutex::new(String::new()));
        let writer = CapturedLog(SanitizingWriter { format, colours: false }, Arc::clone(&captured));
        let lines = fmt().with_writer(move || writer.clone()).with_ansi(false);
        let event = || tracing::info!(field = text, "{text}");
        match format {
            LogFormat::Text => tracing::subscriber::with_default(lines.finish(), event),
            LogFormat::Json => tracing::subscriber::with_default(lines.json().flatten_event(true).finish(), event),
        }
        let written = captured.lock().unwrap();
        written.clone()
    }

    #[test]
    fn what_others_say_neither_drives_a_terminal_nor_fills_the_log() {
        let hostile = "a\u{1b}[2J\u{9b}1m\u{202e}\u{7f}b".to_owned();
        for format in [LogFormat::Text, LogFormat::Json] {
            for text in [hostile.clone(), hostile.repeat(100_000)] {
                let line = logged(format, &text);
                assert!(line.len() <= MAX_LINE_SIZE + 1 && line.ends_with('\n'), "{}", line.len());
                assert!(line.trim_end().chars().all(is_printable), "{line:?}");
                if format == LogFormat::Json {
                    let event: Value = serde_json::from_str(&line).unwrap();
                    assert!(event["message"].as_str().unwrap().starts_with("a\u{1b}[2J"), "{event}");
                }
            }
        }
    }
}
