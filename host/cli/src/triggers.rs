//! `konnector triggers …`: when konnectors run by themselves.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Connection, Session, flat, flat_list, segment};
use crate::error::{Error, Result};
use crate::follow;
use crate::output::{Output, Rows, cell, date, done, note, print_json};

/// See the module.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let a konnector run by itself, as often as its manifest says or by a crontab.
    #[command(after_help = "Examples:
  konnector triggers add bank101 --account ID
  konnector triggers add bank101 --account ID --cron \"0 30 5 * * 1\"      Mondays at 5:30")]
    Add {
        /// The konnector.
        slug: String,
        /// The account it works for; left out for konnectors without account.
        #[arg(long, value_name = "ID")]
        account: Option<String>,
        /// Seconds, minutes, hours, days, months, weekdays, in place of what the manifest says.
        #[arg(long, value_name = "CRONTAB")]
        cron: Option<String>,
    },
    /// List triggers with their last and next run.
    Ls,
    /// Show one trigger.
    Show {
        /// Its id.
        id: String,
    },
    /// Run a trigger now and watch it.
    Launch {
        /// Its id.
        id: String,
        /// Do not wait for the end.
        #[arg(long)]
        no_follow: bool,
    },
    /// Remove a trigger; its jobs stay.
    Rm {
        /// Its id.
        id: String,
    },
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<ExitCode> {
    let session = connection.session().await?;
    match command {
        Command::Add { slug, account, cron } => add(&session, output, &slug, account.as_deref(), cron).await?,
        Command::Ls => list(&session, output).await?,
        Command::Show { id } => print_json(&flat(&session.get(&path(&id), &[]).await?)),
        Command::Launch { id, no_follow } => {
            let job = flat(&session.call(Method::POST, &format!("{}/launch", path(&id)), &[]).await?);
            if !no_follow {
                return follow::to_the_end(&session, output, &job).await;
            }
            output.show(&job, || note(&format!("job {} is accepted", cell(job.get("id")))));
        }
        Command::Rm { id } => {
            session.call(Method::DELETE, &path(&id), &[]).await?;
            output.show(&json!({ "removed": id }), || done("the trigger is removed"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(id: &str) -> String {
    format!("jobs/triggers/{}", segment(id))
}

async fn add(session: &Session, output: Output, slug: &str, account: Option<&str>, cron: Option<String>) -> Result<()> {
    if let Some(account) = account {
        let path = format!("data/io.cozy.accounts/{}", segment(account));
        session.get(&path, &[]).await.map_err(|_| {
            Error::usage(format!("there is no account '{account}'"), "`konnector accounts ls` names the accounts")
        })?;
    }
    let answer = match cron {
        None => {
            let query: Vec<_> = account.map(|account| ("AccountID", account)).into_iter().collect();
            session.call(Method::POST, &format!("konnectors/{}/trigger", segment(slug)), &query).await?
        }
        Some(crontab) => {
            let mut message = json!({ "konnector": slug });
            if let (Some(account), Some(members)) = (account, message.as_object_mut()) {
                members.insert("account".to_owned(), json!(account));
            }
            let attributes =
                json!({ "type": "@cron", "arguments": crontab, "worker": "konnector", "message": message });
            session.send_attributes(Method::POST, "jobs/triggers", &attributes).await?
        }
    };
    let trigger = flat(&answer);
    output.show(&trigger, || {
        done(&format!(
            "trigger {} is added: {} {}",
            cell(trigger.get("id")),
            cell(trigger.get("type")),
            cell(trigger.get("arguments"))
        ));
    });
    Ok(())
}

async fn list(session: &Session, output: Output) -> Result<()> {
    let triggers = flat_list(&session.get("jobs/triggers", &[]).await?);
    let mut rows = Rows::new(["id", "konnector", "account", "schedule", "last", "status", "next"]);
    for trigger in &triggers {
        let state = trigger.get("current_state");
        let of_state = |name: &str| state.and_then(|state| state.get(name));
        let of_message = |name: &str| trigger.get("message").and_then(|message| message.get(name));
        let status = match of_state("paused").and_then(|paused| paused.get("code")) {
            Some(code) => format!("waits for you ({})", cell(Some(code))),
            None => failed(of_state("status"), of_state("last_error")),
        };
        rows.row([
            cell(trigger.get("id")),
            cell(of_message("konnector")),
            cell(of_message("account")),
            format!("{} {}", cell(trigger.get("type")), cell(trigger.get("arguments"))),
            date(of_state("last_execution")),
            status,
            date(of_state("next_execution")),
        ]);
    }
    output.table(&json!(triggers), "no trigger; add one: konnector triggers add SLUG --account ID", rows);
    Ok(())
}

fn failed(status: Option<&Value>, error: Option<&Value>) -> String {
    match status.and_then(Value::as_str) {
        Some("errored") => format!("errored ({})", cell(error)),
        _ => cell(status),
    }
}
