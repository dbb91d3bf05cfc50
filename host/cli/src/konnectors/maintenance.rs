//! `konnector konnectors maintenance …`: maintenance mode of konnectors, on all instances of the server.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::client::{AdminClient, Connection, encode_segment, flatten_list};
use crate::error::{Error, Result};
use crate::hint;
use crate::output::{Output, Rows, cell, done, note, warning};

/// Path of the list of maintenances in the admin API.
const PATH: &str = "konnectors/maintenance";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prevent schedules, events and webhooks from starting a konnector; replaces its earlier maintenance settings.
    #[command(after_help = "Examples:
  konnector konnectors maintenance on bank101 --message en=\"Their site has changed. Back on Monday.\"
  konnector konnectors maintenance on bank101 --short --no-manual-exec")]
    On {
        /// Slug of the konnector, which need not be installed.
        slug: String,
        /// Announce a short maintenance.
        #[arg(long)]
        short: bool,
        /// Prevent manual runs, too.
        #[arg(long)]
        no_manual_exec: bool,
        /// Message for users in one language; may be repeated.
        #[arg(long, value_name = "LANGUAGE=TEXT", value_parser = message)]
        message: Vec<(String, String)>,
    },
    /// End the maintenance of a konnector; its schedules resume.
    Off {
        /// Slug of the konnector.
        slug: String,
    },
    /// List the konnectors in maintenance.
    Ls {
        /// Include those that the server's registries report.
        #[arg(long)]
        registries: bool,
    },
}

fn message(argument: &str) -> Result<(String, String), &'static str> {
    let (language, text) = argument.split_once('=').ok_or("write it as in en=\"Back on Monday.\"")?;
    let is_language = !language.is_empty() && language.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    if !is_language || text.trim().is_empty() {
        return Err("write a language and a text, as in en=\"Back on Monday.\"");
    }
    Ok((language.to_owned(), text.to_owned()))
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<()> {
    let admin = connection.admin()?;
    let path = |slug: &str| format!("{PATH}/{}", encode_segment(slug));
    match command {
        Command::On { slug, short, no_manual_exec, message } => {
            // Clients show the short message in lists and the long one next to the konnector.
            let localized = |text: String| json!({ "short_message": text, "long_message": text });
            let messages: Map<String, Value> =
                message.into_iter().map(|(language, text)| (language, localized(text))).collect();
            let attributes = json!({
                "flag_short_maintenance": short,
                "flag_disallow_manual_exec": no_manual_exec,
                "messages": messages,
            });
            admin.send_json(Method::PUT, &path(&slug), &json!({ "data": { "attributes": attributes } })).await?;
            let all = flatten_list(&admin.json(Method::GET, PATH, &[]).await?);
            output.show(&json!({ "slug": slug, "maintenance_options": attributes }), || {
                done(&format!("{slug} is in maintenance on all instances"));
                if !is_installed(&all, &slug) {
                    warning(&format!("no instance has the konnector '{slug}'; check its slug"));
                }
                let off = hint::command(&format!("konnectors maintenance off {slug}"));
                note(&format!("end it with: {off}"));
            });
        }
        Command::Off { slug } => {
            admin.text(Method::DELETE, &path(&slug), &[]).await.map_err(|error| {
                let list = hint::command("konnectors maintenance ls");
                Error::failed(error.to_string(), format!("list the maintenances: {list}"))
            })?;
            output.show(&json!({ "ended": slug }), || done(&format!("ended the maintenance of {slug}")));
        }
        Command::Ls { registries } => {
            let query: &[_] = if registries { &[("Context", "default")] } else { &[] };
            let all = flatten_list(&admin.json(Method::GET, PATH, query).await?);
            let mut rows = Rows::new(["slug", "set by", "manual runs", "message"]);
            for maintenance in &all {
                rows.row(row(maintenance));
            }
            output.table(&json!(all), "no konnector is in maintenance", rows);
        }
    }
    Ok(())
}

/// Returns whether an instance has the konnector; an older server does not say.
fn is_installed(maintenances: &[Value], slug: &str) -> bool {
    let maintenance = maintenances.iter().find(|maintenance| cell(maintenance.get("slug")) == slug);
    maintenance.and_then(|maintenance| maintenance.get("installed")).and_then(Value::as_bool).unwrap_or(true)
}

/// Returns the konnectors that the operator has put into maintenance.
pub async fn slugs(admin: &AdminClient) -> Result<Vec<String>> {
    let all = flatten_list(&admin.json(Method::GET, PATH, &[]).await?);
    Ok(all.iter().map(|maintenance| cell(maintenance.get("slug"))).collect())
}

/// Makes a row of the table. The level `stack` is Cozy's word for the operator's maintenance.
fn row(maintenance: &Value) -> [String; 4] {
    let options = maintenance.get("maintenance_options");
    let option = |name: &str| options.and_then(|options| options.get(name));
    let level = cell(maintenance.get("level"));
    let forbidden = option("flag_disallow_manual_exec") == Some(&Value::Bool(true));
    let messages = option("messages").and_then(Value::as_object);
    let texts = messages
        .into_iter()
        .flatten()
        .map(|(language, message)| format!("{language}: {}", cell(message.get("short_message"))));
    [
        cell(maintenance.get("slug")),
        if level == "stack" { "the operator".to_owned() } else { level },
        if forbidden { "no" } else { "yes" }.to_owned(),
        texts.collect::<Vec<_>>().join("; "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_konnector_that_no_instance_has_is_not_installed() {
        let maintenances = [
            json!({ "slug": "bank", "installed": true }),
            json!({ "slug": "bnk", "installed": false }),
            json!({ "slug": "old" }),
        ];
        let installed = ["bank", "bnk", "old", "unknown"].map(|slug| is_installed(&maintenances, slug));
        assert_eq!(installed, [true, false, true, true]);
    }

    #[test]
    fn a_message_has_a_language() {
        assert_eq!(message("pt-BR=a=b"), Ok(("pt-BR".to_owned(), "a=b".to_owned())));
        for bad in ["Back on Monday", "=text", "en= ", "e n=text"] {
            assert!(message(bad).is_err(), "{bad}");
        }
    }
}
