//! `konnector instances …`: the instances of the server, one for each person.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{AdminClient, Connection, encode_segment, flatten};
use crate::confirm::Confirmation;
use crate::error::Result;
use crate::hint;
use crate::output::{Output, Rows, cell, date, done};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add an instance.
    #[command(after_help = "Example:\n  konnector instances add alice.example.com --timezone Europe/Paris --locale fr")]
    Add {
        /// Host name of the instance, with the port unless it is the default one.
        domain: String,
        /// Another host name; may be repeated.
        #[arg(long, value_name = "DOMAIN")]
        alias: Vec<String>,
        /// Language of the owner, such as fr.
        #[arg(long)]
        locale: Option<String>,
        /// IANA time zone of its schedules, such as Europe/Paris.
        #[arg(long)]
        timezone: Option<String>,
        /// Email address of the owner.
        #[arg(long)]
        email: Option<String>,
        /// Name of the owner.
        #[arg(long)]
        public_name: Option<String>,
        /// Quota for its files, in bytes.
        #[arg(long, value_name = "BYTES")]
        disk_quota: Option<u64>,
    },
    /// List all instances.
    Ls,
    /// Show one instance.
    Show {
        /// Domain of the instance.
        instance: String,
    },
    /// Remove an instance with all its data, after konnectors have cleaned up its accounts at the vendors.
    Rm {
        /// Domain of the instance.
        instance: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Print a token for the public API, and nothing else.
    #[command(after_help = "Examples:
  konnector instances token 127.0.0.1:8080 --scope '*'
  konnector instances token alice.example.com --scope \"io.cozy.files io.cozy.bills:GET\"
  curl -H \"Authorization: Bearer $(konnector instances token 127.0.0.1:8080 --scope '*')\" http://127.0.0.1:8080/konnectors/")]
    Token {
        /// Domain of the instance.
        instance: String,
        /// Audience of the token, which determines its lifetime.
        #[arg(long, value_enum, default_value_t = Audience::Cli)]
        audience: Audience,
        /// Slug of the app or konnector, or a name.
        #[arg(long, default_value = "CLI")]
        subject: String,
        /// Permissions of the token: doctypes with verbs, or '*' for everything.
        #[arg(long, default_value = "")]
        scope: String,
    },
    /// Print a session code, and nothing else. It is valid once, within five minutes, to approve an OAuth client or
    /// connect an account.
    SessionCode {
        /// Domain of the instance.
        instance: String,
    },
    /// Register a program as an OAuth client; prints its ID and secret.
    #[command(after_help = "Example:
  konnector instances oauth-client alice.example.com Notes --redirect-uri https://notes.example.com/callback
  konnector instances token alice.example.com --audience access --subject CLIENT_ID --scope io.cozy.files:GET")]
    OauthClient {
        /// Domain of the instance.
        instance: String,
        /// Name of the program.
        name: String,
        /// Redirect URI; may be repeated.
        #[arg(long, value_name = "ADDRESS", required = true)]
        redirect_uri: Vec<String>,
        /// Software ID, which all registrations of the program share [default: its name].
        #[arg(long)]
        software_id: Option<String>,
    },
}

/// Audience of a token.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Audience {
    /// Command line; valid for 30 minutes.
    Cli,
    /// Web application; valid for 24 hours.
    App,
    /// Konnector, with the permissions of its manifest; valid for 30 minutes.
    Konn,
    /// OAuth client, whose ID is the subject; valid for 7 days.
    Access,
    /// OAuth client, for getting access tokens; valid until the client is removed.
    Refresh,
}

/// Says what the removal of an instance deletes.
fn removal_summary(instance: &str, is_last: bool) -> String {
    let last =
        if is_last { "; it is the last instance, so the server creates an empty one when it starts again" } else { "" };
    format!(
        "this removes {instance} with all its files, documents, accounts and konnectors, which only a backup can restore{last}"
    )
}

/// Creates a session code of an instance.
pub async fn session_code(admin: &AdminClient, instance: &str) -> Result<String> {
    let path = format!("instances/{}/session_code", encode_segment(instance));
    Ok(cell(admin.json(Method::POST, &path, &[]).await?.get("session_code")))
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<()> {
    let admin = connection.admin()?;
    match command {
        Command::Add { domain, alias, locale, timezone, email, public_name, disk_quota } => {
            let (aliases, quota) = (alias.join(","), disk_quota.map(|bytes| bytes.to_string()));
            let query = [
                ("Domain", Some(domain)),
                ("DomainAliases", Some(aliases).filter(|aliases| !aliases.is_empty())),
                ("Locale", locale),
                ("Timezone", timezone),
                ("Email", email),
                ("PublicName", public_name),
                ("DiskQuota", quota),
            ];
            let query: Vec<_> = query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
            let instance = flatten(&admin.json(Method::POST, "instances", &query).await?);
            output.show(&instance, || done(&format!("added {}", cell(instance.get("domain")))));
        }
        Command::Ls => {
            let instances = admin.instances().await?;
            let mut rows = Rows::new(["domain", "aliases", "locale", "created"]);
            for instance in &instances {
                let aliases =
                    instance.get("domain_aliases").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let aliases = aliases.iter().map(|alias| cell(Some(alias))).collect::<Vec<_>>().join(", ");
                rows.row([
                    cell(instance.get("domain")),
                    aliases,
                    cell(instance.get("locale")),
                    date(instance.get("created_at")),
                ]);
            }
            let none = format!("no instances; add one: {}", hint::command("instances add alice.example.com"));
            output.table(&json!(instances), &none, rows);
        }
        Command::Show { instance } => {
            let path = format!("instances/{}", encode_segment(&instance));
            crate::output::print_json(&flatten(&admin.json(Method::GET, &path, &[]).await?));
        }
        Command::Rm { instance, confirmation } => {
            let path = format!("instances/{}", encode_segment(&instance));
            admin.json(Method::GET, &path, &[]).await?;
            let is_last = admin.instances().await?.len() == 1;
            confirmation.ask(output, &removal_summary(&instance, is_last))?;
            admin.text(Method::DELETE, &path, &[]).await?;
            output.show(&json!({ "removed": instance }), || done(&format!("removed {instance}")));
        }
        Command::Token { instance, audience, subject, scope } => {
            let audience = match audience {
                Audience::Cli => "cli",
                Audience::App => "app",
                Audience::Konn => "konn",
                Audience::Access => "access-token",
                Audience::Refresh => "refresh-token",
            };
            let query =
                [("Domain", instance.as_str()), ("Audience", audience), ("Subject", &subject), ("Scope", &scope)];
            let token = admin.text(Method::POST, "instances/token", &query).await?;
            let token = token.trim();
            output.show(&json!({ "token": token }), || say!("{token}"));
        }
        Command::SessionCode { instance } => {
            let code = session_code(&admin, &instance).await?;
            output.show(&json!({ "session_code": code }), || say!("{code}"));
        }
        Command::OauthClient { instance, name, redirect_uri, software_id } => {
            let addresses = redirect_uri.join(",");
            let query = [
                ("Domain", instance.as_str()),
                ("ClientName", &name),
                ("SoftwareID", software_id.as_deref().unwrap_or(&name)),
                ("RedirectURI", &addresses),
            ];
            let client = admin.json(Method::POST, "instances/oauth_client", &query).await?;
            output.show(&client, || {
                done(&format!("registered {name}"));
                say!("client_id      {}", cell(client.get("client_id")));
                say!("client_secret  {}", cell(client.get("client_secret")));
            });
        }
    }
    Ok(())
}
