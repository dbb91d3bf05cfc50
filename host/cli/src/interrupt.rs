//! Termination by signals of commands that must clean up, or that tell the user what continues.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Result, io};

/// Runs `work` until the first termination signal, then drops it with everything it holds, including drafts of files.
pub async fn run_until_signal(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    tokio::select! {
        // First, so that no signal is missed once the work has begun.
        biased;
        code = wait_for_signal() => code,
        ended = work => ended,
    }
}

/// Waits for the first termination signal, which no longer ends the process by itself; returns the exit code for it.
pub async fn wait_for_signal() -> Result<ExitCode> {
    let listen = |kind| signal(kind).map_err(io("listening for signals"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let kind = tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hangup.recv() => SignalKind::hangup(),
    };
    // By convention, 128 plus the number of the signal.
    Ok(u8::try_from(128 + kind.as_raw_value()).map_or(ExitCode::FAILURE, ExitCode::from))
}
