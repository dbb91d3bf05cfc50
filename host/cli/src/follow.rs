//! Follows a job: shows its states, progress and log live, then its receipt.

use std::io::{IsTerminal as _, stderr, stdin};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::{OwoColorize as _, Stream};
use reqwest::Method;
use serde_json::Value;

use crate::accounts;
use crate::client::{ApiClient, Event, encode_segment, flatten};
use crate::error::{Error, Result};
use crate::hint;
use crate::interrupt;
use crate::output::{Mark, Output, cell, done, eprint_line, eprint_marked, note, to_printable};
use crate::receipt;

/// Result of watching a job.
pub enum Watched {
    /// The job ended; this is its resource.
    Ended(Value),
    /// A signal ended the command before the job ended.
    Interrupted(ExitCode),
}

/// Shows a job live until it ends, or until a signal ends the command. The job continues after a signal.
pub async fn watch_job(session: &ApiClient, output: Output, job: &Value) -> Result<Watched> {
    let id = cell(job.get("id"));
    let progress = JobProgress::new(output);
    let watched = tokio::select! {
        // First, so that a signal is never missed.
        biased;
        signal = interrupt::wait_for_signal() => {
            progress.finish();
            if !output.json {
                let follow = hint::command(&format!("jobs logs -f {id}"));
                let cancel = hint::command(&format!("jobs cancel {id}"));
                note(&format!("stopped watching job {id}, which continues; follow it: {follow}; cancel it: {cancel}"));
            }
            Watched::Interrupted(signal?)
        }
        ended = progress.watch(session, &id) => Watched::Ended(ended?),
    };
    progress.finish();
    Ok(watched)
}

/// Watches a job until it ends and prints its receipt. The exit code is that of the job.
pub async fn follow_job(session: &ApiClient, output: Output, job: &Value) -> Result<ExitCode> {
    let id = cell(job.get("id"));
    let ended = match watch_job(session, output, job).await? {
        Watched::Ended(ended) => ended,
        Watched::Interrupted(code) => return Ok(code),
    };
    let succeeded = ended.get("state").and_then(Value::as_str) == Some("done");
    output.show(&ended, || {
        if succeeded {
            match crate::jobs::partial(&ended) {
                None => done(&format!("job {id} is done")),
                Some(partial) => crate::output::warning(&format!("job {id} is partially done: {partial}")),
            }
        } else {
            let code = cell(ended.get("error"));
            let message = cell(ended.get("error_message"));
            eprint_marked(Mark::Failed, &to_printable(&format!("job {id} failed: {code}")));
            eprint_line(&format!("  {}", to_printable(without_code(&code, &message))));
        }
        for problem in ended.get("problems").and_then(Value::as_array).into_iter().flatten() {
            let (item, message) = (cell(problem.get("item")), cell(problem.get("message")));
            crate::output::warning(&to_printable(&format!("{item}: {message}")));
        }
        if let Some(receipt) = receipt::from_job(&ended) {
            receipt::print(&receipt);
        }
    });
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the message of a failed job without the error code at its start. The error of a command component is both.
pub fn without_code<'a>(code: &str, message: &'a str) -> &'a str {
    let code = code.trim_end_matches('.');
    let rest = message.strip_prefix(code).and_then(|rest| rest.strip_prefix(". "));
    rest.filter(|_| !code.is_empty()).unwrap_or(message)
}

/// Tells the user how to follow an accepted job.
pub fn note_accepted(job: &Value) {
    let id = cell(job.get("id"));
    note(&format!("accepted job {id}; follow it: {}", hint::command(&format!("jobs logs -f {id}"))));
}

/// Returns time, level and text of a log line, so that the level can be coloured separately.
fn log_parts(line: &Value) -> (String, String, String) {
    let seconds = Duration::from_millis(line.get("after_ms").and_then(Value::as_u64).unwrap_or(0)).as_secs_f64();
    let level = cell(line.get("level"));
    let fields = line.get("fields").and_then(Value::as_object);
    let fields: String =
        fields.into_iter().flatten().map(|(name, value)| format!(" {name}={}", cell(Some(value)))).collect();
    let text = to_printable(&format!("{}{fields}", cell(line.get("message")))).into_owned();
    (format!("{seconds:>8.3} s  "), to_printable(&format!("{level:<5}")).into_owned(), text)
}

/// Formats a line of a log.
pub fn log_line(line: &Value) -> String {
    let (time, level, text) = log_parts(line);
    format!("{time}{level} {text}")
}

/// Like [`log_line`], with the level in its colour, for standard error.
fn coloured_log_line(line: &Value) -> String {
    let (time, level, text) = log_parts(line);
    let level = match level.trim_end() {
        "error" => level.if_supports_color(Stream::Stderr, |mark| mark.red()).to_string(),
        "warn" => level.if_supports_color(Stream::Stderr, |mark| mark.yellow()).to_string(),
        "debug" => level.if_supports_color(Stream::Stderr, |mark| mark.dimmed()).to_string(),
        _ => level.if_supports_color(Stream::Stderr, |mark| mark.green()).to_string(),
    };
    format!("{time}{level} {text}")
}

/// Live view of a job: a status line below the log on a terminal, otherwise only the log.
pub struct JobProgress {
    bar: ProgressBar,
    quiet: bool,
}

