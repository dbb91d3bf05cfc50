//! `konnector registry …`: a registry of one's own.

use std::path::PathBuf;

use clap::Subcommand;
use konnector_platform::konnector::{BundleDirectory, SkippedEntry};
use tokio::net::TcpListener;

use crate::error::{Error, Result, io};
use crate::output::{note, to_printable, warning};

/// See the module.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Offer the konnectors in a folder to servers, which install and update from there.
    #[command(after_help = "The folder:
  FOLDER/bank101/1.0.0.tar.gz            a version, as `konnector pack` writes it
  FOLDER/bank101/1.1.0-beta.1/           another one, not packed; -beta.N is for the channel beta, any other ending for dev
  FOLDER/bank101/maintenance.json        while it is there, no schedule starts the konnector: {\"messages\": {\"en\": {…}}}
It is read anew each time: to publish a version, copy it there under another name and rename it.

Example:
  konnector registry serve /srv/konnectors
  konnector serve --registry http://127.0.0.1:8081 --allow-address 127.0.0.1:8081
  konnector konnectors install bank101 registry://bank101/stable")]
    Serve {
        /// The folder.
        folder: PathBuf,
        /// Address to listen on; port 0 takes any free port.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
        listen: String,
        /// How servers reach it, where that is not the address they ask, as behind a proxy.
        #[arg(long, value_name = "URL")]
        public_url: Option<String>,
    },
}

/// Warns about an entry that its owner should check, possibly long after the start.
fn warn_skipped(SkippedEntry { path, reason, advice }: &SkippedEntry) {
    warning(&format!("{} is not offered: {}", path.display(), to_printable(reason)));
    crate::output::advice(&to_printable(advice));
}

/// Runs a command.
pub async fn run(command: Command) -> Result<()> {
    let Command::Serve { folder, listen, public_url } = command;
    let shelf = BundleDirectory::new(folder.clone(), warn_skipped)
        .map_err(|error| Error::failed(error.to_string(), "name the folder that holds the konnectors"))?;
    let count = shelf.apps()?.len();
    if count == 0 {
        note(&format!(
            "next: put an archive of `konnector pack` there: {}",
            folder.join("SLUG/VERSION.tar.gz").display()
        ));
    }
    let listener = TcpListener::bind(&listen).await.map_err(|error| {
        Error::failed(format!("{listen} cannot be listened on: {error}"), "choose another address with --listen")
    })?;
    let address = listener.local_addr().map_err(io("listening"))?;
    say!("registry http://{address} offers {count} konnectors of {}", folder.display());
    let router = konnector_api::registry_server(shelf, public_url);
    let stopped = async {
        // Without signals it runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    konnector_api::serve(listener, router, stopped).await.map_err(io("serving"))
}
