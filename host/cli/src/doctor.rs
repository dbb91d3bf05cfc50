//! `konnector doctor`: finds problems of an installation and suggests fixes. Its output belongs in every bug report.

mod checks;

use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use crate::client::Connection;
use crate::error::Result;
use crate::output::{Mark, Output, print_marked};

pub use checks::is_locked;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    #[serde(rename = "good")]
    Ok,
    Warning,
    Problem,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    #[serde(rename = "what")]
    message: String,
    /// What to do; empty if there is nothing to do.
    advice: String,
}

impl Finding {
    fn ok(message: impl Into<String>) -> Self {
        Self { level: Level::Ok, message: message.into(), advice: String::new() }
    }

    fn warning(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warning, message: message.into(), advice: advice.into() }
    }

    fn problem(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Problem, message: message.into(), advice: advice.into() }
    }

    fn print(&self) {
        let mark = match self.level {
            Level::Ok => Mark::Done,
            Level::Warning => Mark::Warning,
            Level::Problem => Mark::Failed,
        };
        print_marked(mark, &self.message);
        if !self.advice.is_empty() {
            say!("    → {}", self.advice);
        }
    }
}

/// Runs all checks; fails if one found a problem.
pub async fn run(connection: &Connection, output: Output) -> Result<ExitCode> {
    let data = connection.data();
    let mut findings = checks::files(&data);
    let reachable = checks::server(connection, &mut findings).await;
    findings.extend(checks::lock(&data, reachable));
    findings.extend(checks::store(&data).await);
    findings.extend(checks::disk(&data));
    findings.push(checks::clock(&data, chrono::Utc::now()));
    findings.push(checks::wasm_target());
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    output.show(&json!({ "version": env!("CARGO_PKG_VERSION"), "problems": problems, "findings": findings }), || {
        say!("konnector {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        findings.iter().for_each(Finding::print);
    });
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
