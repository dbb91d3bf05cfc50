//! `konnector accounts …`: the logins that konnectors use. The server encrypts passwords and never shows them.

mod fields;

use clap::Subcommand;
use konnector_manifest::Manifest;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::client::{ApiClient, Connection, encode_segment, flatten, flatten_list};
use crate::confirm::{Confirmation, count};
use crate::data;
use crate::error::{Error, Result};
use crate::hint;
use crate::output::{Output, Rows, cell, date, done, print_json};
use crate::triggers;

pub use fields::{FieldValues, check_names, complete, parse_fields};

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
    /// Change fields of an account; its paused triggers resume, unless the vendor locked the account.
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
    /// Submit the one-time code that a run waits for, such as a code that the vendor sent by SMS.
    #[command(after_help = "Example:\n  konnector accounts code ID 657718")]
    Code {
        /// ID of the account.
        id: String,
        /// The code.
        code: String,
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
        #[command(flatten)]
        confirmation: Confirmation,
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
            check_fields(&session, &id, &body, &values).await?;
            let auth = object_mut(&mut body, &id)?.entry("auth").or_insert_with(|| json!({}));
            if let Some(auth) = auth.as_object_mut() {
                auth.extend(values);
            }
            let triggers = triggers::of_account(&session, &id).await?;
            session.send_json(Method::PUT, &path(&id), &body).await?;
            output.show(&json!({ "id": id }), || done(&describe_change(&triggers)));
            Ok(())
        }
        Command::Code { id, code } => {
            submit_code(&session, &id, &code).await?;
            output.show(&json!({ "id": id }), || done("the run gets the code"));
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
                crate::output::note(&format!("undo: {}", hint::command(&format!("accounts unshare {id} {slug}"))));
            });
            Ok(())
        }
        Command::Unshare { id, slug } => {
            let mut body = read(&session, &id).await?;
            let mut shared = shared_with(&body);
            if !shared.contains(&slug) {
                return Err(Error::usage(
                    format!("account {id} is not shared with {slug}"),
                    format!("`{}` lists its konnectors in shared_with", hint::command(&format!("accounts show {id}"))),
                ));
            }
            shared.retain(|other| *other != slug);
            share(&session, &id, &mut body, &shared).await?;
            output.show(&json!({ "id": id, "shared_with": shared }), || {
                done(&format!("{slug} can no longer use the account"));
            });
            Ok(())
        }
        Command::Rm { id, confirmation } => {
            let account = read(&session, &id).await?;
            let triggers = triggers::of_account(&session, &id).await?.len();
            let (slug, name) = (cell(account.get("account_type")), cell(account.get("name")));
            let name = if name.is_empty() { id.clone() } else { format!("{id} ({name})") };
            let triggers = count(triggers, "trigger");
            confirmation.ask(
                output,
                &format!("this removes account {name} of {slug} and {triggers}; saved documents and files remain"),
            )?;
            // Read again, because it may have changed while the user thought.
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
        Error::usage(
            format!("account '{id}' does not exist"),
            format!("list the accounts with `{}`", hint::command("accounts ls")),
        )
    })
}

fn object_mut<'a>(account: &'a mut Value, id: &str) -> Result<&'a mut Map<String, Value>> {
    account.as_object_mut().ok_or_else(|| Error::message(format!("account {id} is not a JSON object")))
}

/// Says what a change of an account means for its triggers, as they were before the change.
fn describe_change(triggers: &[Value]) -> String {
    let state = |name: &str| triggers.iter().find_map(|trigger| trigger.get("current_state")?.get(name));
    if let Some(locked) = state("locked_until") {
        return format!("changed the account; the vendor locked it, so nothing runs before {}", date(Some(locked)));
    }
    if state("paused").is_some() {
        return "changed the account; its paused triggers resume".to_owned();
    }
    "changed the account".to_owned()
}

/// Returns the state that the account's run sets, as while it waits for a code; otherwise why the account's triggers wait.
fn describe_state(account: &Value, triggers: &[Value]) -> String {
    let own = cell(account.get("state"));
    if !own.is_empty() {
        return own;
    }
    let id = cell(account.get("_id"));
    triggers.iter().filter(|trigger| triggers::account(trigger) == id).find_map(triggers::wait).unwrap_or_default()
}

/// Rejects fields that the form of the account's konnector does not have. If the konnector is not installed, its form is
/// unknown.
async fn check_fields(session: &ApiClient, id: &str, account: &Value, values: &FieldValues) -> Result<()> {
    if values.contains_key(CODE_FIELD) {
        return Err(Error::usage(
            format!("{CODE_FIELD} is not a field of the account form"),
            format!("submit a one-time code with `{}`", hint::command(&format!("accounts code {id} CODE"))),
        ));
    }
    let slug = cell(account.get("account_type"));
    match session.find(&format!("konnectors/{}", encode_segment(&slug))).await? {
        Some(konnector) if !slug.is_empty() => check_names(&to_manifest(&konnector)?, values),
        _ => Ok(()),
    }
}

/// Parses the manifest in the API's resource of a konnector.
fn to_manifest(konnector: &Value) -> Result<Manifest> {
    let fields = flatten(konnector).as_object().cloned().unwrap_or_default();
    Ok(Manifest::from_object(fields)?)
}

