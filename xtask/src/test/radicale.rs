//! Radicale, a CardDAV server, in a Python environment of its own: what the CardDAV konnector is tested against.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::report::Outcome;
use crate::command::Command;
use crate::workspace::Workspace;

/// Installs it once; answers its program, or nothing where there is no Python.
pub fn install(workspace: &Workspace) -> Result<(Outcome, Option<PathBuf>)> {
    let environment = workspace.target().join("venv");
    let program = environment.join("bin/radicale");
    if program.is_file() && Command::new(&program).arg("--version").works() {
        return Ok((Outcome::Passed, Some(program)));
    }
    if !Command::new("python3").args(["-c", "import venv, ensurepip"]).works() {
        let reason = "there is no python3 with venv; its test is left out (on Debian: apt-get install python3-venv)";
        return Ok((Outcome::Skipped(reason.to_owned()), None));
    }
    Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment).run()?;
    Command::new(environment.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "radicale==3.*"])
        .run()
        .context("Radicale cannot be installed from the Python package index")?;
    Ok((Outcome::Passed, Some(program)))
}
