//! `konnector konnectors …`: installs, updates and runs konnectors.

mod install;
pub mod maintenance;
mod uninstall;

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, Connection, encode_segment, flatten, flatten_list};
use crate::confirm::Confirmation;
use crate::error::{Error, Result};
use crate::follow;
use crate::hint;
use crate::output::{Output, Rows, cell, date, warning};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install a konnector and show the progress.
    #[command(after_help = "Sources:
  file:///srv/konnectors/bank101                      a folder on the server
  https://example.com/bank101.tar.gz#SHA256           an archive; without the checksum, it is not verified
  registry://bank101/stable                           the newest version of a channel in the registries; or /1.0.0
  git+https://example.com/bank101.git#branch          the newest commit; also git:// and git+ssh://
  oci://example.com/me/bank101:1.0.0                  an artifact of an OCI registry

Examples:
  konnector konnectors install bank101                registry://bank101/stable
  konnector konnectors install bank101 file:///srv/konnectors/bank101")]
    Install {
        /// Slug of the konnector: lower-case letters, digits and -.
        slug: String,
        /// Source of the konnector [default: registry://SLUG/stable].
        source: Option<String>,
        /// JSON object that replaces the manifest's parameters.
        #[arg(long, value_name = "JSON")]
        parameters: Option<String>,
    },
    /// Update a konnector from its source, or from another one, and name what the new version adds.
    Update {
        /// Slug of the konnector.
        slug: String,
        /// New source.
        source: Option<String>,
        /// Keep the old version if the new one requires consent: other permissions, reading passwords, other terms.
        #[arg(long)]
        safe: bool,
    },
    /// Remove a konnector, its triggers and its accounts; saved documents and files remain.
    #[command(
        after_help = "A konnector with accounts and on_delete_account in its manifest cleans up at the vendor first. If that fails, it remains
