//! The host functions: one file for each interface of the contract. They check arguments, keep the budget, count for the receipt, mask
//! texts, answer `cancelled` at once when the run is cancelled, and leave the rest to the capabilities.

mod account;
mod argument;
mod documents;
mod download;
pub(crate) mod files;
mod handles;
mod http;
mod json;
mod log;
mod own_api;
mod progress;
mod promise;
mod reveal;
mod secrets;
pub(crate) mod wasi_http;

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::beside::Beside;
use crate::bindings::konnector::host::types as wit;
use crate::capability::{Capabilities, Error, Locator, Quota, Written};
use crate::clock::Clock;
use crate::filesystem::FileSystem;
use crate::logs::Logs;
use crate::memory::{Limiter, RunMemory, SharedMemory};
use crate::meter::Meter;
use konnector_egress::SecretTable;

use argument::brief;
pub(crate) use files::Slot;
pub(crate) use handles::Handles;
use json::{json, object, weight as json_weight};

/// What the store of one run holds.
pub(crate) struct Host {
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) handles: Handles,
    pub(crate) limiter: Limiter,
    pub(crate) door: wasi_http::Door,
    pub(crate) context: Arc<Context>,
    pub(crate) filesystem: FileSystem,
}

/// What host functions work with; whoever watches the run has it too.
pub(crate) struct Context {
    pub(crate) capabilities: Capabilities,
    pub(crate) cancel: CancellationToken,
    pub(crate) clock: Arc<Clock>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) logs: Logs,
    pub(crate) beside: Arc<Beside>,
    pub(crate) memory: Arc<RunMemory>,
    uploads: files::Held,
    contents: files::Held,
    questions: progress::Questions,
}

impl Context {
    pub(crate) fn new(capabilities: Capabilities, cancel: CancellationToken, shared: Arc<SharedMemory>) -> Self {
        let limits = &capabilities.limits;
        let memory = RunMemory::new(limits.memory, shared);
        let clock = Arc::new(Clock::start(limits.wall));
        let meter = Arc::new(Meter::default());
        let secrets = Arc::clone(capabilities.http.secrets());
        let logs = Logs::new(Arc::clone(&capabilities.log), secrets, Arc::clone(&clock), Arc::clone(&meter), limits);
        Self {
            capabilities,
            cancel,
            clock,
            meter,
            logs,
            beside: Arc::default(),
            memory,
            uploads: files::Held::default(),
            contents: files::Held::default(),
            questions: progress::Questions::default(),
        }
    }

    fn secrets(&self) -> &SecretTable {
        self.capabilities.http.secrets()
    }

    /// Does work beside the guest; `None` when the run is cancelled first.
    async fn beside_guest<T: Send + 'static>(&self, work: BoxFuture<'static, T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            done = self.beside.done(work) => done,
        }
    }

    /// Waits for a capability, unless the run is cancelled first.
    async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::Cancelled),
            result = work => result,
        }
    }
}

/// Why the host ends a run from inside a host function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Halt {
    #[error("the lease is lost")]
    LeaseLost,
}

/// What a host function answers: a result for the guest, or the end of the run.
type Answer<T> = wasmtime::Result<Result<T, wit::Error>>;

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: self.handles.table(&mut self.table) }
    }
}

/// Hands a capability's answer to the guest. A lost lease is not an answer: the guest must not do one more step.
fn answer<T>(result: Result<T, Error>) -> Answer<T> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(error_for_guest(error)?)),
    }
}

fn error_for_guest(error: Error) -> Result<wit::Error, Halt> {
    Ok(match error {
        Error::Denied(text) => wit::Error::Denied(brief(text)),
        Error::NotFound(text) => wit::Error::NotFound(brief(text)),
        Error::Conflict(text) => wit::Error::Conflict(brief(text)),
        Error::TooLarge(limit) => wit::Error::TooLarge(limit),
        Error::QuotaExceeded(Quota::Storage) => wit::Error::StorageFull,
        Error::QuotaExceeded(_) => wit::Error::LimitReached(error.to_string()),
        Error::Invalid(text) => wit::Error::Invalid(brief(text)),
        Error::Unattended => wit::Error::Unattended,
        Error::Cancelled => wit::Error::Cancelled,
        Error::LeaseLost => return Err(Halt::LeaseLost),
        Error::Internal(text) => wit::Error::Internal(text),
    })
}

impl From<wit::Locator> for Locator {
    fn from(locator: wit::Locator) -> Self {
        match locator {
            wit::Locator::Id(id) => Self::Id(id),
            wit::Locator::Key(key) => Self::Key(key),
        }
    }
}

impl From<Written> for wit::Outcome {
    fn from(written: Written) -> Self {
        match written {
            Written::Created => Self::Created,
            Written::Updated => Self::Updated,
            Written::Unchanged => Self::Unchanged,
        }
    }
}

/// Items of one `save`, keys of one `lookup`: what one call may name.
const BATCH: usize = 500;
/// Documents or entries of one page.
const PAGE: u32 = 1_000;

fn check_batch(argument: &str, length: usize) -> Result<(), Error> {
    if length > BATCH {
        return Err(Error::Invalid(format!("{argument}: at most {BATCH} at a time, got {length}")));
    }
    Ok(())
}

fn check_limit(limit: u32) -> Result<(), Error> {
    if !(1..=PAGE).contains(&limit) {
        return Err(Error::Invalid(format!("limit: expected 1 to {PAGE}, got {limit}")));
    }
    Ok(())
}

impl crate::bindings::konnector::host::types::Host for Host {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_lease_ends_the_run() {
        let error = answer::<()>(Err(Error::LeaseLost)).unwrap_err();
        assert_eq!(error.downcast_ref::<Halt>(), Some(&Halt::LeaseLost));
    }
}
