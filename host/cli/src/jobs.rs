//! `konnector jobs …`: jobs and their results.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, Connection, encode_segment, flatten};
use crate::error::Result;
use crate::output::{Output, Rows, cell, date, note, print_json_line, to_printable};
use crate::receipt;
use crate::{accounts, follow, konnectors};

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
            let job = flatten(&session.send_attributes(Method::POST, &path, &json!({})).await?);
            if !no_follow && !is_finished(&job) {
                // An error is the expected end.
                follow::follow_job(&session, output, &job).await?;
                return Ok(ExitCode::SUCCESS);
            }
            output.show(&job, || note(&format!("job {} is {}", cell(job.get("id")), cell(job.get("state")))));
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
            output.show(&job, || note(&format!("accepted job {}", cell(job.get("id")))));
        }
    }
    Ok(ExitCode::SUCCESS)
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
            date(job.get("next_attempt_at")),
        ]);
    }
    output.table(&json!(jobs), "no jobs yet; run a konnector: konnector konnectors run SLUG", rows);
    Ok(())
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

/// Fields that are printed separately, in words.
const RENDERED_FIELDS: [&str; 2] = ["receipt", "partial"];

fn show(output: Output, job: &Value) {
    output.show(job, || {
        for (name, value) in job.as_object().into_iter().flatten() {
            if !RENDERED_FIELDS.contains(&name.as_str()) && !value.is_null() {
                say!("{name:<16} {}", crate::output::to_printable(&cell(Some(value))));
            }
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
        if job.get("next_attempt_at").is_some() {
            let retry = cell(job.get("retried_as"));
            note(&format!("next attempt at {}, as job {retry}", date(job.get("next_attempt_at"))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_json_is_shown_as_it_stands() {
        let text = "{\"message\":\"first\"}\n{\"message\":\"sec\n\nplain\n5\n";
        let lines: Vec<_> = log_lines(text).collect();
        assert_eq!(lines, [Ok(json!({ "message": "first" })), Err("{\"message\":\"sec"), Err("plain"), Err("5")]);
    }
}
