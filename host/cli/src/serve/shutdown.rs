//! Signals: the first stops the server, the second skips the grace period of running jobs, the third exits at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::{Result, io};

/// By convention, 128 plus the number of SIGINT.
const EXIT_SIGINT: i32 = 130;

/// The signals that end a server.
pub struct ShutdownSignals {
    stop: CancellationToken,
    force: CancellationToken,
}

impl ShutdownSignals {
    /// Starts listening for signals.
    pub fn listen() -> Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).map_err(io("listening for signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(io("listening for signals"))?;
        let (stop, force) = (CancellationToken::new(), CancellationToken::new());
        let signals = Self { stop: stop.clone(), force: force.clone() };
        tokio::spawn(async move {
            first_signal(&mut terminate, &mut interrupt).await;
            stop.cancel();
            first_signal(&mut terminate, &mut interrupt).await;
            eprintln!("konnector: second signal: running jobs return to the queue at once");
            force.cancel();
            first_signal(&mut terminate, &mut interrupt).await;
            eprintln!("konnector: third signal: exiting at once; no accepted job is lost");
            std::process::exit(EXIT_SIGINT);
        });
        Ok(signals)
    }

    /// Returns the token that the first signal cancels.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns the token that the second signal cancels.
    pub fn force_token(&self) -> CancellationToken {
        self.force.clone()
    }
}

async fn first_signal(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
