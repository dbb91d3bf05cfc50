//! `konnector triggers …`: triggers, which run konnectors on a schedule or an event.

mod arguments;
mod describe;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, Connection, encode_segment, flatten, flatten_list};
use crate::error::{Error, Result};
use crate::hint;
use crate::output::{Output, Rows, advice, cell, date, done, note, to_printable, warning};
use crate::{accounts, follow, konnectors};
use arguments::{ScheduleArguments, TriggerSettings};
use describe::{describe, describe_schedule, is_overdue};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a trigger for a konnector, with the schedule of its manifest or your own.
    #[command(after_help = "Examples:
  konnector triggers add bank101 --account ID
  konnector triggers add bank101 --account ID --cron \"30 5 * * 1\"      Mondays at 5:30
  konnector triggers add bank101 --account ID --daily \"before 5am\"    at a time that the server chooses
  konnector triggers add report --event io.cozy.bills:CREATED --debounce 10m")]
    Add {
        /// Slug of the konnector.
        slug: String,
        /// ID of the account to use; omit it for konnectors without an account.
        #[arg(long, value_name = "ID")]
        account: Option<String>,
        #[command(flatten)]
        schedule: Box<ScheduleArguments>,
        #[command(flatten)]
        settings: Box<TriggerSettings>,
    },
    /// Change a trigger; a new schedule takes effect at once.
    Set {
        /// ID of the trigger.
        id: String,
        /// New crontab, for a trigger that has one.
        #[arg(long, value_name = "CRONTAB")]
        cron: Option<String>,
        #[command(flatten)]
        settings: Box<TriggerSettings>,
    },
    /// List triggers with their last and next run.
    Ls,
    /// Show one trigger.
    Show {
        /// ID of the trigger.
        id: String,
    },
    /// Run a trigger now and follow the run.
    Launch {
        /// ID of the trigger.
        id: String,
        /// Do not wait for the run to end.
        #[arg(long)]
        no_follow: bool,
    },
    /// Remove a trigger; its jobs remain.
    Rm {
        /// ID of the trigger.
        id: String,
    },
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<ExitCode> {
    let session = connection.session().await?;
    match command {
        Command::Add { slug, account, schedule, settings } => {
            add(&session, output, &slug, account.as_deref(), *schedule, *settings).await?;
        }
        Command::Set { id, cron, settings } => {
            let mut attributes = settings.into_attributes();
            attributes.extend(cron.map(|crontab| ("arguments".to_owned(), json!(crontab))));
            if attributes.is_empty() {
                return Err(Error::usage(
                    "nothing to change",
                    "give a setting, as in --cron \"30 5 * * 1\"; `konnector triggers set --help` lists them",
                ));
            }
            session.send_attributes(Method::PATCH, &path(&id), &json!(attributes)).await?;
            let trigger = flatten(&session.get(&path(&id), &[]).await?);
            output.show(&trigger, || done(&to_printable(&describe(&trigger, Utc::now()))));
        }
        Command::Ls => list(&session, output).await?,
        Command::Show { id } => {
            let trigger = flatten(&session.get(&path(&id), &[]).await?);
            output.show(&trigger, || show(&trigger));
        }
        Command::Launch { id, no_follow } => {
            let job = flatten(&session.call(Method::POST, &format!("{}/launch", path(&id)), &[]).await?);
            if !no_follow {
                return follow::follow_job(&session, output, &job).await;
            }
            output.show(&job, || follow::note_accepted(&job));
        }
        Command::Rm { id } => {
            session.call(Method::DELETE, &path(&id), &[]).await?;
            output.show(&json!({ "removed": id }), || done("removed the trigger"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(id: &str) -> String {
    format!("jobs/triggers/{}", encode_segment(id))
}

async fn add(
    session: &ApiClient,
    output: Output,
    slug: &str,
    account: Option<&str>,
    schedule: ScheduleArguments,
    settings: TriggerSettings,
) -> Result<()> {
    konnectors::check_installed(session, slug).await?;
    if let Some(account) = account {
        accounts::read(session, account).await?;
    }
    let settings = settings.into_attributes();
    let response = match schedule.into_type_and_arguments() {
        None => {
            let query: Vec<_> = account.map(|account| ("AccountID", account)).into_iter().collect();
            let response =
                session.call(Method::POST, &format!("konnectors/{}/trigger", encode_segment(slug)), &query).await?;
            if settings.is_empty() {
                response
            } else {
                let id = cell(flatten(&response).get("id"));
                session.send_attributes(Method::PATCH, &path(&id), &json!(settings)).await?
            }
        }
        Some((kind, arguments)) => {
            let mut message = json!({ "konnector": slug });
            if let (Some(account), Some(members)) = (account, message.as_object_mut()) {
                members.insert("account".to_owned(), json!(account));
            }
            let mut attributes = settings;
            attributes.extend([
                ("type".to_owned(), json!(kind)),
                ("arguments".to_owned(), json!(arguments)),
                ("worker".to_owned(), json!("konnector")),
                ("message".to_owned(), message),
            ]);
            session.send_attributes(Method::POST, "jobs/triggers", &json!(attributes)).await?
        }
    };
    let trigger = flatten(&session.get(&path(&cell(flatten(&response).get("id"))), &[]).await.unwrap_or(response));
    output.show(&trigger, || {
        let sentence = describe(&trigger, Utc::now());
        done(&to_printable(&format!("added trigger {}: {sentence}", cell(trigger.get("id")))));
        if is_overdue(&trigger, Utc::now()) {
            warning("the date is in the past, so the trigger runs now");
            advice("to run it later, add a trigger with a later date");
        }
        if let Some(address) = webhook(&trigger) {
            note(&format!("anyone who knows this URL can call the webhook: {address}"));
        }
    });
    Ok(())
}

/// Returns the URL of a webhook.
fn webhook(trigger: &Value) -> Option<String> {
    trigger.get("webhook").map(|address| cell(Some(address)))
}

/// Prints a trigger for people.
fn show(trigger: &Value) {
    say!("{}", to_printable(&describe(trigger, Utc::now())));
    let mut rows = Rows::new(["", ""]);
    let state = trigger.get("current_state");
    let state_field = |name: &str| state.and_then(|state| state.get(name));
    let message_field = |name: &str| trigger.get("message").and_then(|message| message.get(name));
    let counts = state_field("occasions").and_then(Value::as_object);
    let counts: Vec<_> = counts.into_iter().flatten().map(|(name, count)| format!("{count} {name}")).collect();
    for (name, value) in [
        ("konnector", cell(message_field("konnector"))),
        ("account", cell(message_field("account"))),
        ("type", cell(trigger.get("type"))),
        ("arguments", cell(trigger.get("arguments"))),
        ("missed", cell(trigger.get("missed_policy"))),
        ("overlap", cell(trigger.get("overlap_policy"))),
        ("debounce", cell(trigger.get("debounce"))),
        ("webhook", webhook(trigger).unwrap_or_default()),
        ("next", next(trigger)),
        ("last", date(state_field("last_execution"))),
        ("status", status(trigger)),
        ("occasions", counts.join(", ")),
    ] {
        if !value.is_empty() {
            rows.row([name.to_owned(), value]);
        }
    }
    rows.print();
}

async fn list(session: &ApiClient, output: Output) -> Result<()> {
    let triggers = flatten_list(&session.get("jobs/triggers", &[]).await?);
    let mut rows = Rows::new(["id", "konnector", "account", "schedule", "last", "status", "next"]);
    for trigger in &triggers {
        let state = trigger.get("current_state");
        let state_field = |name: &str| state.and_then(|state| state.get(name));
        let message_field = |name: &str| trigger.get("message").and_then(|message| message.get(name));
        rows.row([
            cell(trigger.get("id")),
            cell(message_field("konnector")),
            cell(message_field("account")),
            describe_schedule(trigger),
            date(state_field("last_execution")),
            status(trigger),
            next(trigger),
        ]);
    }
    let none = format!("no triggers; add one: {}", hint::command("triggers add SLUG --account ID"));
    output.table(&json!(triggers), &none, rows);
    Ok(())
}

/// Returns the triggers that run a konnector for an account.
pub async fn of_account(session: &ApiClient, id: &str) -> Result<Vec<Value>> {
    let mut triggers = flatten_list(&session.get("jobs/triggers", &[]).await?);
    triggers.retain(|trigger| account(trigger) == id);
    Ok(triggers)
}

/// Returns the account of a trigger; empty if it has none.
pub fn account(trigger: &Value) -> String {
    cell(trigger.get("message").and_then(|message| message.get("account")))
}

/// Returns the time of the next run; empty while none will start by itself.
fn next(trigger: &Value) -> String {
    let state = trigger.get("current_state");
    let state_field = |name: &str| state.and_then(|state| state.get(name));
    let time = |name: &str| cell(state_field(name)).parse::<DateTime<Utc>>().ok();
    let is_locked = time("locked_until").is_some_and(|locked| time("next_execution").is_none_or(|next| next < locked));
    if is_locked || state_field("paused").is_some() { String::new() } else { date(state_field("next_execution")) }
}

/// Returns why no run of a trigger starts by itself; `None` if runs do.
pub fn wait(trigger: &Value) -> Option<String> {
    let state = trigger.get("current_state")?;
    (state.get("locked_until").is_some() || state.get("paused").is_some()).then(|| status(trigger))
}

fn status(trigger: &Value) -> String {
    let state = trigger.get("current_state");
    let state_field = |name: &str| state.and_then(|state| state.get(name));
    if let Some(locked) = state_field("locked_until") {
        return format!("locked by the vendor until {}", date(Some(locked)));
    }
    match (state_field("paused").and_then(|paused| paused.get("code")), state_field("status").and_then(Value::as_str)) {
        (Some(code), _) => format!("paused until you act ({})", cell(Some(code))),
        // The API reports a trigger without jobs as done, as Cozy does.
        (None, Some("done")) if state_field("last_executed_job_id").is_none() => "never run".to_owned(),
        (None, Some("errored")) => format!("errored ({})", cell(state_field("last_error"))),
        (None, status) => status.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_a_trigger_waits_for() {
        let trigger = |state: Value| json!({ "current_state": state });
        let locked = json!({
            "status": "errored", "last_error": "LOGIN_FAILED.TOO_MANY_ATTEMPTS", "locked_until": "2026-11-29T12:53:46Z",
        });
        let statuses = [
            json!({ "status": "done", "last_executed_job_id": "1" }),
            json!({ "status": "errored", "last_error": "VENDOR_DOWN", "last_executed_job_id": "1" }),
            json!({ "status": "done" }),
            json!({ "status": "queued" }),
            json!({ "status": "errored", "paused": { "code": "LOGIN_FAILED" } }),
            locked,
        ]
        .map(|state| status(&trigger(state)));
        insta::assert_snapshot!(statuses.join("\n"), @r"
        done
        errored (VENDOR_DOWN)
        never run
        queued
        paused until you act (LOGIN_FAILED)
        locked by the vendor until 2026-11-29 12:53:46Z
        ");
    }

    #[test]
    fn a_trigger_that_waits_for_the_user_has_no_next_run() {
        let next = |mut state: Value| {
            state["next_execution"] = json!("2026-11-20T15:40:00Z");
            next(&json!({ "current_state": state }))
        };
        assert_eq!(next(json!({})), "2026-11-20 15:40:00Z");
        assert_eq!(next(json!({ "paused": { "code": "LOGIN_FAILED" } })), "");
        assert_eq!(next(json!({ "locked_until": "2026-11-21T00:00:00Z" })), "");
        assert_eq!(next(json!({ "locked_until": "2026-11-20T00:00:00Z" })), "2026-11-20 15:40:00Z");
    }
}
