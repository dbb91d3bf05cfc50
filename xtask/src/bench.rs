//! `cargo xtask bench`.

use anyhow::Result;

use crate::guests;
use crate::term;
use crate::workspace::Workspace;

/// Everything is built first, in release, so that nothing compiles while something is measured.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Given to the bench program; see `cargo xtask bench -- --help`.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Builds, then measures.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let bundles = guests::build(workspace, guests::Which::All)?;
    term::timed("programs compiled", || {
        workspace.cargo().args(["build", "--release", "-p", "konnector", "-p", "demo-vendor"]).run()
    })?;
    term::timed("bench program compiled", || {
        workspace.cargo().args(["build", "--release", "-p", "konnector-tests", "--bin", "bench"]).run()
    })?;
    let bench = workspace.target().join("release").join(format!("bench{}", std::env::consts::EXE_SUFFIX));
    crate::command::Command::new(bench)
        .args(&arguments.arguments)
        .env("KONNECTOR_TEST_BUNDLES", bundles)
        .directory(workspace.root())
        .run()
}