impl JobProgress {
    /// Creates a view, which shows nothing for JSON output.
    pub fn new(output: Output) -> Self {
        let bar =
            if output.json || !stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let style = ProgressStyle::with_template("{spinner:.cyan} {elapsed:.dim} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, quiet: output.json }
    }

    /// Prints a permanent line.
    pub fn print_line(&self, text: &str) {
        self.suspend(|| eprint_line(text));
    }

    fn suspend(&self, print: impl FnOnce()) {
        if !self.quiet {
            self.bar.suspend(print);
        }
    }

    /// Shows the current activity.
    pub fn set_status(&self, text: &str) {
        self.bar.set_message(to_printable(text).into_owned());
    }

    /// Shows an event of a job.
    pub fn handle_event(&self, event: &Event) {
        match event.name.as_str() {
            // The parts of the line are printable; only the colour is a control sequence.
            "log" => self.suspend(|| eprintln!("{}", coloured_log_line(&event.data))),
            "progress" => {
                let done = event.data.get("done").and_then(Value::as_u64).unwrap_or(0);
                let label = cell(event.data.get("label"));
                self.set_status(&match event.data.get("total").and_then(Value::as_u64) {
                    Some(total) => format!("{done} of {total}  {label}"),
                    None => format!("{done}  {label}"),
                });
            }
            "approval_needed" => {
                let hint = cell(event.data.get("hint"));
                self.print_line(&to_printable(&format!("the vendor asks you to approve the login in its app: {hint}")));
            }
            "login_success" => self.print_line(&format!("{:>10}  {:<5} the vendor accepted the login", "", "")),
            _ => {}
        }
    }

    /// Removes the status line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    async fn watch(&self, session: &ApiClient, id: &str) -> Result<Value> {
        let path = format!("jobs/{}/events", encode_segment(id));
        let show = hint::command(&format!("jobs show {id}"));
        let advice = format!("the job continues, or restarts with the server; see it with `{show}`");
        let mut events = session.events(Method::GET, &path, &[], advice).await?;
        let mut job = Value::Null;
        while let Some(event) = events.next().await? {
            match event.name.as_str() {
                "state" => {
                    let is_first = job.is_null();
                    job = flatten(&event.data);
                    let status = match job.get("state").and_then(Value::as_str) {
                        Some("queued") => match crate::jobs::describe_wait(&job) {
                            Some(wait) => format!("queued; waits for {wait}"),
                            None => "queued".to_owned(),
                        },
                        Some("running") => "running".to_owned(),
                        _ => return Ok(job),
                    };
                    // Without a terminal, this line is the only sign of life until the log begins.
                    if is_first {
                        self.print_line(&format!("job {id}: {status}"));
                    }
                    self.set_status(&status);
                }
                "error" => return Err(Error::message(cell(Some(&event.data)))),
                "code_needed" => self.submit_code(session, &job, &event.data).await?,
                _ => self.handle_event(&event),
            }
        }
        // The stream ended before the job, because the server stopped. The stored job is authoritative.
        Ok(flatten(&session.get(&format!("jobs/{}", encode_segment(id)), &[]).await?))
    }

    /// Asks the user for a one-time code of the vendor; without a terminal, prints `advice` and returns `None`.
    pub async fn prompt_code(&self, question: &Value, advice: &str) -> Result<Option<String>> {
        let (medium, hint) = (cell(question.get("medium")), cell(question.get("hint")));
        self.print_line(&to_printable(&format!("the vendor asks for a one-time code ({medium}) {hint}")));
        if self.quiet || !stdin().is_terminal() {
            self.print_line(&format!("there is no terminal to enter the code; {advice}"));
            return Ok(None);
        }
        let bar = self.bar.clone();
        let input = tokio::task::spawn_blocking(move || {
            bar.suspend(|| {
                eprint!("code: ");
                let mut code = String::new();
                stdin().read_line(&mut code).map(|_| code.trim().to_owned())
            })
        });
        let input =
            input.await.map_err(|error| Error::message(format!("reading the code was interrupted: {error}")))?;
        input.map(Some).map_err(crate::error::io("reading the code"))
    }

    /// Stores the code in the account, where the run looks for it.
    async fn submit_code(&self, session: &ApiClient, job: &Value, question: &Value) -> Result<()> {
        let account = cell(job.get("message").and_then(|message| message.get("account")));
        let advice = format!("submit it: {}", hint::command(&format!("accounts code {account} CODE")));
        let Some(code) = self.prompt_code(question, &advice).await? else { return Ok(()) };
        // The run may have stopped waiting in the meantime; its end says so.
        if let Err(error) = accounts::submit_code(session, &account, &code).await {
            self.print_line(&error.to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_log_line_shows_its_fields_and_no_control_characters() {
        let line =
            json!({ "after_ms": 1234, "level": "info", "message": "saved\u{1b}[2J", "fields": { "count": "3" } });
        assert_eq!(log_line(&line), "   1.234 s  info  saved\u{fffd}[2J count=3");
    }

    #[test]
    fn an_error_is_not_printed_twice() {
        let message = "exit status 1. The konnector has a bug. If this happens again, tell its author.";
        let rest = "The konnector has a bug. If this happens again, tell its author.";
        assert_eq!(without_code("exit status 1", message), rest);
        assert_eq!(without_code("UNKNOWN_ERROR", message), message);
    }
}
