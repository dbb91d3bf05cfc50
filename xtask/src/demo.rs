//! `cargo xtask demo`: runs the whole system on this machine.

mod manifest;
mod processes;
mod server;
mod vendor;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use owo_colors::{OwoColorize as _, Stream};

use crate::compile::{self, Profile};
use crate::guests::{self, GuestSelection};
use crate::term;
use crate::workspace::Workspace;

use self::processes::Processes;
use self::server::DemoServer;
use self::vendor::VendorSite;

/// The konnector of the demo.
const SLUG: &str = "bank101";

/// The programs of the demo.
const PROGRAMS: [&str; 2] = ["konnector", "demo-vendor"];

/// Builds what it needs, starts a vendor and a server, and lets a konnector fetch bills.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// End after the runs, instead of keeping the server running until Ctrl-C.
    #[arg(long)]
    once: bool,
    /// Folder for data and logs [default: a new temporary folder].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// Runs the whole demo.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    term::heading("1  Building the konnector, the server and the demo vendor");
    let bundles = guests::build(workspace, GuestSelection::Example(SLUG))?;
    build_programs(workspace)?;

    let workdir = DemoFolder::prepare(arguments)?;
    let background = Processes::new()?;
    term::heading("2  Starting the vendor and the server");
    let site = VendorSite::start(workspace, &workdir.folder, &background)?;
    term::note(&format!(
        "Bank101, a bank that does not exist, is at {} (login {}, password {})",
        site.url, site.login, site.password
    ));
    let server = DemoServer::start(workspace, &workdir.folder, &site, &background)?;
    term::note(&format!("the server is at {}, its data in {}", server.public_url, server.data_dir.display()));

    term::heading("3  Installing the konnector, adding an account and its schedule");
    let bundle = workdir.folder.join(SLUG);
    copy_folder(&bundles.join(SLUG), &bundle)?;
    manifest::set_vendor_url(&bundle.join("manifest.konnector"), &site.url)?;
    server.run_shown(["konnectors", "install", SLUG, &format!("file://{}", bundle.display())])?;
    let account = server.add_account(SLUG, &site)?;
    server.run_shown(["triggers", "add", SLUG, "--account", &account])?;

    term::heading("4  Running it");
    server.run_shown(["konnectors", "run", SLUG, "--account", &account])?;

    term::heading("5  Listing what it saved");
    server.run_shown(["data", "ls", "io.cozy.bills"])?;
    server.run_shown(["files", "ls", "/", "--recursive"])?;
    verify::verify_downloads(&server, &site)?;

    term::heading("6  Running it again: nothing is saved twice");
    second_run(&server, &account)?;

    let took = term::duration(start.elapsed());
    term::heading(&format!("The demo took {took}."));
    if arguments.once {
        drop(background);
        return workdir.clean_up();
    }
    server.print_next_commands(SLUG, &account);
    eprintln!(
        "\n{}",
        "Press Ctrl-C to stop the vendor and the server.".if_supports_color(Stream::Stderr, |text| text.bold())
    );
    background.wait()
}

/// Compiles the programs of the demo.
pub fn build_programs(workspace: &Workspace) -> Result<()> {
    if !PROGRAMS.iter().all(|name| workspace.program(name).exists()) {
        term::note("the first build compiles more than 400 crates and takes several minutes");
    }
    term::note(&format!("compiling the programs: {}", PROGRAMS.join(", ")));
    term::timed("server and vendor compiled", || compile::programs(workspace, &PROGRAMS, Profile::Dev))
}

/// Runs the konnector again, and fails if that saves anything new.
fn second_run(server: &DemoServer, account: &str) -> Result<()> {
    let before = (server.count_documents("io.cozy.bills")?, server.files()?.len());
    let job = server.json(["konnectors", "run", SLUG, "--account", account])?;
    let state = job.get("state").and_then(serde_json::Value::as_str).unwrap_or("unknown");
    if state != "done" {
        let reason = job.get("error_message").and_then(serde_json::Value::as_str).unwrap_or("no reason given");
        bail!("the second run ended in the state '{state}': {reason}");
    }
    let after = (server.count_documents("io.cozy.bills")?, server.files()?.len());
    if before != after {
        bail!(
            "the second run saved duplicates: {} bills and {} files before, {} and {} after",
            before.0,
            before.1,
            after.0,
            after.1
        );
    }
    eprintln!(
        "{} still {} bills and {} files: a bill is identified by its reference at the vendor, so it is never saved twice",
        "✓".if_supports_color(Stream::Stderr, |mark| mark.green()),
        after.0,
        after.1
    );
    Ok(())
}

/// The folder for the demo's files.
struct DemoFolder {
    folder: PathBuf,
    temporary: bool,
}

impl DemoFolder {
    fn prepare(arguments: &Arguments) -> Result<Self> {
        if let Some(folder) = &arguments.data_dir {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let folder = fs::canonicalize(folder)?;
            if folder.join("data").exists() {
                bail!("{} contains data of an earlier demo; choose another folder, or remove it", folder.display());
            }
            return Ok(Self { folder, temporary: false });
        }
        let folder =
            tempfile::Builder::new().prefix("konnector-demo-").tempdir().context("cannot create a temporary folder")?;
        Ok(Self { folder: folder.keep(), temporary: arguments.once })
    }

    fn clean_up(self) -> Result<()> {
        if self.temporary {
            fs::remove_dir_all(&self.folder).with_context(|| format!("cannot remove {}", self.folder.display()))?;
        }
        Ok(())
    }
}

/// Copies the files of a bundle, including icons in subfolders.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
