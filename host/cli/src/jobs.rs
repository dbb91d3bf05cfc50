//! `konnector jobs …`: jobs and their results.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, Connection, encode_segment, flatten};
use crate::error::Result;
use crate::follow::{self, Watched};
use crate::hint;
use crate::output::{Mark, Output, Rows, cell, date, eprint_marked, note, print_json_line, to_printable};
use crate::receipt;
use crate::{accounts, konnectors};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the newest jobs.
    Ls {
        /// Maximum number of jobs to list.
        #[arg(long, default_value_t = 20, value_name = "NUMBER")]
        limit: u64,
    },
    /// Show a job with its receipt.
    Show {
        /// ID of the job.
        id: String,
    },
    /// Print the log of a job.
    Logs {
        /// ID of the job.
        id: String,
        /// Follow the log until the job ends.
        #[arg(short, long)]
        follow: bool,
    },
    /// Cancel a queued or running job.
    Cancel {
        /// ID of the job.
        id: String,
        /// Do not wait for the job to end.
        #[arg(long)]
        no_follow: bool,
    },
    /// Run a konnector without a trigger.
    Push {
        /// Slug of the konnector.
        slug: String,
        /// ID of the account to use.
        #[arg(long, value_name = "ID")]
        account: Option<String>,
        /// Do not wait for the job to end.
        #[arg(long)]
        no_follow: bool,
    },
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<ExitCode> {
    let session = connection.session().await?;
    match command {
        Command::Ls { limit } => list(&session, output, limit).await?,
        Command::Show { id } => show(output, &read(&session, &id).await?),
        Command::Logs { id, follow: true } => {
            let job = read(&session, &id).await?;
            if !is_finished(&job) {
                return follow::follow_job(&session, output, &job).await;
            }
            logs(&session, output, &id).await?;
        }
        Command::Logs { id, follow: false } => logs(&session, output, &id).await?,
        Command::Cancel { id, no_follow } => {
            let path = format!("jobs/{}/cancel", encode_segment(&id));
            let mut job = flatten(&session.send_attributes(Method::POST, &path, &json!({})).await?);
            if !no_follow && !is_finished(&job) {
                job = match follow::watch_job(&session, output, &job).await? {
                    Watched::Ended(ended) => ended,
                    Watched::Interrupted(code) => return Ok(code),
                };
            }
            output.show(&job, || {
                let (mark, text) = describe_cancellation(&job);
                eprint_marked(mark, &text);
            });
        }
        Command::Push { slug, account, no_follow } => {
            konnectors::check_installed(&session, &slug).await?;
            if let Some(account) = &account {
                accounts::read(&session, account).await?;
            }
            let mut arguments = json!({ "konnector": slug });
            if let (Some(account), Some(members)) = (account, arguments.as_object_mut()) {
                members.insert("account".to_owned(), json!(account));
            }
            let attributes = json!({ "arguments": arguments, "manual": true });
            let job = flatten(&session.send_attributes(Method::POST, "jobs/queue/konnector", &attributes).await?);
            if !no_follow {
                return follow::follow_job(&session, output, &job).await;
            }
            output.show(&job, || follow::note_accepted(&job));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what became of a job after its cancellation was requested.
fn describe_cancellation(job: &Value) -> (Mark, String) {
    const CANCELLED: &str = "UNKNOWN_ERROR.CANCELLED";
    let (id, code) = (cell(job.get("id")), cell(job.get("error")));
    match job.get("state").and_then(Value::as_str) {
        Some("errored") if code == CANCELLED => (Mark::Done, format!("cancelled job {id}")),
        Some("errored") => (Mark::Warning, format!("job {id} failed before it was cancelled: {code}")),
        Some("done") => (Mark::Warning, format!("job {id} was done before it was cancelled")),
        _ => (Mark::Done, format!("job {id} is being cancelled")),
    }
}

fn is_finished(job: &Value) -> bool {
    matches!(job.get("state").and_then(Value::as_str), Some("done" | "errored"))
}

async fn read(session: &ApiClient, id: &str) -> Result<Value> {
    Ok(flatten(&session.get(&format!("jobs/{}", encode_segment(id)), &[]).await?))
}

/// Lists the newest jobs. Ids of later jobs sort after those of earlier ones, so the newest come last.
async fn list(session: &ApiClient, output: Output, limit: u64) -> Result<()> {
    const PATH: &str = "data/io.cozy.jobs/_normal_docs";
    let limit = limit.clamp(1, 1_000);
    let count = session.get(PATH, &[("limit", "1")]).await?.get("total_rows").and_then(Value::as_u64).unwrap_or(0);
    let skip = count.saturating_sub(limit).to_string();
    let page = session.get(PATH, &[("limit", &limit.to_string()), ("skip", &skip)]).await?;
    let mut jobs = page.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
    jobs.reverse();
    let mut rows = Rows::new(["id", "konnector", "state", "started", "finished", "error", "next attempt"]);
    for job in &jobs {
        let retry = jobs.iter().find(|other| other.get("_id").is_some_and(|id| Some(id) == job.get("retried_as")));
        rows.row([
            cell(job.get("_id")),
            cell(job.get("message").and_then(|message| message.get("konnector"))),
            match partial(job) {
                None => cell(job.get("state")),
                Some(_) => format!("{} (partial)", cell(job.get("state"))),
            },
            date(job.get("started_at")),
            date(job.get("finished_at")),
            cell(job.get("error")),
            next_attempt(job, retry, Utc::now()),
        ]);
    }
    let none = format!("no jobs yet; run a konnector: {}", hint::command("konnectors run SLUG"));
    output.table(&json!(jobs), &none, rows);
    Ok(())
}

/// Returns the time of the next attempt of a failed job; empty if its retry has started, or another job did its work.
/// Without the job of the retry, the time decides.
fn next_attempt(job: &Value, retry: Option<&Value>, now: DateTime<Utc>) -> String {
    let planned = job.get("next_attempt_at");
    let is_pending = match retry {
        Some(retry) => retry.get("state").and_then(Value::as_str) == Some("queued"),
        None => cell(planned).parse::<DateTime<Utc>>().is_ok_and(|planned| planned > now),
    };
    if is_pending { date(planned) } else { String::new() }
}

/// Summarizes a job with omitted items: how many were not saved, and how many documents and files are up to date.
pub fn partial(job: &Value) -> Option<String> {
    let partial = job.get("partial")?;
    let count = |name: &str| cell(partial.get(name));
    Some(format!(
        "{} not saved; {} documents and {} files are up to date",
        count("failed"),
        count("documents"),
        count("files")
    ))
}

/// Says what a queued job waits for.
pub fn describe_wait(job: &Value) -> Option<String> {
    if job.get("state").and_then(Value::as_str) != Some("queued") {
        return None;
    }
    let waits_for = job.get("waits_for");
    let field = |name: &str| waits_for.and_then(|waits_for| waits_for.get(name));
    Some(match field("reason").and_then(Value::as_str) {
        Some("time") => format!("its time, {}", date(field("until"))),
        Some("job") => format!("job {}, which must end first", cell(field("id"))),
        _ => "a free worker, or the end of another job at its vendor".to_owned(),
    })
}

/// Fields that are printed separately, in words.
const RENDERED_FIELDS: [&str; 3] = ["receipt", "partial", "waits_for"];

/// Returns a field of a job for people; `None` if it has no value, such as the start of a job that has not started.
fn printable_field(name: &str, value: &Value) -> Option<String> {
    let text = if name.ends_with("_at") { date(Some(value)) } else { cell(Some(value)) };
    Some(text).filter(|text| !text.is_empty() && !RENDERED_FIELDS.contains(&name))
}

fn show(output: Output, job: &Value) {
    output.show(job, || {
        for (name, value) in job.as_object().into_iter().flatten() {
            if let Some(text) = printable_field(name, value) {
                say!("{name:<16} {}", crate::output::to_printable(&text));
            }
        }
        if let Some(wait) = describe_wait(job) {
            say!("{:<16} {}", "waits for", to_printable(&wait));
        }
        if let Some(partial) = partial(job) {
            say!("{:<16} {partial}", "partial");
        }
        if let Some(receipt) = receipt::from_job(job) {
            receipt::print(&receipt);
        }
    });
}

/// Parses the lines of a stored log; a line that is not a JSON object, as in a damaged log, is returned unchanged.
fn log_lines(text: &str) -> impl Iterator<Item = Result<Value, &str>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).ok().filter(Value::is_object).ok_or(line))
}

