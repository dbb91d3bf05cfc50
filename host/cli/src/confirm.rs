//! Confirmation of commands that delete a person's data.

use std::io::{IsTerminal as _, stderr, stdin};

use crate::error::{Error, Result, io};
use crate::output::{Output, eprint_line};

/// Flag of commands that delete data.
#[derive(Debug, clap::Args)]
pub struct Confirmation {
    /// Delete without a question; required if nobody can answer it, as in scripts.
    #[arg(long)]
    yes: bool,
}

impl Confirmation {
    /// Says what will be deleted, and asks whether to continue.
    ///
    /// # Errors
    ///
    /// If the user declines, or if there is no terminal and `--yes` was not given.
    pub fn ask(&self, output: Output, summary: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        if output.json || !stdin().is_terminal() || !stderr().is_terminal() {
            return Err(Error::usage(format!("not confirmed: {summary}"), "to confirm it, add --yes"));
        }
        eprint_line(summary);
        eprint!("Continue? [y/N] ");
        let mut answer = String::new();
        stdin().read_line(&mut answer).map_err(io("reading the answer"))?;
        if is_yes(&answer) { Ok(()) } else { Err(Error::failed("not confirmed", "nothing was deleted")) }
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Formats a number of things, as in `1 trigger`.
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(["y", "Y\n", "yes\r\n"].into_iter().all(is_yes));
        assert!(!["", "\n", "n\n", "yep"].into_iter().any(is_yes));
    }

    #[test]
    fn in_a_script_it_must_be_confirmed_on_the_command_line() {
        let summary = "this removes alice.example";
        assert!(Confirmation { yes: true }.ask(Output { json: true }, summary).is_ok());
        let error = Confirmation { yes: false }.ask(Output { json: true }, summary).unwrap_err();
        assert_eq!(error.to_string(), "not confirmed: this removes alice.example");
    }
}
