//! Signals: the first asks the server to stop, the second ends it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::{Result, io};

/// By convention 128 and the number of the signal, SIGINT.
const INTERRUPTED: i32 = 130;

/// The signals that end a server.
pub struct Signals(CancellationToken);

impl Signals {
    /// Listens from now on.
    pub fn listen() -> Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).map_err(io("listening to signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(io("listening to signals"))?;
        let stop = CancellationToken::new();
        let token = stop.clone();
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            token.cancel();
            either(&mut terminate, &mut interrupt).await;
            eprintln!("konnector: a second signal, ending at once; nothing that was accepted is lost");
            std::process::exit(INTERRUPTED);
        });
        Ok(Self(stop))
    }

    /// Cancelled by the first signal.
    pub fn stop_token(&self) -> CancellationToken {
        self.0.clone()
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
