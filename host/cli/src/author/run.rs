//! `konnector run`: runs a konnector without a server, in the server's platform and sandbox with all data in memory.

mod environment;
mod results;

use std::path::PathBuf;
use std::process::ExitCode;

use konnector_egress::AddressRule;
use serde_json::{Value, json};

use super::bundle::Bundle;
use crate::accounts;
use crate::error::{Error, Result};
use crate::follow::without_code;
use crate::output::{Output, cell, done, to_printable};
use crate::receipt;

use self::environment::RunEnvironment;
use self::results::RunResults;

const EXAMPLES: &str = "Examples:
  konnector run --field login=ada                                         asks for the password
  konnector run shop --field login=ada --password-stdin --out saved < password
  konnector run --allow-address 127.0.0.1:9091 --parameters '{\"url\": \"http://127.0.0.1:9091\"}'";

/// Arguments of `konnector run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Folder of the konnector.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Field of the account form; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    field: Vec<String>,
    /// Read the password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
    /// Write the saved files to this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// JSON object that replaces the manifest's parameters.
    #[arg(long, value_name = "JSON")]
    parameters: Option<String>,
    /// Private address or network that the konnector may reach; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    allow_address: Vec<AddressRule>,
}

/// Runs the konnector of a folder; returns the exit code of the run.
pub async fn run(output: Output, arguments: &Arguments) -> Result<ExitCode> {
    let bundle = Bundle::read(&arguments.folder)?;
    // Reports a missing component before asking the user anything.
    bundle.component()?;
    bundle.warn_if_stale();
    let values = accounts::parse_fields(&arguments.field, arguments.password_stdin)?;
    let fields = accounts::complete(&bundle.manifest, values)?;
    let parameters = arguments.parameters.as_deref().map(parse_parameters).transpose()?;

    let environment = RunEnvironment::set_up(arguments.allow_address.clone()).await?;
    let konnector = environment.install(&bundle, parameters).await?;
    let account = environment.add_account(&konnector, &bundle.manifest, fields).await?;
    let job = environment.run(output, &konnector, account).await?;
    let saved = RunResults::collect(&environment).await?;
    if let Some(folder) = &arguments.out {
        saved.write_files(&environment, folder).await?;
    }
    let succeeded = job.get("state").and_then(Value::as_str) == Some("done");
    output.show(&json!({ "job": job, "documents": saved.documents, "files": saved.files }), || {
        saved.print();
        if let Some(folder) = &arguments.out {
            done(&format!("wrote {} files to {}", saved.files.len(), folder.display()));
        }
        if let Some(receipt) = receipt::from_job(&job) {
            receipt::print(&receipt);
        }
        if succeeded {
            done("the run succeeded");
        }
    });
    environment.shut_down().await;
    if succeeded {
        return Ok(ExitCode::SUCCESS);
    }
    let (code, message) = (cell(job.get("error")), cell(job.get("error_message")));
    Err(Error::failed(to_printable(&format!("{code}: {}", without_code(&code, &message))), ""))
}

fn parse_parameters(text: &str) -> Result<serde_json::Map<String, Value>> {
    serde_json::from_str(text).map_err(|error| {
        Error::usage(
            format!("--parameters is not a valid JSON object: {error}"),
            r#"write it as in '{"url": "http://127.0.0.1:9091"}'"#,
        )
    })
}
