//! `cargo xtask bench`.

use anyhow::Result;

use crate::guests;
use crate::term;
use crate::workspace::Workspace;

/// Builds everything in release mode, then measures, so that nothing compiles during a measurement.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Arguments of the bench program; see `cargo xtask bench -- --help`.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Builds everything, then measures.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    guests::build(workspace, guests::GuestSelection::All)?;
    // One command, because two would compile the dependencies twice, with different features.
    term::timed("programs compiled", || {
        workspace.cargo().args(["build", "--release", "--bins", "-p", "konnector", "-p", "konnector-tests"]).run()
    })?;
    let bench = workspace.target().join("release").join(format!("bench{}", std::env::consts::EXE_SUFFIX));
    crate::command::Command::new(bench).args(&arguments.arguments).directory(workspace.root()).run()
}