installed: uninstall it again to retry, or with --force to skip the clean-up."
    )]
    Uninstall {
        /// Slug of the konnector.
        slug: String,
        /// Uninstall even if the clean-up at the vendor fails.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// List the installed konnectors.
    Ls,
    /// Show one konnector with its manifest.
    Show {
        /// Slug of the konnector.
        slug: String,
    },
    /// Launch the trigger of a konnector, follow the run, and print its receipt.
    #[command(after_help = "Examples:
  konnector konnectors run bank101
  konnector konnectors run bank101 --account ID --json      the job with its receipt, for programs
  konnector konnectors run bank101 --no-follow              do not wait")]
    Run {
        /// Slug of the konnector.
        slug: String,
        /// ID of the account; required if there are several.
        #[arg(long, value_name = "ID")]
        account: Option<String>,
        /// Do not wait for the run to end.
        #[arg(long)]
        no_follow: bool,
    },
    /// Put konnectors that are known not to work into maintenance mode.
    #[command(subcommand)]
    Maintenance(maintenance::Command),
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<ExitCode> {
    // Commands about the whole server need no session, because the server may have several instances.
    let session = async || connection.session().await;
    match command {
        Command::Install { slug, source, parameters } => {
            let mut query: Vec<_> = source.as_deref().map(|source| ("Source", source)).into_iter().collect();
            query.extend(parameters.as_deref().map(|parameters| ("Parameters", parameters)));
            install::follow(&session().await?, output, Method::POST, &slug, &query).await?;
        }
        Command::Update { slug, source, safe } => {
            let mut query = vec![("PermissionsAcked", if safe { "false" } else { "true" })];
            query.extend(source.as_deref().map(|source| ("Source", source)));
            install::follow(&session().await?, output, Method::PUT, &slug, &query).await?;
        }
        Command::Uninstall { slug, force, confirmation } => {
            uninstall::run(&session().await?, output, &slug, force, &confirmation).await?;
        }
        Command::Ls => list(connection, output).await?,
        Command::Show { slug } => {
            let konnector =
                flatten(&session().await?.get(&format!("konnectors/{}", encode_segment(&slug)), &[]).await?);
            crate::output::print_json(&konnector);
            warn_clamped_limits(&konnector);
        }
        Command::Run { slug, account, no_follow } => {
            let session = session().await?;
            let trigger = trigger_of(&session, &slug, account.as_deref()).await?;
            let path = format!("jobs/triggers/{}/launch", encode_segment(&trigger));
            let job = flatten(&session.call(Method::POST, &path, &[]).await?);
            if no_follow {
                output.show(&job, || follow::note_accepted(&job));
                return Ok(ExitCode::SUCCESS);
            }
            return follow::follow_job(&session, output, &job).await;
        }
        Command::Maintenance(command) => maintenance::run(connection, output, command).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Rejects the slug of a konnector that is not installed, because a job that names it can only fail. If the token may
/// not read konnectors, the server decides.
pub async fn check_installed(session: &ApiClient, slug: &str) -> Result<()> {
    match session.find(&format!("konnectors/{}", encode_segment(slug))).await {
        Ok(None) => Err(not_installed(slug)),
        Ok(Some(_)) | Err(_) => Ok(()),
    }
}

fn not_installed(slug: &str) -> Error {
    Error::failed(
        format!("{slug} is not installed"),
        format!(
            "list the konnectors with `{}`, or run `{}`",
            hint::command("konnectors ls"),
            hint::command(&format!("konnectors install {slug}"))
        ),
    )
}

/// Warns if the operator's limits are lower than those that a konnector requests.
fn warn_clamped_limits(konnector: &Value) {
    for (limit, clamped) in konnector.get("limits_cut").and_then(Value::as_object).into_iter().flatten() {
        warning(&format!(
            "the konnector requests {limit} {}, but its runs get {}; raise the setting, as in `konnector serve --limit {limit}={}`",
            cell(clamped.get("asked")),
            cell(clamped.get("granted")),
            cell(clamped.get("asked")),
        ));
    }
}

async fn list(connection: &Connection, output: Output) -> Result<()> {
    let session = connection.session().await?;
    let konnectors = flatten_list(&session.get("konnectors/", &[("limit", "1000")]).await?);
    let in_maintenance = maintenance::slugs(&connection.admin()?).await?;
    let mut rows = Rows::new(["slug", "version", "state", "name", "updated", "source"]);
    for konnector in &konnectors {
        let version = match konnector.get("available_version").and_then(Value::as_str) {
            Some(newer) => format!("{} ({newer} awaits consent)", cell(konnector.get("version"))),
            None => cell(konnector.get("version")),
        };
        rows.row([
            cell(konnector.get("slug")),
            version,
            if in_maintenance.contains(&cell(konnector.get("slug"))) {
                format!("{}, in maintenance", cell(konnector.get("state")))
            } else {
                cell(konnector.get("state"))
            },
            cell(konnector.get("name")),
            date(konnector.get("updated_at")),
            cell(konnector.get("source")),
        ]);
    }
    let none = format!("no konnectors; install one: {}", hint::command("konnectors install SLUG SOURCE"));
    output.table(&json!(konnectors), &none, rows);
    Ok(())
}

/// Returns the ID of the trigger that runs a konnector (for an account).
async fn trigger_of(session: &ApiClient, slug: &str, account: Option<&str>) -> Result<String> {
    let triggers = flatten_list(&session.get("jobs/triggers", &[("Worker", "konnector")]).await?);
    let message_field =
        |trigger: &Value, name: &str| cell(trigger.get("message").and_then(|message| message.get(name)));
    let matching: Vec<_> = triggers
        .iter()
        .filter(|trigger| message_field(trigger, "konnector") == slug)
        .filter(|trigger| account.is_none_or(|account| message_field(trigger, "account") == account))
        .collect();
    let mut accounts: Vec<_> = matching.iter().map(|trigger| message_field(trigger, "account")).collect();
    accounts.sort();
    accounts.dedup();
    match (matching.first(), accounts.len()) {
        (Some(trigger), 1) => Ok(cell(trigger.get("id"))),
        (Some(_), _) => Err(Error::usage(
            format!("{slug} has triggers for {} accounts", accounts.len()),
            format!("choose one with --account: {}", accounts.join(", ")),
        )),
        (None, _) if session.find(&format!("konnectors/{}", encode_segment(slug))).await?.is_none() => {
            Err(not_installed(slug))
        }
        (None, _) => Err(Error::failed(
            match account {
                Some(account) => format!("{slug} has no trigger for account {account}"),
                None => format!("{slug} has no trigger"),
            },
            format!(
                "add one: {} (list the accounts with `{}`)",
                hint::command(&format!("triggers add {slug} --account ID")),
                hint::command("accounts ls")
            ),
        )),
    }
}