async fn logs(session: &ApiClient, output: Output, id: &str) -> Result<()> {
    let text = session.text(&format!("jobs/{}/log", encode_segment(id))).await?;
    if output.json {
        // One object per line, as stored, for programs that read a stream.
        log_lines(&text).for_each(|line| print_json_line(&line.unwrap_or_else(|text| json!({ "message": text }))));
    } else {
        log_lines(&text).for_each(|line| match line {
            Ok(line) => say!("{}", follow::log_line(&line)),
            Err(text) => say!("{}", to_printable(text)),
        });
        let job = read(session, id).await?;
        if let Some(retry) = job.get("retried_as").map(|retry| cell(Some(retry))) {
            let found = session.find(&format!("jobs/{}", encode_segment(&retry))).await?;
            let next = next_attempt(&job, found.as_ref().map(flatten).as_ref(), Utc::now());
            if !next.is_empty() {
                note(&format!("next attempt at {next}, as job {retry}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_cancelled_job_is_what_happened() {
        let ends = [
            json!({ "id": "1", "state": "errored", "error": "UNKNOWN_ERROR.CANCELLED" }),
            json!({ "id": "1", "state": "errored", "error": "LOGIN_FAILED" }),
            json!({ "id": "1", "state": "done" }),
            json!({ "id": "1", "state": "running" }),
        ]
        .map(|job| describe_cancellation(&job));
        assert_eq!(
            ends.map(|(mark, text)| format!("{mark:?} {text}")),
            [
                "Done cancelled job 1",
                "Warning job 1 failed before it was cancelled: LOGIN_FAILED",
                "Warning job 1 was done before it was cancelled",
                "Done job 1 is being cancelled",
            ]
        );
    }

    #[test]
    fn a_retry_that_will_not_run_has_no_time() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let job = json!({ "next_attempt_at": "2026-11-20T13:00:00Z", "retried_as": "2" });
        let next = |retry: Option<Value>, now| next_attempt(&job, retry.as_ref(), now);
        assert_eq!(next(Some(json!({ "state": "queued" })), now), "2026-11-20 13:00:00Z");
        assert_eq!(next(Some(json!({ "state": "done", "superseded_by": "3" })), now), "");
        assert_eq!(next(None, now), "2026-11-20 13:00:00Z");
        assert_eq!(next(None, now + chrono::TimeDelta::hours(2)), "");
        assert_eq!(next_attempt(&json!({ "state": "done" }), None, now), "");
    }

    #[test]
    fn a_queued_job_says_what_it_waits_for() {
        let waits = [
            json!({ "reason": "time", "until": "2026-11-29T12:53:46.5Z" }),
            json!({ "reason": "job", "id": "abc" }),
            json!(null),
        ]
        .map(|reason| describe_wait(&json!({ "state": "queued", "waits_for": reason })).unwrap());
        insta::assert_snapshot!(waits.join("\n"), @r"
        its time, 2026-11-29 12:53:46Z
        job abc, which must end first
        a free worker, or the end of another job at its vendor
        ");
        assert_eq!(describe_wait(&json!({ "state": "running" })), None);
    }

    #[test]
    fn a_date_that_has_not_come_is_not_shown() {
        assert_eq!(printable_field("started_at", &json!("0001-01-01T00:00:00Z")), None);
        assert_eq!(
            printable_field("queued_at", &json!("2026-11-20T06:07:08.123Z")).as_deref(),
            Some("2026-11-20 06:07:08Z")
        );
        assert_eq!(printable_field("error", &Value::Null), None);
    }

    #[test]
    fn a_line_that_is_not_json_is_shown_as_it_stands() {
        let text = "{\"message\":\"first\"}\n{\"message\":\"sec\n\nplain\n5\n";
        let lines: Vec<_> = log_lines(text).collect();
        assert_eq!(lines, [Ok(json!({ "message": "first" })), Err("{\"message\":\"sec"), Err("plain"), Err("5")]);
    }
}
