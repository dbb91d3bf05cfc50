//! Checks for missing security fixes of the sandbox.

use std::fs;

use anyhow::{Context as _, Result};

use crate::command::Command;
use crate::term;
use crate::workspace::Workspace;

/// The long-term support line that the workspace is pinned to.
const LTS_MAJOR: &str = "48";

/// The registry's information about the locked version.
#[derive(Debug, PartialEq, Eq)]
pub enum ReleaseStatus {
    /// No newer version of our line exists.
    UpToDate(String),
    /// A newer version exists; contains a sentence that says what to do.
    Outdated(String),
}

/// Warns if a newer wasmtime of our line is published. That is not a failure, because it can happen to any revision
/// after its tests passed.
pub fn run(workspace: &Workspace) -> Result<()> {
    match check_release(workspace) {
        Ok(ReleaseStatus::UpToDate(sentence)) => term::note(&sentence),
        Ok(ReleaseStatus::Outdated(sentence)) => term::warning(&sentence),
        Err(error) => term::warning(&format!("cannot check for a newer wasmtime: {error:#}")),
    }
    Ok(())
}

/// Compares the locked wasmtime with the newest of its line.
///
/// # Errors
///
/// If the registry cannot be reached.
pub fn check_release(workspace: &Workspace) -> Result<ReleaseStatus> {
    let lock = fs::read_to_string(workspace.root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let locked = locked_version(&lock, "wasmtime").context("Cargo.lock does not contain wasmtime")?;
    // Outside of the workspace: inside, cargo reports the locked version.
    let folder = tempfile::tempdir()?;
    let info = Command::cargo()
        .args(["info", &format!("wasmtime@{LTS_MAJOR}")])
        .directory(folder.path())
        .output()
        .context("cannot look up the newest wasmtime in the registry")?;
    Ok(compare(&locked, published_version(&info).context("cargo info printed no version")?))
}

fn compare(locked: &str, newest: &str) -> ReleaseStatus {
    if parse_version(newest) > parse_version(locked) {
        ReleaseStatus::Outdated(format!(
            "wasmtime {newest} is published, but the workspace uses {locked}; read its release notes, then run `cargo \
             update -p wasmtime`"
        ))
    } else {
        ReleaseStatus::UpToDate(format!("wasmtime {locked} is the newest version of the line {LTS_MAJOR}"))
    }
}

fn locked_version(lock: &str, name: &str) -> Option<String> {
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{name}\""));
    let version = lines.nth(1)?.strip_prefix("version = \"")?;
    Some(version.trim_end_matches('"').to_owned())
}

/// Parses the line `version: 48.0.8 (latest 50.0.1)`.
fn published_version(info: &str) -> Option<&str> {
    info.lines().find_map(|line| line.strip_prefix("version: "))?.split_whitespace().next()
}

fn parse_version(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(parse_version("48.0.10") > parse_version("48.0.9"));
        assert_eq!(parse_version("48.0.9"), parse_version("48.0.9"));
    }

    #[test]
    fn an_older_version_is_said_to_be_one() {
        assert!(
            matches!(compare("48.0.8", "48.0.10"), ReleaseStatus::Outdated(sentence) if sentence.contains("48.0.10 is published"))
        );
        assert!(matches!(compare("48.0.10", "48.0.10"), ReleaseStatus::UpToDate(_)));
    }

    #[test]
    fn both_versions_are_found() {
        let lock = "[[package]]\nname = \"wasmtime-wasi\"\nversion = \"1.0.0\"\n[[package]]\nname = \"wasmtime\"\nversion = \"48.0.8\"\n";
        assert_eq!(locked_version(lock, "wasmtime").as_deref(), Some("48.0.8"));
        assert_eq!(published_version("wasmtime\nHigh-level\nversion: 48.0.9 (latest 50.0.1)\n"), Some("48.0.9"));
    }
}
