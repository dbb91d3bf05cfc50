//! Output of commands: tables for people, JSON for programs.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use konnector_manifest::untrusted::is_printable;
pub use konnector_manifest::untrusted::{to_printable, to_printable_lines};
use owo_colors::{OwoColorize as _, Stream};
use serde_json::Value;

/// `println!`, but the program exits quietly when the reader has closed the pipe, as in `konnector jobs ls | head`.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::print_line(format_args!($($text)*)) };
}

/// By convention, 128 plus the number of SIGPIPE.
const EXIT_SIGPIPE: i32 = 141;

/// Word or symbol before a line, coloured if the terminal supports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A success message.
    Done,
    /// A warning message.
    Warning,
    /// A failure message.
    Failed,
    /// Advice for the line above.
    Advice,
    /// The word `error:`.
    Error,
    /// The word `error` of a list of problems.
    Problem,
    /// The word `warning` of a list of problems.
    Hint,
}

impl Mark {
    fn to_coloured_string(self, stream: Stream) -> String {
        match self {
            Self::Done => "✓".if_supports_color(stream, |mark| mark.green()).to_string(),
            Self::Warning => "!".if_supports_color(stream, |mark| mark.yellow()).to_string(),
            Self::Failed => "✗".if_supports_color(stream, |mark| mark.red()).to_string(),
            Self::Advice => "→".if_supports_color(stream, |mark| mark.cyan()).to_string(),
            Self::Error => "error:".if_supports_color(stream, |mark| mark.red()).to_string(),
            Self::Problem => "error".if_supports_color(stream, |mark| mark.red()).to_string(),
            Self::Hint => "warning".if_supports_color(stream, |mark| mark.yellow()).to_string(),
        }
    }
}

/// Prints a line on standard output; see `say!`. Replaces control characters, because parts of the line may come from
/// others. The only colours are those of [`Mark`] and of headings.
pub fn print_line(text: fmt::Arguments<'_>) {
    write_stdout(&to_printable_lines(&text.to_string()));
}

/// Like [`print_line`], with a mark before the text.
pub fn print_marked(mark: Mark, text: &str) {
    write_stdout(&format!("{} {}", mark.to_coloured_string(Stream::Stdout), to_printable_lines(text)));
}

fn write_stdout(text: &str) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        if error.kind() != io::ErrorKind::BrokenPipe {
            eprint_line(&format!("konnector: cannot write to standard output: {error}"));
        }
        std::process::exit(EXIT_SIGPIPE);
    }
}

/// Prints a line on standard error, sanitized like [`print_line`].
pub fn eprint_line(text: &str) {
    eprintln!("{}", to_printable_lines(text));
}

/// Like [`eprint_line`], with a mark before the text.
pub fn eprint_marked(mark: Mark, text: &str) {
    eprintln!("{} {}", mark.to_coloured_string(Stream::Stderr), to_printable_lines(text));
}

/// Output format.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Print only JSON on standard output.
    pub json: bool,
}

impl Output {
    /// Prints JSON if requested, otherwise calls `text`.
    pub fn show(self, json: &Value, text: impl FnOnce()) {
        if self.json { print_json(json) } else { text() }
    }

    /// Prints a table, or the same as JSON. If there are no rows, prints `none`.
    pub fn table(self, json: &Value, none: &str, table: Rows) {
        self.show(json, || {
            if table.is_empty() {
                note(none);
            } else {
                table.print();
            }
        });
    }
}

/// Prints JSON with line breaks.
pub fn print_json(value: &Value) {
    write_stdout(&escape_json(&format!("{value:#}")));
}

/// Prints JSON in one line.
pub fn print_json_line(value: &Value) {
    write_stdout(&escape_json(&value.to_string()));
}

