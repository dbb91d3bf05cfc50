//! Termination by signals of commands that must clean up.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Result, io};

/// Runs `work` until the first termination signal, then drops it with everything it holds, including drafts of files.
pub async fn run_until_signal(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let listen = |kind| signal(kind).map_err(io("listening for signals"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let kind = tokio::select! {
        ended = work => return ended,
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hangup.recv() => SignalKind::hangup(),
    };
    // By convention, 128 plus the number of the signal.
    Ok(u8::try_from(128 + kind.as_raw_value()).map_or(ExitCode::FAILURE, ExitCode::from))
}
