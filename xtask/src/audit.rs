//! Are we behind on security fixes of the sandbox?

use std::fs;

use anyhow::{Context as _, Result};

use crate::command::Command;
use crate::term;
use crate::workspace::Workspace;

/// The line with long-term support that the workspace is pinned to.
const LINE: &str = "48";

/// Compares the locked wasmtime with the newest of its line.
pub fn run(workspace: &Workspace) -> Result<()> {
    let lock = fs::read_to_string(workspace.root().join("Cargo.lock")).context("there is no Cargo.lock")?;
    let ours = locked(&lock, "wasmtime").context("Cargo.lock has no wasmtime")?;
    // Outside of the workspace: inside, cargo answers with the locked version.
    let elsewhere = tempfile::tempdir()?;
    let info = Command::cargo()
        .args(["info", &format!("wasmtime@{LINE}")])
        .directory(elsewhere.path())
        .output()
        .context("the registry cannot be asked for the newest wasmtime")?;
    let newest = published(&info).context("cargo info names no version")?;
    if numbers(newest) > numbers(&ours) {
        term::warning(&format!(
            "wasmtime {newest} is published, the workspace uses {ours}; read its release notes, then run `cargo update -p wasmtime`"
        ));
    } else {
        term::note(&format!("wasmtime {ours} is the newest of the line {LINE}"));
    }
    Ok(())
}

fn locked(lock: &str, name: &str) -> Option<String> {
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{name}\""));
    let version = lines.nth(1)?.strip_prefix("version = \"")?;
    Some(version.trim_end_matches('"').to_owned())
}

/// From the line `version: 48.0.8 (latest 50.0.1)`.
fn published(info: &str) -> Option<&str> {
    info.lines().find_map(|line| line.strip_prefix("version: "))?.split_whitespace().next()
}

fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("48.0.10") > numbers("48.0.9"));
        assert_eq!(numbers("48.0.9"), numbers("48.0.9"));
    }

    #[test]
    fn both_versions_are_found() {
        let lock = "[[package]]\nname = \"wasmtime-wasi\"\nversion = \"1.0.0\"\n[[package]]\nname = \"wasmtime\"\nversion = \"48.0.8\"\n";
        assert_eq!(locked(lock, "wasmtime").as_deref(), Some("48.0.8"));
        assert_eq!(published("wasmtime\nHigh-level\nversion: 48.0.9 (latest 50.0.1)\n"), Some("48.0.9"));
    }
}
