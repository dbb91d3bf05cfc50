//! Paths of the workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command::Command;

/// The workspace from which this program was built.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Locates the workspace with `cargo metadata`, which respects `CARGO_TARGET_DIR` and cargo's configuration.
    pub fn find() -> Result<Self> {
        let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = Command::cargo()
            .args(["metadata", "--no-deps", "--format-version=1"])
            .directory(manifest_dir)
            .output()
            .context("cargo cannot read the workspace's metadata")?;
        let metadata: Value = serde_json::from_str(&output).context("cargo metadata printed no JSON")?;
        let path = |name: &str| {
            let path = metadata.get(name).and_then(Value::as_str).map(PathBuf::from);
            path.with_context(|| format!("cargo metadata has no '{name}'"))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// Returns the folder of the root `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns cargo's target folder.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the folder into which [`crate::guests`] puts the bundles.
    pub fn bundles(&self) -> PathBuf {
        self.target.join("bundles")
    }

    /// Returns the path of a program that was built in the dev profile.
    pub fn program(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// Returns a cargo command that runs in the root folder.
    pub fn cargo(&self) -> Command {
        Command::cargo().directory(&self.root)
    }
}
