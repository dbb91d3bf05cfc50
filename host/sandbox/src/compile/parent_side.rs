//! The parent's side: feeds the child, bounds its output, and derives the error from its exit.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::child_side::{CompilerArguments, EXIT_REJECTED};
use super::{CompileLimit, CompileLimits};
use crate::error::Error;
use konnector_egress::text;

/// Maximum number of bytes read from the child's standard error.
const MAX_STDERR: u64 = 16 << 10;
/// Maximum number of bytes of the standard error in an error message.
const MAX_ERROR_LENGTH: usize = 2 << 10;
/// Message of Rust's standard library before it aborts because memory is exhausted.
const OUT_OF_MEMORY_MESSAGE: &str = "memory allocation of";

/// Compiles in a child. The child is killed when this future is dropped.
pub(super) async fn compile(
    program: &Path,
    args: &[OsString],
    limits: CompileLimits,
    memory_reservation: u64,
    component: &[u8],
) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| Error::CompilerFailed(format!("cannot run {}: {error}", program.display()));
    let mut child = Command::new(program)
        .args(args)
        .args(CompilerArguments::new(limits, memory_reservation).to_args())
        // The server's environment may hold secrets, and a compiler does not need it.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    match tokio::time::timeout(limits.wall, run_child(&mut child, component, limits.code)).await {
        Ok(output) => interpret_output(output.map_err(failed)?, limits),
        Err(_) => {
            child.kill().await.map_err(failed)?;
            Err(Error::CompileLimit(CompileLimit::Wall(limits.wall)))
        }
    }
}

/// Output and status of a child that ended.
struct ChildOutput {
    status: ExitStatus,
    /// At most one byte more than allowed.
    code: Vec<u8>,
    stderr: String,
}

async fn run_child(child: &mut Child, component: &[u8], limit: u64) -> std::io::Result<ChildOutput> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A child that ended before it read everything reports the reason by its status.
            let _ = stdin.write_all(component).await;
        }
    };
    let (status, (), code, stderr) =
        tokio::join!(child.wait(), feed, read(stdout, limit.saturating_add(1)), read(stderr, MAX_STDERR));
    Ok(ChildOutput { status: status?, code: code?, stderr: String::from_utf8_lossy(&stderr?).into_owned() })
}

/// Reads at most `limit` bytes, then closes the pipe, which ends a child that writes more.
async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

fn interpret_output(
    ChildOutput { status, code, stderr }: ChildOutput,
    limits: CompileLimits,
) -> Result<Vec<u8>, Error> {
    if code.len() as u64 > limits.code {
        return Err(Error::CompileLimit(CompileLimit::Code(limits.code)));
    }
    if status.success() {
        return Ok(code);
    }
    // The output may contain names from the component.
    let stderr = text::truncate(text::sanitize(stderr.trim()), MAX_ERROR_LENGTH);
    let signal = status.signal().and_then(rustix::process::Signal::from_named_raw);
    Err(match (status.code(), signal) {
        (_, Some(rustix::process::Signal::XCPU)) => Error::CompileLimit(CompileLimit::Cpu(limits.cpu)),
        (_, Some(rustix::process::Signal::ABORT)) if stderr.contains(OUT_OF_MEMORY_MESSAGE) => {
            Error::CompileLimit(CompileLimit::Memory(limits.memory))
        }
        (Some(code), _) if code == i32::from(EXIT_REJECTED) => Error::Compile(stderr),
        _ if stderr.is_empty() => Error::CompilerFailed(status.to_string()),
        _ => Error::CompilerFailed(format!("{status}: {stderr}")),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Runs a shell script as the child in place of the compiler.
    async fn shell(script: &str, limits: CompileLimits, component: &[u8]) -> Result<Vec<u8>, Error> {
        compile(Path::new("/bin/sh"), &["-c".into(), script.into()], limits, 0, component).await
    }

    fn small_limits() -> CompileLimits {
        CompileLimits { wall: Duration::from_secs(20), code: 1_000, ..CompileLimits::default() }
    }

    #[tokio::test]
    async fn the_child_is_given_the_component_and_nothing_else() {
        assert_eq!(shell("/bin/cat", small_limits(), b"bytes").await.unwrap(), b"bytes");
        let environment = shell("/usr/bin/env", small_limits(), b"").await.unwrap();
        let environment = String::from_utf8(environment).unwrap();
        // Variables that a shell sets by itself.
        let foreign = environment
            .lines()
            .find(|line| !["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|name| line.starts_with(name)));
        assert_eq!(foreign, None);
    }

    #[tokio::test]
    async fn each_exit_has_its_error_message() {
        let rejected = shell("echo 'bad type' >&2; exit 1", small_limits(), b"").await.unwrap_err();
        insta::assert_snapshot!(rejected, @"the component cannot be compiled: bad type");
        let crashed = shell("exit 7", small_limits(), b"").await.unwrap_err();
        insta::assert_snapshot!(crashed, @"the compiler failed: exit status: 7");
        let many = shell("/usr/bin/head -c 1001 /dev/zero", small_limits(), b"").await.unwrap_err();
        insta::assert_snapshot!(many, @"compiling the component exceeds the limit of 1000 bytes of machine code; build it optimised and stripped, and split very large parts; a konnector should never come near this limit");
        let missing = compile(Path::new("/nowhere"), &[], small_limits(), 0, b"").await.unwrap_err();
        insta::assert_snapshot!(missing, @"the compiler failed: cannot run /nowhere: No such file or directory (os error 2)");
    }

    #[tokio::test]
    async fn a_child_that_takes_too_long_is_killed() {
        let limits = CompileLimits { wall: Duration::from_millis(200), ..small_limits() };
        let started = std::time::Instant::now();
        // The child neither reads its input nor ends.
        let error = shell("exec /bin/sleep 600", limits, &[0; 1 << 20]).await.unwrap_err();
        assert!(matches!(error, Error::CompileLimit(CompileLimit::Wall(_))), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_child_with_endless_output_is_killed() {
        let error = shell("exec /bin/cat /dev/zero", small_limits(), b"").await.unwrap_err();
        assert!(matches!(error, Error::CompileLimit(CompileLimit::Code(1_000))), "{error}");
    }
}
