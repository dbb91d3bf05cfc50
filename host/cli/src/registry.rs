//! `konnector registry …`: serves a registry of konnectors.

use std::path::PathBuf;

use clap::Subcommand;
use konnector_platform::konnector::{BundleDirectory, SkippedEntry};
use tokio::net::TcpListener;

use crate::error::{Error, Result, io};
use crate::output::{note, to_printable, warning};
use crate::serve::listeners::bind_error;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the konnectors in a folder, so that servers can install and update them.
    #[command(after_help = "The folder:
  FOLDER/bank101/1.0.0.tar.gz            a version, as `konnector pack` writes it
  FOLDER/bank101/1.1.0-beta.1/           an unpacked version; -beta.N is for the channel beta, any other suffix for dev
  FOLDER/bank101/maintenance.json        while this file exists, no schedule starts the konnector: {\"messages\": {\"en\": {…}}}
The folder is read again each time: to publish a version, copy it there under another name and rename it.

Example:
  konnector registry serve /srv/konnectors
  konnector serve --registry http://127.0.0.1:8081 --allow-address 127.0.0.1:8081
  konnector konnectors install bank101 registry://bank101/stable")]
    Serve {
        /// Folder with the konnectors.
        folder: PathBuf,
        /// Address to listen on; port 0 takes any free port.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
        listen: String,
        /// Public URL of the registry, if it differs from the address that servers request, as behind a proxy.
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
    let bundles = BundleDirectory::new(folder.clone(), warn_skipped)
        .map_err(|error| Error::failed(error.to_string(), "give the folder that contains the konnectors"))?;
    let count = bundles.apps()?.len();
    if count == 0 {
        note(&format!("next: save an archive of `konnector pack` as {}", folder.join("SLUG/VERSION.tar.gz").display()));
    }
    let listener = TcpListener::bind(&listen).await.map_err(|error| bind_error("listen", &listen, &error))?;
    let address = listener.local_addr().map_err(io("listening"))?;
    say!("registry http://{address} serves {count} konnectors from {}", folder.display());
    let router = konnector_api::registry_server(bundles, public_url);
    let shutdown = async {
        // Without signals it runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    konnector_api::serve(listener, router, shutdown).await.map_err(io("serving"))
}