/// Escapes each unprintable character of JSON. In JSON they occur only in strings; line breaks between its parts
/// remain.
pub fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || is_printable(character) {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

/// Prints a remark for people.
pub fn note(text: &str) {
    eprintln!("{}", to_printable_lines(text).if_supports_color(Stream::Stderr, |text| text.dimmed()));
}

/// Prints a success message for people.
pub fn done(text: &str) {
    eprint_marked(Mark::Done, text);
}

/// Prints a warning for people.
pub fn warning(text: &str) {
    eprint_marked(Mark::Warning, text);
}

/// Prints the advice for the preceding error or warning.
pub fn advice(text: &str) {
    eprintln!("  {} {}", Mark::Advice.to_coloured_string(Stream::Stderr), to_printable_lines(text));
}

/// Table with a heading.
pub struct Rows {
    table: Table,
    empty: bool,
}

impl Rows {
    /// Creates a table with these columns.
    pub fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self::with_columns(columns)
    }

    /// Creates a table with columns that are known only at run time.
    pub fn with_columns<'a>(columns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(columns.into_iter().map(str::to_uppercase));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { table, empty: true }
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.table.add_row(cells.into_iter().map(|cell| to_printable(&cell.into()).into_owned()));
        self.empty = false;
        self
    }

    /// Aligns a column of numbers.
    pub fn align_right(mut self, column: usize) -> Self {
        if let Some(column) = self.table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self
    }

    fn is_empty(&self) -> bool {
        self.empty
    }

    /// Renders the table without colours.
    pub fn render(&self) -> String {
        let lines: Vec<_> = self.table.lines().map(|line| line.trim_end().to_owned()).collect();
        to_printable_lines(&lines.join("\n")).into_owned()
    }

    /// Prints the table. The heading is coloured only now, because the table counts characters.
    pub fn print(&self) {
        let table = self.render();
        let (heading, rows) = table.split_once('\n').unwrap_or((&table, ""));
        write_stdout(&heading.if_supports_color(Stream::Stdout, |text| text.bold()).to_string());
        if !rows.is_empty() {
            write_stdout(rows);
        }
    }
}

/// Formats bytes for people, in binary units.
pub fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let count_f = count as f64;
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| count >= *size) {
        #[expect(clippy::cast_precision_loss, reason = "a power of two")]
        Some((unit, size)) => format!("{:.1} {unit}", count_f / size as f64),
        None => format!("{count} B"),
    }
}

/// Formats a field's value as a cell: strings without quotation marks, nothing for null.
pub fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Formats a date without its fraction of a second.
pub fn date(value: Option<&Value>) -> String {
    let text = cell(value);
    match chrono::DateTime::parse_from_rfc3339(&text) {
        // The zero time of Cozy's API.
        Ok(date) if date.timestamp() <= 0 => String::new(),
        Ok(date) => date.format("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_have_one_digit() {
        assert_eq!([0, 1023, 1024, 1_572_864, 3 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "3.0 GiB"]);
    }

    #[test]
    fn the_zero_time_is_not_shown() {
        assert_eq!(date(Some(&json!("0001-01-01T00:00:00Z"))), "");
        assert_eq!(date(Some(&json!("2026-11-20T06:07:08.123Z"))), "2026-11-20 06:07:08Z");
    }

    #[test]
    fn a_name_from_a_server_cannot_drive_the_terminal() {
        let mut rows = Rows::new(["name"]);
        rows.row(["evil\u{1b}[2Jname\u{9b}1m\u{202e}"]);
        assert!(
            rows.render().chars().all(|character| character == '\n' || is_printable(character)),
            "{}",
            rows.render()
        );
    }

    #[test]
    fn json_has_escapes_where_a_terminal_would_obey() {
        let value = json!({ "na\u{9b}me": "a\u{202e}b\u{7f}\u{1b}", "tag": "\u{e0041}", "plain": "é" });
        let text = escape_json(&format!("{value:#}"));
        assert!(text.chars().all(|character| character == '\n' || is_printable(character)), "{text}");
        assert!(text.contains("a\\u202eb\\u007f\\u001b") && text.contains('é'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
