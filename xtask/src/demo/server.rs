//! The `konnector` program: the server, and the commands that an operator would type.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use owo_colors::{OwoColorize as _, Stream};
use serde_json::Value;

use super::processes::Processes;
use super::vendor::VendorSite;
use crate::command::Command;
use crate::term;
use crate::workspace::Workspace;

/// A running server, and its commands.
pub struct DemoServer {
    program: PathBuf,
    /// The server's data folder.
    pub data_dir: PathBuf,
    /// The URL of the public API.
    pub public_url: String,
}

/// A saved file.
pub struct FileEntry {
    /// Path in the user's files.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
}

impl DemoServer {
    /// Starts a server with an empty data folder, and waits until it responds.
    pub fn start(workspace: &Workspace, folder: &Path, site: &VendorSite, background: &Processes) -> Result<Self> {
        let program = workspace.program("konnector");
        let data_dir = folder.join("data");
        let serve = Command::new(&program)
            .args(["serve", "--data-dir"])
            .arg(&data_dir)
            .args(["--listen", &address(8080), "--admin-listen", &address(6060)])
            .args(["--allow-address", site.authority()]);
        term::timed("server started", || {
            background.start("the server", serve, &folder.join("server.log"))?;
            let mut server = Self { program, data_dir, public_url: String::new() };
            server.public_url = background.wait_until("starting the server", || server.address())?;
            Ok(server)
        })
    }

    /// Returns the server's URL once the server is ready, which is when it writes its addresses.
    fn address(&self) -> Option<String> {
        let text = std::fs::read(self.data_dir.join("server.json")).ok()?;
        let addresses: Value = serde_json::from_slice(&text).ok()?;
        let url = addresses.get("public_url")?.as_str()?.to_owned();
        self.command(["healthcheck"]).succeeds().then_some(url)
    }

    fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        Command::new(&self.program).arg("--data-dir").arg(&self.data_dir).args(arguments)
    }

    /// Shows a command and runs it on our terminal.
    pub fn run_shown<const N: usize>(&self, arguments: [&str; N]) -> Result<()> {
        let line = format!("$ konnector {}", arguments.join(" "));
        eprintln!("\n{}", line.if_supports_color(Stream::Stderr, |line| line.cyan()));
        self.command(arguments).run()
    }

    /// Runs a command with `--json` and returns its output.
    pub fn json<const N: usize>(&self, arguments: [&str; N]) -> Result<Value> {
        let output = self.command(arguments).arg("--json").output()?;
        serde_json::from_str(&output).with_context(|| format!("`konnector {}` printed no JSON", arguments.join(" ")))
    }

    /// Adds an account as a script should: with the password on standard input.
    pub fn add_account(&self, slug: &str, site: &VendorSite) -> Result<String> {
        let login = format!("login={}", site.login);
        let arguments = ["accounts", "add", slug, "--field", &login, "--password-stdin"];
        let line = format!("$ konnector {}", arguments.join(" "));
        eprintln!("\n{}", line.if_supports_color(Stream::Stderr, |line| line.cyan()));
        let output = self.command(arguments).arg("--json").output_with_input(&format!("{}\n", site.password))?;
        let account: Value = serde_json::from_str(&output).context("`konnector accounts add` printed no JSON")?;
        let id = account.get("id").and_then(Value::as_str).context("`konnector accounts add` printed no id")?;
        term::note(&format!("account {id}; the password is encrypted before it is stored"));
        Ok(id.to_owned())
    }

    /// Returns the number of documents of a doctype.
    pub fn count_documents(&self, doctype: &str) -> Result<usize> {
        Ok(self.json(["data", "ls", doctype])?.as_array().map_or(0, Vec::len))
    }

    /// Returns all files, sorted by path.
    pub fn files(&self) -> Result<Vec<FileEntry>> {
        let listing = self.json(["files", "ls", "/", "--recursive"])?;
        let entries = listing.as_array().map(Vec::as_slice).unwrap_or_default();
        let files = entries.iter().filter(|entry| entry.get("type").and_then(Value::as_str) == Some("file"));
        Ok(files
            .filter_map(|file| {
                let size = file.get("size")?;
                let size = size.as_u64().or_else(|| size.as_str()?.parse().ok())?;
                Some(FileEntry { path: file.get("path")?.as_str()?.to_owned(), size })
            })
            .collect())
    }

    /// Fetches the content of a file.
    pub fn download(&self, path: &str, to: &Path) -> Result<Vec<u8>> {
        let target = to.to_str().context("the path of the temporary folder is not valid UTF-8")?;
        self.command(["files", "get", path, "-o", target]).output()?;
        std::fs::read(to).with_context(|| format!("`konnector files get` did not write {}", to.display()))
    }

    /// Prints commands to try while the server runs.
    pub fn print_next_commands(&self, slug: &str, account: &str) {
        let Self { program, data_dir, public_url } = self;
        eprintln!(
            "\nThe server is at {}. Try in another terminal:\n",
            public_url.if_supports_color(Stream::Stderr, |url| url.bold())
        );
        eprintln!("  alias konnector='{} --data-dir {}'", program.display(), data_dir.display());
        for command in [
            format!("konnector konnectors run {slug} --account {account}"),
            "konnector triggers ls".to_owned(),
            "konnector files ls / --recursive".to_owned(),
            "konnector doctor".to_owned(),
            format!(
                "curl -H \"Authorization: Bearer $(konnector instances token {} --scope '*')\" {public_url}/konnectors/",
                public_url.trim_start_matches("http://")
            ),
        ] {
            eprintln!("  {command}");
        }
    }
}

/// Returns an address with the default port if it is free, otherwise with any free port.
fn address(default_port: u16) -> String {
    let is_free = TcpListener::bind(("127.0.0.1", default_port)).is_ok();
    format!("127.0.0.1:{}", if is_free { default_port } else { 0 })
}
