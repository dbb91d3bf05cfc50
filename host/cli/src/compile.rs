//! `konnector compile`: the child process that compiles components for the server. Not for people, so it is hidden.

use std::ffi::OsString;
use std::process::ExitCode;

use konnector_sandbox::compile::{CompileLimits, Compiler, CompilerArguments, compile_standard_input, probe_jail};

use crate::error::{Error, Result, io};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address space that the compilation may use, in bytes.
    #[arg(long, default_value_t = CompileLimits::default().memory)]
    memory_bytes: u64,
    /// CPU time that the compilation may use, in seconds.
    #[arg(long, default_value_t = CompileLimits::default().cpu.as_secs())]
    cpu_seconds: u64,
    /// Address space that the code may assume for each memory, in bytes.
    #[arg(long, default_value_t = 4 << 30)]
    memory_reservation: u64,
    /// Compile nothing: attempt operations that the jail must deny, and report the results.
    #[arg(long)]
    self_check: bool,
}

/// Returns the compiler: this program itself, in a child process.
pub fn compiler(limits: CompileLimits) -> Result<Compiler> {
    Compiler::this_program([OsString::from("compile")], limits).map_err(io("locating this program's executable"))
}

/// Runs in the child process, before a second thread exists.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { memory_bytes, cpu_seconds, memory_reservation, self_check } = *arguments;
    let limits = CompilerArguments { memory_bytes, cpu_seconds, memory_reservation };
    if !self_check {
        return Ok(compile_standard_input(limits));
    }
    let attempts = probe_jail(limits).map_err(Error::message)?;
    let mut all_denied = true;
    for attempt in attempts {
        all_denied &= attempt.denial.is_some();
        say!("{}: {}", attempt.operation, attempt.denial.as_deref().unwrap_or("POSSIBLE"));
    }
    Ok(if all_denied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
