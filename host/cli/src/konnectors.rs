//! `konnector konnectors …`: the programs that fetch.

mod install;
pub mod maintenance;
mod uninstall;

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, Connection, encode_segment, flatten, flatten_list};
use crate::error::{Error, Result};
use crate::follow;
use crate::output::{Output, Rows, cell, date, note, warning};

/// See the module.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install a konnector and watch how it goes.
    #[command(after_help = "Sources:
  file:///srv/konnectors/bank101                      a folder on the server
  https://example.com/bank101.tar.gz#SHA256           an archive; without the checksum, whatever the host serves
  registry://bank101/stable                           the newest version of a channel in the server's registries; or /1.0.0
  git+https://example.com/bank101.git#branch          the newest commit; also git:// and git+ssh://
  oci://example.com/me/bank101:1.0.0                  an artifact of an OCI registry

Examples:
  konnector konnectors install bank101                registry://bank101/stable
  konnector konnectors install bank101 file:///srv/konnectors/bank101")]
    Install {
        /// Name in URLs: lower-case letters, digits and -.
        slug: String,
        /// Where it comes from [default: registry://SLUG/stable].
        source: Option<String>,
        /// A JSON object that replaces the manifest's parameters.
        #[arg(long, value_name = "JSON")]
        parameters: Option<String>,
    },
    /// Update a konnector from its source, or from another one.
    Update {
        /// Which.
        slug: String,
        /// Another source.
        source: Option<String>,
        /// Keep the old version when the new one wants more: other permissions, reading passwords, other terms.
        #[arg(long)]
        safe: bool,
    },
    /// Remove a konnector, its triggers and its accounts; what it saved stays.
    #[command(
        after_help = "Where it has accounts and its manifest has on_delete_account, it cleans up at the vendor first, and stays while that fails.
Uninstall it again to have it try again, or with --force to give that up."
    )]
    Uninstall {
        /// Which.
        slug: String,
        /// Also when it fails to clean up at the vendor.
        #[arg(long)]
        force: bool,
    },
    /// List the installed konnectors.
    Ls,
    /// Show one konnector with its manifest.
    Show {
        /// Which.
        slug: String,
    },
    /// Launch the trigger of a konnector, watch the run, and print its receipt.
    #[command(after_help = "Examples:
  konnector konnectors run bank101
  konnector konnectors run bank101 --account ID --json      the job with its receipt, for programs
  konnector konnectors run bank101 --no-follow              do not wait")]
    Run {
        /// Which.
        slug: String,
        /// For which account; needed where there are several.
        #[arg(long, value_name = "ID")]
        account: Option<String>,
        /// Do not wait for the end.
        #[arg(long)]
        no_follow: bool,
    },
    /// Keep konnectors from being started while they are known not to work.
    #[command(subcommand)]
    Maintenance(maintenance::Command),
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<ExitCode> {
    // Not for commands about the whole server, which may have several instances.
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
        Command::Uninstall { slug, force } => uninstall::run(&session().await?, output, &slug, force).await?,
        Command::Ls => list(&session().await?, output).await?,
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
                output.show(&job, || {
                    note(&format!("job {} is accepted; watch it: konnector jobs logs -f {0}", cell(job.get("id"))))
                });
                return Ok(ExitCode::SUCCESS);
            }
            return follow::follow_job(&session, output, &job).await;
        }
        Command::Maintenance(command) => maintenance::run(connection, output, command).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Warns if the operator's limits are lower than those that a konnector requests.
fn warn_clamped_limits(konnector: &Value) {
    for (limit, cut) in konnector.get("limits_cut").and_then(Value::as_object).into_iter().flatten() {
        warning(&format!(
            "it asks for {limit} {}, its runs get {}: raise the setting, as in `konnector serve --limit {limit}={}`",
            cell(cut.get("asked")),
            cell(cut.get("granted")),
            cell(cut.get("asked")),
        ));
    }
}

async fn list(session: &ApiClient, output: Output) -> Result<()> {
    let konnectors = flatten_list(&session.get("konnectors/", &[("limit", "1000")]).await?);
    let mut rows = Rows::new(["slug", "version", "state", "name", "updated", "source"]);
    for konnector in &konnectors {
        let version = match konnector.get("available_version").and_then(Value::as_str) {
            Some(newer) => format!("{} ({newer} waits for consent)", cell(konnector.get("version"))),
            None => cell(konnector.get("version")),
        };
        rows.row([
            cell(konnector.get("slug")),
            version,
            cell(konnector.get("state")),
            cell(konnector.get("name")),
            date(konnector.get("updated_at")),
            cell(konnector.get("source")),
        ]);
    }
    output.table(&json!(konnectors), "no konnector; install one: konnector konnectors install SLUG SOURCE", rows);
    Ok(())
}

/// The trigger that runs a konnector (for an account).
async fn trigger_of(session: &ApiClient, slug: &str, account: Option<&str>) -> Result<String> {
    let triggers = flatten_list(&session.get("jobs/triggers", &[("Worker", "konnector")]).await?);
    let named = |trigger: &Value, name: &str| cell(trigger.get("message").and_then(|message| message.get(name)));
    let fitting: Vec<_> = triggers
        .iter()
        .filter(|trigger| named(trigger, "konnector") == slug)
        .filter(|trigger| account.is_none_or(|account| named(trigger, "account") == account))
        .collect();
    let mut accounts: Vec<_> = fitting.iter().map(|trigger| named(trigger, "account")).collect();
    accounts.sort();
    accounts.dedup();
    match (fitting.first(), accounts.len()) {
        (Some(trigger), 1) => Ok(cell(trigger.get("id"))),
        (Some(_), _) => Err(Error::usage(
            format!("{slug} has triggers for {} accounts", accounts.len()),
            format!("choose one with --account: {}", accounts.join(", ")),
        )),
        (None, _) if session.find(&format!("konnectors/{}", encode_segment(slug))).await?.is_none() => {
            Err(Error::failed(
                format!("{slug} is not installed"),
                format!(
                    "`konnector konnectors ls` names the installed ones; `konnector konnectors install {slug}` adds it"
                ),
            ))
        }
        (None, _) => Err(Error::failed(
            match account {
                Some(account) => format!("{slug} has no trigger for the account {account}"),
                None => format!("{slug} has no trigger"),
            },
            format!("add one: konnector triggers add {slug} --account ID (konnector accounts ls names the accounts)"),
        )),
    }
}
