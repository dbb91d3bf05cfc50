//! cargo-deny, which checks the licences, sources and security advisories of the dependencies.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::report::StepOutcome;
use crate::command::Command;
use crate::term;
use crate::workspace::Workspace;

/// The version that is installed if none is found.
const VERSION: &str = "0.20.2";

/// Checks the dependencies. Skipped if cargo-deny is missing, unless tools are required: then it is installed once.
pub fn check(workspace: &Workspace) -> Result<StepOutcome> {
    let Some(program) = find(workspace)? else {
        let reason = "cargo-deny is not installed (`cargo install --locked cargo-deny`)";
        return Ok(StepOutcome::Skipped(reason.to_owned()));
    };
    let deny =
        |arguments: &[&str]| Command::new(&program).arg("--workspace").args(arguments).directory(workspace.root());
    deny(&["check", "bans", "licenses", "sources"]).run()?;
    // The advisory database is a git repository, which machines that can only reach package registries cannot fetch.
    if !deny(&["fetch", "db"]).succeeds() {
        return Ok(StepOutcome::PassedWith("! advisories were not checked: cannot fetch their database".to_owned()));
    }
    deny(&["check", "advisories"]).run().map(|()| StepOutcome::Passed)
}

/// Finds cargo-deny in `PATH` or below the target folder.
fn find(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let folder = workspace.target().join("tools");
    let installed = folder.join("bin/cargo-deny");
    for program in [PathBuf::from("cargo-deny"), installed.clone()] {
        if Command::new(&program).arg("--version").succeeds() {
            return Ok(Some(program));
        }
    }
    if !test_tools::are_required() {
        return Ok(None);
    }
    term::timed("cargo-deny installed", || install(&folder))?;
    Ok(Some(installed))
}

/// Compiles cargo-deny, which takes a few minutes.
fn install(folder: &Path) -> Result<()> {
    // In a folder of its own, so that an interrupted installation continues, and nothing is left in ours.
    let build = folder.join("build");
    Command::cargo()
        .args(["install", "--quiet", "--locked", "--version", VERSION, "cargo-deny", "--root"])
        .arg(folder)
        .arg("--target-dir")
        .arg(&build)
        .run()
        .context("cannot install cargo-deny from the package registry")?;
    std::fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}
