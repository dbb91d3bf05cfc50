//! Ends the process if a write hangs, because sled has deadlocked under load before, and a disk may never respond.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// No write takes this long on a working disk.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Watches one thread. It sleeps while there are no writes.
pub(super) struct Watchdog(Sender<Signal>);

enum Signal {
    Begin,
    End,
}

impl Watchdog {
    /// Starts the watchdog. It calls `give_up` if a write takes longer than `limit`.
    pub(super) fn start(limit: Duration, give_up: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (signal, signals) = mpsc::channel();
        thread::Builder::new().name("store-watchdog".to_owned()).spawn(move || {
            while let Ok(Signal::Begin) = signals.recv() {
                match signals.recv_timeout(limit) {
                    Ok(_) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        give_up();
                        // If that did not end the process, wait for the late end of this write.
                        if signals.recv().is_err() {
                            return;
                        }
                    }
                }
            }
        })?;
        Ok(Self(signal))
    }

    /// Runs a write.
    pub(super) fn watch<T>(&self, write: impl FnOnce() -> T) -> T {
        // If the watchdog thread has ended, no one watches, but the write can still run.
        let _ = self.0.send(Signal::Begin);
        let result = write();
        let _ = self.0.send(Signal::End);
        result
    }
}

/// Aborts the process. Every acknowledged write is durable, so a restart is better than waiting.
pub(super) fn abort_process() {
    let limit = WRITE_TIMEOUT.as_secs();
    tracing::error!(limit, "a write to the database hangs");
    eprintln!(
        "konnector: a write to the disk takes longer than {limit} s; exiting, \
         so that a restart can read the actual state"
    );
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_that_hangs_is_reported() {
        let (report, reports) = mpsc::channel();
        let watchdog = Watchdog::start(Duration::from_millis(200), move || report.send(()).unwrap()).unwrap();
        for _ in 0..100 {
            watchdog.watch(|| ());
        }
        thread::sleep(Duration::from_millis(400));
        assert!(reports.try_recv().is_err(), "neither quick writes nor idle times");
        watchdog.watch(|| thread::sleep(Duration::from_millis(400)));
        assert!(reports.try_recv().is_ok());
        watchdog.watch(|| ());
        assert!(reports.try_recv().is_err());
    }
}
