//! `cargo xtask …`: development tasks of this workspace.

mod audit;
mod bench;
mod command;
mod compile;
mod demo;
mod guests;
#[cfg(test)]
mod layers;
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
    /// Runs a demo: a vendor, the server, and a konnector that saves bills.
    Demo(demo::Arguments),
    /// Runs everything that CI runs: format, lints, licences, tests of all kinds.
    Test(test::Arguments),
    /// Measures the server and its peers side by side, in release builds.
    Bench(bench::Arguments),
    /// Compiles the server and the demo vendor, like the demo does.
    Build,
    /// Builds the example konnectors and the test guests into bundles.
    Guests,
    /// Installs the target `wasm32-wasip2` for the compiler, unless it is installed.
    Target,
    /// Warns if a newer patch of our wasmtime line is published.
    Audit,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = Workspace::find().and_then(|workspace| match arguments.task {
        Task::Demo(arguments) => demo::run(&workspace, &arguments),
        Task::Test(arguments) => test::run(&workspace, &arguments),
        Task::Bench(arguments) => bench::run(&workspace, &arguments),
        Task::Build => demo::build_programs(&workspace),
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