/// Field of an account where a run looks for the one-time code that it asked for (Cozy API, konnector run-time
/// contract). The run removes the code.
const CODE_FIELD: &str = "twoFACode";

/// Returns whether a run waits for a one-time code, as opposed to an approval in the vendor's app.
fn awaits_code(account: &Value) -> bool {
    let state = account.get("state").and_then(Value::as_str).unwrap_or_default();
    state.starts_with("TWOFA_NEEDED") && state != "TWOFA_NEEDED.APP"
}

/// Stores a one-time code in the account, where the waiting run looks for it. Without a waiting run, nobody would remove
/// the code.
///
/// # Errors
///
/// If no run of the account waits for a code.
pub async fn submit_code(session: &ApiClient, id: &str, code: &str) -> Result<()> {
    let mut body = read(session, id).await?;
    if !awaits_code(&body) {
        let slug = cell(body.get("account_type"));
        let run = hint::command(&format!("konnectors run {slug} --account {id}"));
        return Err(Error::failed(
            format!("no run of account {id} waits for a one-time code, so the code was not stored"),
            format!("start a run, then submit the code that the vendor sends: {run}"),
        ));
    }
    object_mut(&mut body, id)?.insert(CODE_FIELD.to_owned(), json!(code));
    session.send_json(Method::PUT, &path(id), &body).await?;
    Ok(())
}

/// Returns the konnectors that share an account.
fn shared_with(account: &Value) -> Vec<String> {
    let listed = account.get("shared_with").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Updates the konnectors that share an account.
async fn share(session: &ApiClient, id: &str, account: &mut Value, konnectors: &[String]) -> Result<()> {
    object_mut(account, id)?.insert("shared_with".to_owned(), json!(konnectors));
    session.send_json(Method::PUT, &path(id), account).await?;
    Ok(())
}

async fn add(session: &ApiClient, output: Output, slug: &str, field: &[String], password_stdin: bool) -> Result<()> {
    let manifest = to_manifest(&session.get(&format!("konnectors/{}", encode_segment(slug)), &[]).await?)?;
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
        crate::output::note(&format!("next: {}", hint::command(&format!("triggers add {slug} --account {id}"))));
    });
    Ok(())
}

async fn list(session: &ApiClient, output: Output, slug: Option<&str>) -> Result<()> {
    let mut accounts = data::all_documents(session, DOCTYPE).await?;
    accounts
        .retain(|account| slug.is_none_or(|slug| account.get("account_type").and_then(Value::as_str) == Some(slug)));
    let triggers = flatten_list(&session.get("jobs/triggers", &[]).await?);
    let mut rows = Rows::new(["id", "konnector", "name", "state", "shared with"]);
    for account in &accounts {
        rows.row([
            cell(account.get("_id")),
            cell(account.get("account_type")),
            cell(account.get("name")),
            describe_state(account, &triggers),
            shared_with(account).join(", "),
        ]);
    }
    let none = format!("no accounts; add one: {}", hint::command("accounts add SLUG --field login=…"));
    output.table(&json!(accounts), &none, rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_resumes_only_what_was_paused() {
        let trigger = |state: Value| json!({ "current_state": state });
        let described = [
            vec![],
            vec![trigger(json!({ "status": "errored" }))],
            vec![trigger(json!({})), trigger(json!({ "paused": { "code": "LOGIN_FAILED" } }))],
            vec![trigger(json!({ "paused": { "code": "X" }, "locked_until": "2026-11-29T12:53:46Z" }))],
        ]
        .map(|triggers| describe_change(&triggers));
        insta::assert_snapshot!(described.join("\n"), @r"
        changed the account
        changed the account
        changed the account; its paused triggers resume
        changed the account; the vendor locked it, so nothing runs before 2026-11-29 12:53:46Z
        ");
    }

    #[test]
    fn an_account_shows_why_its_triggers_wait() {
        let triggers = [
            json!({ "message": { "account": "1" }, "current_state": { "paused": { "code": "LOGIN_FAILED" } } }),
            json!({ "message": { "account": "2" }, "current_state": { "status": "errored", "last_error": "X" } }),
        ];
        let state = |account: Value| describe_state(&account, &triggers);
        assert_eq!(state(json!({ "_id": "1" })), "paused until you act (LOGIN_FAILED)");
        assert_eq!(state(json!({ "_id": "1", "state": "TWOFA_NEEDED.SMS" })), "TWOFA_NEEDED.SMS");
        assert_eq!(state(json!({ "_id": "2", "state": null })), "");
    }

    #[test]
    fn a_code_is_stored_only_for_a_run_that_waits_for_one() {
        let awaits = |state: Value| awaits_code(&json!({ "state": state }));
        assert_eq!(
            ["TWOFA_NEEDED", "TWOFA_NEEDED.SMS", "TWOFA_NEEDED.APP_CODE", "TWOFA_NEEDED_RETRY.EMAIL"]
                .map(|state| awaits(json!(state))),
            [true; 4]
        );
        assert_eq!(["TWOFA_NEEDED.APP", "LOGIN_FAILED", ""].map(|state| awaits(json!(state))), [false; 3]);
        assert!(!awaits(Value::Null));
    }
}
