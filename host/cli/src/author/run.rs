//! `konnector run`: a konnector at work without a server. Platform and sandbox are the server's, what they keep lies in memory.

mod environment;
mod results;

use std::path::PathBuf;
use std::process::ExitCode;

use konnector_egress::AddressRule;
use serde_json::{Value, json};

use super::bundle::Bundle;
use crate::accounts;
use crate::error::{Error, Result};
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
    /// A field of the account's form; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    field: Vec<String>,
    /// Read the password from standard input, one line.
    #[arg(long)]
    password_stdin: bool,
    /// Write the files that it saves into this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// A JSON object in place of the manifest's parameters.
    #[arg(long, value_name = "JSON")]
    parameters: Option<String>,
    /// Address or network in private ranges that the konnector may reach; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    allow_address: Vec<AddressRule>,
}

/// Runs the konnector of a folder; returns the exit code of the run.
pub async fn run(output: Output, arguments: &Arguments) -> Result<ExitCode> {
    let bundle = Bundle::read(&arguments.folder)?;
    // Reports a missing component before asking the user anything.
    bundle.component()?;
    let given = accounts::parse_fields(&arguments.field, arguments.password_stdin)?;
    let fields = accounts::complete(&bundle.manifest, given)?;
    let parameters = arguments.parameters.as_deref().map(parse_parameters).transpose()?;

    let bench = RunEnvironment::set_up(arguments.allow_address.clone()).await?;
    let konnector = bench.install(&bundle, parameters).await?;
    let account = bench.add_account(&konnector, &bundle.manifest, fields).await?;
    let job = bench.run(output, &konnector, account).await?;
    let saved = RunResults::collect(&bench).await?;
    if let Some(folder) = &arguments.out {
        saved.write_files(&bench, folder).await?;
    }
    let went_well = job.get("state").and_then(Value::as_str) == Some("done");
    output.show(&json!({ "job": job, "documents": saved.documents, "files": saved.files }), || {
        saved.print();
        if let Some(folder) = &arguments.out {
            done(&format!("{} files are in {}", saved.files.len(), folder.display()));
        }
        if let Some(receipt) = receipt::from_job(&job) {
            receipt::print(&receipt);
        }
        if went_well {
            done("the run went well");
        }
    });
    bench.shut_down().await;
    if went_well {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::failed(format!("{}: {}", cell(job.get("error")), to_printable(&cell(job.get("error_message")))), ""))
}

fn parse_parameters(text: &str) -> Result<serde_json::Map<String, Value>> {
    serde_json::from_str(text).map_err(|error| {
        Error::usage(
            format!("--parameters is no JSON object: {error}"),
            r#"write it as in '{"url": "http://127.0.0.1:9091"}'"#,
        )
    })
}
