//! Programs from the Python package index, in their own virtual environment: Radicale, a CardDAV server for testing
//! the CardDAV konnector, and Schemathesis, which tests the HTTP API against its description.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::report::StepOutcome;
use crate::command::Command;
use crate::workspace::Workspace;

/// Programs and their packages.
const PROGRAMS: [(&str, &str); 2] = [("radicale", "radicale==3.*"), ("schemathesis", "schemathesis==4.32.5")];

/// Folder of the installed programs.
#[derive(Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// Installs the programs once; returns `None` if Python or pip is missing.
    pub fn install(workspace: &Workspace) -> Result<(StepOutcome, Option<Self>)> {
        let programs = Self(workspace.target().join("venv/bin"));
        if PROGRAMS.iter().all(|(program, _)| Command::new(programs.path(program)).arg("--version").succeeds()) {
            return Ok((StepOutcome::Passed, Some(programs)));
        }
        if !create_environment(workspace)? {
            let reason = "python3 with venv or pip is not installed, so some tests are skipped (on Debian: apt-get install python3-venv)";
            return Ok((StepOutcome::Skipped(reason.to_owned()), None));
        }
        Command::new(programs.path("python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(PROGRAMS.map(|(_, package)| package))
            .run()
            .context("cannot install Radicale and Schemathesis from the Python package index")?;
        Ok((StepOutcome::Passed, Some(programs)))
    }

    /// Returns the path of a program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

/// Creates the virtual environment; returns whether Python has the modules for it.
fn create_environment(workspace: &Workspace) -> Result<bool> {
    let python = |arguments: &[&str]| Command::new("python3").args(arguments);
    let environment = workspace.target().join("venv");
    if python(&["-c", "import venv, ensurepip"]).succeeds() {
        python(&["-m", "venv", "--clear"]).arg(environment).run()?;
        return Ok(true);
    }
    // Debian's Python has no venv without another package. With pip, virtualenv from the package index replaces it.
    if !python(&["-m", "pip", "--version"]).succeeds() {
        return Ok(false);
    }
    let modules = workspace.target().join("virtualenv");
    python(&["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"])
        .arg(&modules)
        .arg("virtualenv")
        .run()
        .context("cannot install virtualenv from the Python package index")?;
    python(&["-m", "virtualenv", "--quiet", "--clear"]).arg(environment).env("PYTHONPATH", modules).run()?;
    Ok(true)
}
