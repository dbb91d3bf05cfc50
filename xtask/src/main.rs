//! `cargo xtask …`: tasks of this workspace besides compiling it.

mod audit;
mod bench;
mod command;
mod demo;
mod guests;
mod term;
mod test;
mod wasm_target;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Runs, tests and measures this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Shows everything at work: a demo vendor, the server, a konnector, and what it saves.
    Demo(demo::Arguments),
    /// Runs everything that CI runs: format, lints, licences, tests of all kinds.
    Test(test::Arguments),
    /// Measures the server and its peers side by side, in release builds.
    Bench(bench::Arguments),
    /// Builds the example konnectors and the test guests into bundles.
    Guests,
    /// Makes `wasm32-wasip2` available to the compiler; does nothing when it is.
    Target,
    /// Warns when a newer patch of our wasmtime line is published.
    Audit,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = Workspace::find().and_then(|workspace| match arguments.task {
        Task::Demo(arguments) => demo::run(&workspace, &arguments),
        Task::Test(arguments) => test::run(&workspace, &arguments),
        Task::Bench(arguments) => bench::run(&workspace, &arguments),
        Task::Guests => guests::build(&workspace, guests::GuestSelection::All).map(drop),
        Task::Target => wasm_target::ensure(&workspace),
        Task::Audit => audit::run(&workspace),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            term::failure(&error);
            ExitCode::FAILURE
        }
    }
}
