//! Driver of the timers and sockets of guests.

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::Error;

/// A runtime for the timers and sockets of guests, and for the tasks of HTTP connections. One thread is enough, because
/// no guest or other computation runs on it.
pub(super) struct IoRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl IoRuntime {
    pub(super) fn start() -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("konnector-io")
            .enable_all()
            .build()
            .map_err(|error| Error::Engine(format!("cannot start the thread for timers and sockets: {error}")))?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for IoRuntime {
    fn drop(&mut self) {
        // The last thread for guests may end inside another runtime, where dropping a runtime that blocks panics.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
