//! `cargo xtask test`: everything that CI runs.

mod deny;
mod node;
mod python;
mod report;

use anyhow::Result;

use crate::audit::{self, ReleaseStatus};
use crate::command::Command;
use crate::compile;
use crate::guests;
use crate::term;
use crate::workspace::Workspace;

use self::python::Programs;
use self::report::{Report, StepOutcome};

/// Runs all steps in order; a failed step does not prevent the others.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Skip the end-to-end tests and the steps that only they need.
    #[arg(long)]
    no_e2e: bool,
}

/// The package of the end-to-end tests.
const E2E_PACKAGE: &str = "konnector-tests";

/// Runs all steps and prints a summary.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let mut report = Report::new(test_tools::are_required());
    report.step("Format", || workspace.cargo().args(["fmt", "--all", "--check"]).run().map(|()| StepOutcome::Passed));
    report.step("Lints", || {
        let lints = workspace.cargo().args(["clippy", "--workspace", "--all-targets", "--locked"]);
        lints.args(["--", "-D", "warnings"]).run().map(|()| StepOutcome::Passed)
    });
    report.step("Licences and advisories", || deny::check(workspace));
    report.step("Security releases", || Ok(security_releases(workspace)));
    report.step("Documentation tests", || {
        workspace.cargo().args(["test", "--workspace", "--doc", "--locked"]).run().map(|()| StepOutcome::Passed)
    });
    let (mut python, mut packages) = (None, None);
    if !arguments.no_e2e {
        report.step("Konnectors and guests", || {
            guests::build(workspace, guests::GuestSelection::All).map(|_| StepOutcome::Passed)
        });
        report.step("Programs", || {
            // All targets of the workspace, as the tests need them. Naming packages would select other features of the
            // dependencies, and compile wasmtime once more.
            let build = workspace.cargo().args(["build", "--workspace", "--all-targets", "--locked"]);
            compile::run(build).map(|()| StepOutcome::Passed)
        });
        report.step("Python programs", || {
            let (outcome, programs) = Programs::install(workspace)?;
            python = programs;
            Ok(outcome)
        });
        report.step("Node packages", || {
            let (outcome, folder) = node::install(workspace)?;
            packages = folder;
            Ok(outcome)
        });
    }
    report.step("Tests", || {
        let mut tests = workspace.cargo();
        let nextest = Command::cargo().args(["nextest", "--version"]).succeeds();
        tests = if nextest {
            tests.args(["nextest", "run", "--no-fail-fast"])
        } else {
            tests.args(["test", "--all-targets"])
        };
        tests = tests.args(["--workspace", "--locked"]);
        if arguments.no_e2e {
            tests = tests.args(["--exclude", E2E_PACKAGE]);
        }
        if let Some(programs) = &python {
            tests = tests.env("KONNECTOR_TEST_RADICALE", programs.path("radicale"));
            tests = tests.env("KONNECTOR_TEST_SCHEMATHESIS", programs.path("schemathesis"));
        }
        if let Some(folder) = &packages {
            tests = tests.env("KONNECTOR_TEST_NODE_PACKAGES", folder);
        }
        if !nextest {
            return tests.run().map(|()| StepOutcome::Passed);
        }
        let mut last = None;
        let result = tests.watch_stderr(|line| {
            let line = report::strip_colours(line);
            if line.trim_start().starts_with("Summary [") {
                last = Some(line.trim().to_owned());
            }
        });
        match (result, last) {
            (Ok(()), Some(summary)) => Ok(StepOutcome::PassedWith(summary)),
            (Ok(()), None) => Ok(StepOutcome::Passed),
            (Err(error), Some(summary)) => Err(error.context(summary)),
            (Err(error), None) => Err(error),
        }
    });
    report.finish()
}

/// Checks for a newer wasmtime. Neither a newer version nor an unreachable registry is a failure of this revision.
fn security_releases(workspace: &Workspace) -> StepOutcome {
    match audit::check_release(workspace) {
        Ok(ReleaseStatus::UpToDate(sentence)) => StepOutcome::PassedWith(sentence),
        Ok(ReleaseStatus::Outdated(sentence)) => {
            term::warning(&sentence);
            StepOutcome::PassedWith(format!("! {sentence}"))
        }
        Err(error) => StepOutcome::PassedWith(format!("! the newest wasmtime is unknown: {error:#}")),
    }
}
