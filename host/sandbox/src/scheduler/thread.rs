//! A thread that runs guests.

use std::sync::Arc;

use super::io::IoRuntime;
use super::run_queue::RunQueue;
use super::slice;
use crate::error::Error;

/// Increment of the nice value of guests over that of the process. At 5, a guest gets a quarter of a processor for
/// which a thread of ordinary priority competes. That is enough to make progress under load, and little enough not to
/// disturb requests, the schedule and leases.
#[cfg(target_os = "linux")]
const NICE_INCREMENT: i32 = 5;

pub(super) fn start(number: usize, shared: Arc<RunQueue>, io: Arc<IoRuntime>) -> Result<(), Error> {
    std::thread::Builder::new()
        .name(format!("konnector-guest-{number}"))
        .spawn(move || {
            lower_priority();
            run(number, &shared, &io);
        })
        .map(drop)
        .map_err(|error| Error::Engine(format!("cannot start a thread for guests: {error}")))
}

fn run(number: usize, shared: &RunQueue, io: &IoRuntime) {
    let mut ended = None;
    while let Some((runtime, runnable)) = shared.next_task(number, ended) {
        slice::begin(Arc::clone(shared.demand()), runtime);
        // In tokio's context, in which timers and sockets find their driver, and with its budget for one poll. Even a
        // task whose sockets are always ready yields to others. The task stores its panic for its awaiter.
        io.handle().block_on(async move { runnable.run() });
        ended = Some(slice::end().unwrap_or(runtime));
    }
}

/// On Linux, a priority belongs to a thread, elsewhere to the whole process.
#[cfg(target_os = "linux")]
fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICE_INCREMENT) {
        tracing::warn!(%error, "cannot lower the priority of a thread for guests");
    }
}

#[cfg(not(target_os = "linux"))]
const fn lower_priority() {}
