//! `cargo xtask bench`.

use anyhow::Result;

use crate::compile::{self, Profile};
use crate::guests;
use crate::term;
use crate::workspace::Workspace;

/// The server, and the program that measures.
const PROGRAMS: [&str; 2] = ["konnector", "bench"];

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
    term::note(&format!("compiling the programs for release: {}", PROGRAMS.join(", ")));
    term::timed("programs compiled", || compile::programs(workspace, &PROGRAMS, Profile::Release))?;
    let bench = workspace.target().join("release").join(format!("bench{}", std::env::consts::EXE_SUFFIX));
    crate::command::Command::new(bench).args(&arguments.arguments).directory(workspace.root()).run()
}
