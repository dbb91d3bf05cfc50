//! `konnector accounts …`: the logins that konnectors use. The server encrypts passwords and never shows them.

mod fields;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::client::{ApiClient, Connection, encode_segment, flatten};
use crate::data;
use crate::error::{Error, Result};
use crate::output::{Output, Rows, cell, done, print_json};

pub use fields::{complete, parse_fields};

const DOCTYPE: &str = "io.cozy.accounts";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add an account; prompts for missing passwords without echoing them.
    #[command(after_help = "Examples:
  konnector accounts add bank101 --field login=ada                            asks for the password
  pass show bank101 | konnector accounts add bank101 --field login=ada --password-stdin")]
    Add {
        /// Slug of the konnector that uses the account.
        slug: String,
        /// Field of the account form; may be repeated. A password given here stays in the shell's history.
        #[arg(long, value_name = "NAME=VALUE")]
        field: Vec<String>,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Print a URL that connects an account by OAuth in a browser; it works once, within five minutes.
    Connect {
        /// Name of the account type; see `konnector account-types ls`.
        name: String,
        /// OAuth scope to request from the provider.
        #[arg(long)]
        scope: Option<String>,
    },
    /// List accounts.
    Ls {
        /// List only accounts of this konnector.
        slug: Option<String>,
    },
    /// Show an account; its secrets remain encrypted.
    Show {
        /// ID of the account.
        id: String,
    },
    /// Change fields of an account; triggers that were paused because of it resume.
    #[command(after_help = "Example:\n  konnector accounts set ID --password-stdin < new-password")]
    Set {
        /// ID of the account.
        id: String,
        /// Field of the account form; may be repeated.
        #[arg(long, value_name = "NAME=VALUE")]
        field: Vec<String>,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Share an account and its passwords with another konnector.
    #[command(after_help = "Example:\n  konnector accounts share ID bank101-archive")]
    Share {
        /// ID of the account.
        id: String,
        /// Slug of the other konnector, which must be installed.
        slug: String,
    },
    /// Stop sharing an account with a konnector; its runs and triggers for the account are rejected from then on.
    Unshare {
        /// ID of the account.
        id: String,
        /// Slug of the other konnector.
        slug: String,
    },
    /// Remove an account and its triggers; saved documents and files remain.
    Rm {
        /// ID of the account.
        id: String,
    },
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<()> {
    let session = connection.session().await?;
    match command {
        Command::Connect { name, scope } => {
            // Checked before the user opens the URL.
            connection.admin()?.json(Method::GET, &format!("account_types/{}", encode_segment(&name)), &[]).await?;
            let response = session.call(Method::POST, "auth/session_code", &[]).await?;
            let code = cell(response.get("session_code"));
            let query = [("session_code", Some(code.as_str())), ("scope", scope.as_deref())];
            let query: Vec<_> = query.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
            let address = session.address(&format!("accounts/{}/start", encode_segment(&name)), &query)?;
            output.show(&json!({ "address": address }), || say!("{address}"));
            Ok(())
        }
        Command::Add { slug, field, password_stdin } => add(&session, output, &slug, &field, password_stdin).await,
        Command::Ls { slug } => list(&session, output, slug.as_deref()).await,
        Command::Show { id } => {
            print_json(&read(&session, &id).await?);
            Ok(())
        }
        Command::Set { id, field, password_stdin } => {
            let values = parse_fields(&field, password_stdin)?;
            if values.is_empty() {
                return Err(Error::usage(
                    "nothing to change",
                    "give a field, as in --field login=ada, or --password-stdin",
                ));
            }
            let mut body = read(&session, &id).await?;
            let fields =
                body.as_object_mut().ok_or_else(|| Error::message(format!("account {id} is not a JSON object")))?;
            let auth = fields.entry("auth").or_insert_with(|| json!({}));
            if let Some(auth) = auth.as_object_mut() {
                auth.extend(values);
            }
            session.send_json(Method::PUT, &path(&id), &body).await?;
            output.show(&json!({ "id": id }), || {
                done("changed the account; triggers that were paused because of it resume")
            });
            Ok(())
        }
        Command::Share { id, slug } => {
            let mut body = read(&session, &id).await?;
            let mut shared = shared_with(&body);
            if !shared.contains(&slug) {
                shared.push(slug.clone());
                share(&session, &id, &mut body, &shared).await?;
            }
            output.show(&json!({ "id": id, "shared_with": shared }), || {
                done(&format!("{slug} can use the account and its passwords"));
                crate::output::note(&format!("undo: konnector accounts unshare {id} {slug}"));
            });
            Ok(())
        }
        Command::Unshare { id, slug } => {
            let mut body = read(&session, &id).await?;
            let mut shared = shared_with(&body);
            if !shared.contains(&slug) {
                return Err(Error::usage(
                    format!("account {id} is not shared with {slug}"),
                    "`konnector accounts show ID` lists its konnectors in shared_with",
                ));
            }
            shared.retain(|other| *other != slug);
            share(&session, &id, &mut body, &shared).await?;
            output.show(&json!({ "id": id, "shared_with": shared }), || {
                done(&format!("{slug} can no longer use the account"));
            });
            Ok(())
        }
        Command::Rm { id } => {
            let rev = cell(read(&session, &id).await?.get("_rev"));
            session.call(Method::DELETE, &path(&id), &[("rev", &rev)]).await?;
            output.show(&json!({ "removed": id }), || done("removed the account and its triggers"));
            Ok(())
        }
    }
}

fn path(id: &str) -> String {
    format!("data/{DOCTYPE}/{}", encode_segment(id))
}

/// Loads an account, whose secrets remain encrypted.
pub async fn read(session: &ApiClient, id: &str) -> Result<Value> {
    session.find(&path(id)).await?.ok_or_else(|| {
        Error::usage(format!("account '{id}' does not exist"), "list the accounts with `konnector accounts ls`")
    })
}

/// Returns the konnectors that share an account.
fn shared_with(account: &Value) -> Vec<String> {
    let listed = account.get("shared_with").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Updates the konnectors that share an account.
async fn share(session: &ApiClient, id: &str, account: &mut Value, konnectors: &[String]) -> Result<()> {
    let fields = account.as_object_mut().ok_or_else(|| Error::message(format!("account {id} is not a JSON object")))?;
    fields.insert("shared_with".to_owned(), json!(konnectors));
    session.send_json(Method::PUT, &path(id), account).await?;
    Ok(())
}

async fn add(session: &ApiClient, output: Output, slug: &str, field: &[String], password_stdin: bool) -> Result<()> {
    let konnector = flatten(&session.get(&format!("konnectors/{}", encode_segment(slug)), &[]).await?);
    let manifest = konnector.as_object().cloned().unwrap_or_default();
    let manifest = konnector_manifest::Manifest::from_object(manifest)?;
    let auth = complete(&manifest, parse_fields(field, password_stdin)?)?;
    let mut body = Map::new();
    body.insert("account_type".to_owned(), json!(slug));
    if let Some(identifier) = manifest.identifier_field() {
        body.insert("identifier".to_owned(), json!(identifier));
    }
    body.insert("auth".to_owned(), Value::Object(auth));
    let response = session.send_json(Method::POST, &format!("data/{DOCTYPE}/"), &Value::Object(body)).await?;
    let id = cell(response.get("id"));
    output.show(&json!({ "id": id, "rev": response.get("rev"), "account": response.get("data") }), || {
        done(&format!("added account {id}"));
        crate::output::note(&format!("next: konnector triggers add {slug} --account {id}"));
    });
    Ok(())
}

async fn list(session: &ApiClient, output: Output, slug: Option<&str>) -> Result<()> {
    let mut accounts = data::all_documents(session, DOCTYPE).await?;
    accounts
        .retain(|account| slug.is_none_or(|slug| account.get("account_type").and_then(Value::as_str) == Some(slug)));
    let mut rows = Rows::new(["id", "konnector", "name", "state", "shared with"]);
    for account in &accounts {
        rows.row([
            cell(account.get("_id")),
            cell(account.get("account_type")),
            cell(account.get("name")),
            cell(account.get("state")),
            shared_with(account).join(", "),
        ]);
    }
    output.table(&json!(accounts), "no accounts; add one: konnector accounts add SLUG --field login=…", rows);
    Ok(())
}
