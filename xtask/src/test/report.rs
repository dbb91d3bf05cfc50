//! The steps of a test run, during the run and at its end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use owo_colors::{OwoColorize as _, Stream};

use crate::term;

/// Outcome of a step that did not fail.
#[derive(Debug)]
pub enum StepOutcome {
    Passed,
    /// Passed, with a line worth repeating at the end.
    PassedWith(String),
    /// Could not run on this machine because a tool is missing, with the reason.
    Skipped(String),
}

/// Outcomes of the steps.
#[derive(Debug)]
pub struct Report {
    steps: Vec<Step>,
    are_tools_required: bool,
}

#[derive(Debug)]
struct Step {
    title: &'static str,
    duration: Duration,
    result: Result<StepOutcome>,
}

impl Report {
    /// Creates a report in which a skipped step fails if tools are required.
    pub fn new(are_tools_required: bool) -> Self {
        Self { steps: Vec::new(), are_tools_required }
    }

    /// Runs a step under its title.
    pub fn step(&mut self, title: &'static str, work: impl FnOnce() -> Result<StepOutcome>) {
        term::heading(&format!("▶ {title}"));
        let start = Instant::now();
        let result = work().and_then(|outcome| match outcome {
            StepOutcome::Skipped(reason) if self.are_tools_required => {
                bail!("skipped although {} is set: {reason}", test_tools::REQUIRE_VARIABLE)
            }
            outcome => Ok(outcome),
        });
        let took = start.elapsed();
        match &result {
            Ok(StepOutcome::Skipped(reason)) => term::note(&format!("skipped: {reason}")),
            Ok(_) => term::done(title, took),
            Err(error) => term::failure(error),
        }
        self.steps.push(Step { title, duration: took, result });
    }

    /// Prints all steps again, one line each.
    ///
    /// # Errors
    ///
    /// If a step failed.
    pub fn finish(self) -> Result<()> {
        term::heading("Summary");
        let width = self.steps.iter().map(|step| step.title.chars().count()).max().unwrap_or(0);
        for step in &self.steps {
            let (mark, detail) = match &step.result {
                Ok(StepOutcome::Passed) => (green("✓"), String::new()),
                Ok(StepOutcome::PassedWith(detail)) => (green("✓"), detail.clone()),
                Ok(StepOutcome::Skipped(reason)) => ("-".to_owned(), format!("skipped: {reason}")),
                Err(error) => ("✗".if_supports_color(Stream::Stderr, |mark| mark.red()).to_string(), first_line(error)),
            };
            let time = term::duration(step.duration);
            eprintln!("{}", format!("{mark} {title:width$} {time:>12}  {detail}", title = step.title).trim_end());
        }
        let failed: Vec<_> = self.steps.iter().filter(|step| step.result.is_err()).map(|step| step.title).collect();
        if failed.is_empty() {
            return Ok(());
        }
        bail!("failed: {}", failed.join(", "))
    }
}

fn green(mark: &str) -> String {
    mark.if_supports_color(Stream::Stderr, |mark| mark.green()).to_string()
}

fn first_line(error: &anyhow::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Removes the colour control sequences of a line.
pub fn strip_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            // A sequence ends with its first letter (ECMA-48 §5.4).
            rest.by_ref().take_while(|character| !character.is_ascii_alphabetic()).for_each(drop);
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(
            strip_colours("\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] 3 tests run"),
            "     Summary [   0.1s] 3 tests run"
        );
        assert_eq!(strip_colours("plain"), "plain");
    }

    #[test]
    fn one_failed_step_fails_the_run_and_the_others_still_run() {
        let mut report = Report::new(false);
        let mut ran = 0;
        report.step("first", || bail!("broken\nwith details"));
        report.step("second", || {
            ran += 1;
            Ok(StepOutcome::Skipped("nothing here".to_owned()))
        });
        assert_eq!(ran, 1);
        assert_eq!(report.finish().unwrap_err().to_string(), "failed: first");
    }

    #[test]
    fn a_skipped_step_fails_if_tools_are_required() {
        for (are_tools_required, failed) in [(false, None), (true, Some("failed: first"))] {
            let mut report = Report::new(are_tools_required);
            report.step("first", || Ok(StepOutcome::Skipped("nothing here".to_owned())));
            report.step("second", || Ok(StepOutcome::Passed));
            assert_eq!(report.finish().err().map(|error| error.to_string()).as_deref(), failed);
        }
    }
}
