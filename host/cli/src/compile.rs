//! `konnector compile`: the child process that compiles components for the server. Not for people, so it is hidden.

use std::ffi::OsString;
use std::process::ExitCode;

use konnector_sandbox::compile::{CompileLimits, Compiler, CompilerArguments, compile_standard_input, probe_jail};

use crate::error::{Error, Result, io};

/// See the module.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Bytes of address space that compiling may take.
    #[arg(long, default_value_t = CompileLimits::default().memory)]
    memory_bytes: u64,
    /// Seconds on a processor that compiling may take.
    #[arg(long, default_value_t = CompileLimits::default().cpu.as_secs())]
    cpu_seconds: u64,
    /// Bytes of address space that the code may expect behind a memory.
    #[arg(long, default_value_t = 4 << 30)]
    memory_reservation: u64,
    /// Compile nothing: try what a compiler has no business with, and say how that went.
    #[arg(long)]
    self_check: bool,
}

/// The compiler, which is this program itself in a child process.
pub fn compiler(limits: CompileLimits) -> Result<Compiler> {
    Compiler::this_program([OsString::from("compile")], limits).map_err(io("looking for this program's own file"))
}

/// Runs in the child process, before a second thread exists.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { memory_bytes, cpu_seconds, memory_reservation, self_check } = *arguments;
    let limits = CompilerArguments { memory_bytes, cpu_seconds, memory_reservation };
    if !self_check {
        return Ok(compile_standard_input(limits));
    }
    let attempts = probe_jail(limits).map_err(Error::message)?;
    let mut held = true;
    for attempt in attempts {
        held &= attempt.denial.is_some();
        say!("{}: {}", attempt.operation, attempt.denial.as_deref().unwrap_or("POSSIBLE"));
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
