//! `konnector account-types …`: the services that accounts connect to, as registered with their providers.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Connection, encode_segment, flatten, flatten_list};
use crate::error::{Error, Result};
use crate::output::{Output, Rows, cell, done, print_json};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or replace an account type.
    #[command(after_help = "The file contains a JSON object, for example:
  { \"grant_mode\": \"authorization_code\", \"client_id\": \"…\", \"client_secret\": \"…\",
    \"auth_endpoint\": \"https://provider.example/login\", \"token_endpoint\": \"https://provider.example/token\" }
Register this redirect URI with the provider: https://DOMAIN/accounts/NAME/redirect

Examples:
  konnector account-types set bank101 bank101.json
  pass show bank101 | konnector account-types set bank101 -    keeps the secret out of files")]
    Set {
        /// Name of the account type: the konnector's slug, unless the file sets another slug.
        name: String,
        /// File with a JSON object; - reads standard input.
        file: PathBuf,
    },
    /// List account types.
    Ls,
    /// Show an account type, with only the names of its secrets.
    Show {
        /// Name of the account type.
        name: String,
    },
    /// Remove an account type; its accounts remain, but are no longer refreshed.
    Rm {
        /// Name of the account type.
        name: String,
    },
}

/// Runs a command.
pub async fn run(connection: &Connection, output: Output, command: Command) -> Result<()> {
    let admin = connection.admin()?;
    let path = |name: &str| format!("account_types/{}", encode_segment(name));
    match command {
        Command::Set { name, file } => {
            let body = read(&file)?;
            let account_type = flatten(&admin.send_json(Method::PUT, &path(&name), &body).await?);
            output.show(&account_type, || done(&format!("saved account type {name}")));
        }
        Command::Ls => {
            let types = flatten_list(&admin.json(Method::GET, "account_types", &[]).await?);
            let mut rows = Rows::new(["name", "konnector", "grant mode", "provider"]);
            for kind in &types {
                let name = cell(kind.get("id"));
                let slug = kind.get("slug").map_or_else(|| name.clone(), |slug| cell(Some(slug)));
                rows.row([name, slug, cell(kind.get("grant_mode")), cell(kind.get("auth_endpoint"))]);
            }
            let none = format!("no account types; set one up: {}", crate::hint::command("account-types set NAME FILE"));
            output.table(&json!(types), &none, rows);
        }
        Command::Show { name } => print_json(&flatten(&admin.json(Method::GET, &path(&name), &[]).await?)),
        Command::Rm { name } => {
            admin.text(Method::DELETE, &path(&name), &[]).await?;
            output.show(&json!({ "removed": name }), || done(&format!("removed account type {name}")));
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Value> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(crate::error::io("reading standard input"))?;
        text
    } else {
        std::fs::read_to_string(file).map_err(crate::error::file("read", file))?
    };
    serde_json::from_str(&text).map_err(|error| {
        Error::usage(
            format!("{} is not valid JSON: {error}", file.display()),
            "see `konnector account-types set --help`",
        )
    })
}
