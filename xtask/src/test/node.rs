//! The packages of `tests/clients`: the clients and the SDK that Cozy publishes for Node.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::report::StepOutcome;
use crate::command::Command;
use crate::workspace::Workspace;

/// Input files of npm: the packages, the settings, and a substitute for a git repository.
const FILES: [&str; 4] = ["package.json", ".npmrc", "geco/package.json", "geco/index.js"];

/// Installs the packages once; returns their folder, or `None` if npm is missing.
pub fn install(workspace: &Workspace) -> Result<(StepOutcome, Option<PathBuf>)> {
    if !Command::new("npm").arg("--version").succeeds() {
        let reason =
            "npm is not installed, so the tests of Cozy's clients are skipped (on Debian: apt-get install npm)";
        return Ok((StepOutcome::Skipped(reason.to_owned()), None));
    }
    let (source, folder) = (workspace.root().join("tests/clients"), workspace.target().join("node"));
    std::fs::create_dir_all(folder.join("geco"))?;
    let mut contents = Vec::new();
    for name in FILES {
        let content = std::fs::read(source.join(name)).with_context(|| format!("cannot read tests/clients/{name}"))?;
        std::fs::write(folder.join(name), &content)?;
        contents.extend(content);
    }
    // Written last, so that an interrupted installation is repeated.
    let (packages, installed) = (folder.join("node_modules"), folder.join("installed"));
    if std::fs::read(&installed).ok().as_ref() == Some(&contents) {
        return Ok((StepOutcome::Passed, Some(packages)));
    }
    Command::new("npm")
        .args(["install", "--silent"])
        .directory(&folder)
        .run()
        .context("cannot install Cozy's packages from the package registry")?;
    std::fs::write(installed, contents)?;
    Ok((StepOutcome::Passed, Some(packages)))
}
