//! Signals: the first asks the server to stop, the second to give running jobs no more time, the third ends it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::{Result, io};

/// By convention 128 and the number of the signal, SIGINT.
const EXIT_SIGINT: i32 = 130;

/// The signals that end a server.
pub struct ShutdownSignals {
    stop: CancellationToken,
    force: CancellationToken,
}

impl ShutdownSignals {
    /// Starts listening for signals.
    pub fn listen() -> Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).map_err(io("listening to signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(io("listening to signals"))?;
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let signals = Self { stop: stop.clone(), force: hurry.clone() };
        tokio::spawn(async move {
            first_signal(&mut terminate, &mut interrupt).await;
            stop.cancel();
            first_signal(&mut terminate, &mut interrupt).await;
            eprintln!("konnector: a second signal, running jobs go back to the queue at once");
            hurry.cancel();
            first_signal(&mut terminate, &mut interrupt).await;
            eprintln!("konnector: a third signal, ending at once; nothing that was accepted is lost");
            std::process::exit(EXIT_SIGINT);
        });
        Ok(signals)
    }

    /// Cancelled by the first signal.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Cancelled by the second signal.
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
