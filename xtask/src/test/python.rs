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
    /// Installs the programs once; returns `None` if Python is missing.
    pub fn install(workspace: &Workspace) -> Result<(StepOutcome, Option<Self>)> {
        let programs = Self(workspace.target().join("venv/bin"));
        if PROGRAMS.iter().all(|(program, _)| Command::new(programs.path(program)).arg("--version").succeeds()) {
            return Ok((StepOutcome::Passed, Some(programs)));
        }
        if !Command::new("python3").args(["-c", "import venv, ensurepip"]).succeeds() {
            let reason = "python3 with venv is not installed, so some tests are skipped (on Debian: apt-get install python3-venv)";
            return Ok((StepOutcome::Skipped(reason.to_owned()), None));
        }
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(workspace.target().join("venv")).run()?;
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
