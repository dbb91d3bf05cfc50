//! Runs other programs, with errors that name the command.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{self, Stdio};

use anyhow::{Context as _, Result, bail};

/// Prefixes of the variables by which `cargo run` describes the package of the program that it runs.
const OWN_PACKAGE_VARIABLES: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// A program with its arguments.
pub struct Command(process::Command);

impl Command {
    /// Creates a command for a program in `PATH`, or at a path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self(process::Command::new(program))
    }

    /// Creates a command for the cargo that runs this program, so that the toolchain is the same.
    ///
    /// Without the variables that `cargo run` sets for this program: build scripts such as ring's watch them, so ring and
    /// everything above it would be compiled again whenever `cargo xtask` follows a plain `cargo build`.
    pub fn cargo() -> Self {
        let mut cargo = process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| OWN_PACKAGE_VARIABLES.iter().any(|prefix| name.starts_with(prefix))) {
                cargo.env_remove(name);
            }
        }
        Self(cargo)
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Removes an environment variable.
    pub fn without_env(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// Sets the working folder.
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.0.current_dir(directory);
        self
    }

    /// Runs the command to its end on our terminal.
    pub fn run(mut self) -> Result<()> {
        let status = self.0.status().with_context(|| self.cannot_start())?;
        if status.success() {
            return Ok(());
        }
        bail!("`{self}` failed ({status})")
    }

    /// Runs the command to its end and returns its standard output; an error contains the standard error.
    pub fn output(mut self) -> Result<String> {
        let output = self.0.stdin(Stdio::null()).output().with_context(|| self.cannot_start())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        bail!("`{self}` failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end())
    }

    /// Like [`Command::output`], with `input` on its standard input.
    pub fn output_with_input(mut self, input: &str) -> Result<String> {
        let mut child = self
            .0
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| self.cannot_start())?;
        if let Some(mut stdin) = child.stdin.take() {
            use std::io::Write as _;
            stdin
                .write_all(input.as_bytes())
                .with_context(|| format!("cannot write to the standard input of `{self}`"))?;
        }
        let output = child.wait_with_output().with_context(|| format!("cannot read the output of `{self}`"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        bail!("`{self}` failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end())
    }

    /// Runs the command to its end, passing each line of its standard error to ours and to `line`.
    pub fn watch_stderr(mut self, mut line: impl FnMut(&str)) -> Result<()> {
        let mut child = self.0.stderr(Stdio::piped()).spawn().with_context(|| self.cannot_start())?;
        if let Some(stderr) = child.stderr.take() {
            for text in BufReader::new(stderr).split(b'\n') {
                let text = text.with_context(|| format!("cannot read the output of `{self}`"))?;
                let text = String::from_utf8_lossy(&text);
                eprintln!("{text}");
                line(&text);
            }
        }
        let status = child.wait().with_context(|| format!("cannot wait for the end of `{self}`"))?;
        if status.success() {
            return Ok(());
        }
        bail!("`{self}` failed ({status})")
    }

    /// Starts the command without waiting.
    pub fn spawn(mut self, configure: impl FnOnce(&mut process::Command)) -> Result<process::Child> {
        configure(&mut self.0);
        self.0.spawn().with_context(|| self.cannot_start())
    }

    /// Runs the command without output; returns whether it started and succeeded.
    pub fn succeeds(mut self) -> bool {
        let quiet = self.0.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    fn cannot_start(&self) -> String {
        format!("cannot start `{self}`")
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = Path::new(self.0.get_program());
        let name = program.file_name().unwrap_or(self.0.get_program());
        write!(f, "{}", name.display())?;
        self.0.get_args().try_for_each(|argument| write!(f, " {}", argument.display()))
    }
}
