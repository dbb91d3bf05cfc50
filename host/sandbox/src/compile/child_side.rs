//! The child's side: sandboxes itself, then reads, compiles and writes.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use super::{CompileLimits, jail};
use crate::engine;
use crate::inspect::MAX_COMPONENT_SIZE;

/// Exit code for a component that cannot be compiled; standard error contains the reason.
pub(super) const EXIT_REJECTED: u8 = 1;
/// Exit code for a machine on which the compiler cannot be sandboxed, or cannot work.
const EXIT_UNAVAILABLE: u8 = 3;

/// Arguments on the child's command line: `--memory-bytes N --cpu-seconds N --memory-reservation N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompilerArguments {
    /// Number of bytes of address space.
    pub memory_bytes: u64,
    /// CPU time in seconds.
    pub cpu_seconds: u64,
    /// Number of bytes of address space that the code may assume to be reserved for a memory.
    pub memory_reservation: u64,
}

impl CompilerArguments {
    pub(super) fn new(limits: CompileLimits, memory_reservation: u64) -> Self {
        Self { memory_bytes: limits.memory, cpu_seconds: limits.cpu.as_secs().max(1), memory_reservation }
    }

    pub(super) fn to_args(self) -> [OsString; 3] {
        let Self { memory_bytes, cpu_seconds, memory_reservation } = self;
        [
            format!("--memory-bytes={memory_bytes}").into(),
            format!("--cpu-seconds={cpu_seconds}").into(),
            format!("--memory-reservation={memory_reservation}").into(),
        ]
    }
}

/// The whole work of the child process of [`Compiler::Child`](super::Compiler::Child): drops all privileges, reads a
/// component from standard input, and writes its machine code to standard output. Must be called before the process has
/// a second thread.
#[must_use]
pub fn compile_standard_input(arguments: CompilerArguments) -> ExitCode {
    match compile(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            eprintln!("{error}");
            ExitCode::from(code)
        }
    }
}

fn compile(arguments: CompilerArguments) -> Result<(), (u8, String)> {
    let unable = |error: &dyn std::fmt::Display| (EXIT_UNAVAILABLE, error.to_string());
    jail::apply_limits(arguments).map_err(|error| unable(&error))?;
    // Created before the filter is applied, because this makes system calls that compiling does not need.
    let engine = engine::new_compiler_engine(arguments.memory_reservation).map_err(|error| unable(&error))?;
    jail::apply_syscall_filter().map_err(|error| unable(&error))?;
    let mut component = Vec::new();
    let max_bytes = MAX_COMPONENT_SIZE as u64 + 1;
    std::io::stdin().lock().take(max_bytes).read_to_end(&mut component).map_err(|error| unable(&error))?;
    let code = engine.precompile_component(&component).map_err(|error| (EXIT_REJECTED, format!("{error:#}")))?;
    let mut output = std::io::stdout().lock();
    output.write_all(&code).and_then(|()| output.flush()).map_err(|error| unable(&error))
}

/// An operation that a sandboxed compiler attempted, and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JailProbe {
    /// Description of the attempted operation.
    pub operation: &'static str,
    /// The error; `None` means that the operation succeeded, so the jail does not hold.
    pub denial: Option<String>,
}

/// Sandboxes this process as [`compile_standard_input`] does, then attempts operations that a compiler does not need.
/// The process cannot be used for anything else afterwards.
///
/// # Errors
///
/// If the process cannot be sandboxed at all.
pub fn probe_jail(arguments: CompilerArguments) -> Result<Vec<JailProbe>, String> {
    jail::apply_limits(arguments).and_then(|()| jail::apply_syscall_filter()).map_err(|error| error.to_string())?;
    let attempt = |operation, result: std::io::Result<()>| JailProbe {
        operation,
        denial: result.err().map(|error| error.to_string()),
    };
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).map(drop);
    // Nothing listens on this address, so only a failure to create the socket counts as a denial.
    let connect = match std::net::TcpStream::connect(("127.0.0.1", 9)) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        other => other.map(drop),
    };
    Ok(vec![
        attempt("open a socket", socket),
        attempt("connect to an address", connect),
        attempt("run a program", std::process::Command::new("/bin/true").status().map(drop)),
        attempt("start a thread", std::thread::Builder::new().spawn(|| ()).map(drop)),
        attempt("read a file", std::fs::File::open("/etc/passwd").map(drop)),
        attempt("write a file", std::fs::File::create("/tmp/konnector-compiler").map(drop)),
        attempt("list a folder", std::fs::read_dir("/").map(drop)),
    ])
}
