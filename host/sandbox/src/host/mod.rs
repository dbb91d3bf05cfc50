//! The host functions, in one file for each interface of the contract. They check arguments, enforce the budget, count
//! for the receipt, mask strings, return `cancelled` immediately when the run is cancelled, and leave the rest to the
//! capabilities.

mod account;
mod argument;
mod content_type_check;
mod documents;
mod download;
pub(crate) mod files;
mod handles;
mod http;
mod internal_api;
mod json;
mod log;
mod progress;
mod reveal;
mod secrets;
pub(crate) mod wasi_http;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::konnector::host::types as wit;
use crate::capability::{Capabilities, CapabilityError, Level, Locator, QuotaKind, SaveOutcome};
use crate::clock::Clock;
use crate::filesystem::GuestFilesystem;
use crate::logs::RunLog;
use crate::memory::{MemoryLimiter, MemoryPool, RunMemory};
use crate::meter::Meter;
use crate::side_tasks::SideTasks;
use konnector_egress::SecretTable;

use argument::truncate_error;
pub(crate) use files::HandlePermit;
pub(crate) use handles::HandleCharge;
use json::{parse_json, parse_object, weight as json_weight};

/// Data of the store of one run.
pub(crate) struct Host {
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) handles: HandleCharge,
    pub(crate) limiter: MemoryLimiter,
    pub(crate) wasi_http: wasi_http::WasiHttpState,
    pub(crate) context: Arc<Context>,
    pub(crate) filesystem: GuestFilesystem,
}

/// Context of the host functions, shared with the run's supervisor.
pub(crate) struct Context {
    pub(crate) capabilities: Capabilities,
    pub(crate) cancel: CancellationToken,
    pub(crate) clock: Arc<Clock>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) logs: RunLog,
    pub(crate) side_tasks: Arc<SideTasks>,
    pub(crate) memory: Arc<RunMemory>,
    uploads: files::HandleCounter,
    contents: files::HandleCounter,
    questions: progress::Questions,
    /// The first quota for which a write below `/tmp` or `/files` failed.
    file_quota: OnceLock<QuotaKind>,
}

impl Context {
    pub(crate) fn new(capabilities: Capabilities, cancel: CancellationToken, shared: Arc<MemoryPool>) -> Self {
        let limits = &capabilities.limits;
        let memory = RunMemory::new(limits.memory, shared);
        let clock = Arc::new(Clock::start(limits.wall));
        let meter = Arc::new(Meter::default());
        let secrets = Arc::clone(capabilities.http.secrets());
        let logs = RunLog::new(Arc::clone(&capabilities.log), secrets, Arc::clone(&clock), Arc::clone(&meter), limits);
        Self {
            capabilities,
            cancel,
            clock,
            meter,
            logs,
            side_tasks: Arc::default(),
            memory,
            uploads: files::HandleCounter::default(),
            contents: files::HandleCounter::default(),
            questions: progress::Questions::default(),
            file_quota: OnceLock::new(),
        }
    }

    /// Records and logs that a write below a directory failed because of a quota. Many standard libraries report every
    /// failure of a stream to their program as the same I/O error.
    pub(crate) fn report_file_quota(&self, directory: &str, quota: QuotaKind) {
        self.logs.write_line(Level::Warn, &format!("{directory}: {quota}"));
        self.file_quota.get_or_init(|| quota);
    }

    pub(crate) fn file_quota(&self) -> Option<QuotaKind> {
        self.file_quota.get().copied()
    }

    fn secrets(&self) -> &SecretTable {
        self.capabilities.http.secrets()
    }

    /// Runs work alongside the guest; returns `None` if the run is cancelled first.
    async fn run_side_task<T: Send + 'static>(&self, work: BoxFuture<'static, T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            output = self.side_tasks.run(work) => output,
        }
    }

    /// Waits for a capability, unless the run is cancelled first.
    async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, CapabilityError>>,
    ) -> Result<T, CapabilityError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(CapabilityError::Cancelled),
            result = work => result,
        }
    }
}

/// Why the host ends a run from inside a host function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseLost {
    #[error("the lease was lost")]
    LeaseLost,
}

/// Result of a host function, which is a result for the guest or the end of the run.
type HostResult<T> = wasmtime::Result<Result<T, wit::Error>>;

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: self.handles.table(&mut self.table) }
    }
}

/// Converts the result of a capability for the guest. A lost lease traps instead, because the guest must not execute
/// another step.
fn to_host_result<T>(result: Result<T, CapabilityError>) -> HostResult<T> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(to_guest_error(error)?)),
    }
}

fn to_guest_error(error: CapabilityError) -> Result<wit::Error, LeaseLost> {
    Ok(match error {
        CapabilityError::Denied(text) => wit::Error::Denied(truncate_error(text)),
        CapabilityError::NotFound(text) => wit::Error::NotFound(truncate_error(text)),
        CapabilityError::Conflict(text) => wit::Error::Conflict(truncate_error(text)),
        CapabilityError::TooLarge(limit) => wit::Error::TooLarge(limit),
        CapabilityError::QuotaExceeded(QuotaKind::Storage) => wit::Error::StorageFull,
        CapabilityError::QuotaExceeded(_) => wit::Error::LimitReached(error.to_string()),
        CapabilityError::Invalid(text) => wit::Error::Invalid(truncate_error(text)),
        CapabilityError::Unattended => wit::Error::Unattended,
        CapabilityError::Cancelled => wit::Error::Cancelled,
        CapabilityError::LeaseLost => return Err(LeaseLost::LeaseLost),
        CapabilityError::Internal(text) => wit::Error::Internal(text),
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

impl From<SaveOutcome> for wit::SaveOutcome {
    fn from(written: SaveOutcome) -> Self {
        match written {
            SaveOutcome::Created => Self::Created,
            SaveOutcome::Updated => Self::Updated,
            SaveOutcome::Unchanged => Self::Unchanged,
        }
    }
}

/// Maximum number of entries of one call, such as the items of `save` or the keys of `lookup`.
const MAX_BATCH_SIZE: usize = 500;
/// Maximum number of documents or entries of one page.
const MAX_PAGE_SIZE: u32 = 1_000;

fn check_batch(argument: &str, length: usize) -> Result<(), CapabilityError> {
    if length > MAX_BATCH_SIZE {
        return Err(CapabilityError::Invalid(format!(
            "{argument}: got {length} items, but at most {MAX_BATCH_SIZE} are allowed at a time"
        )));
    }
    Ok(())
}

fn check_limit(limit: u32) -> Result<(), CapabilityError> {
    if !(1..=MAX_PAGE_SIZE).contains(&limit) {
        return Err(CapabilityError::Invalid(format!("limit: expected 1 to {MAX_PAGE_SIZE}, got {limit}")));
    }
    Ok(())
}

impl crate::bindings::konnector::host::types::Host for Host {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_lease_ends_the_run() {
        let error = to_host_result::<()>(Err(CapabilityError::LeaseLost)).unwrap_err();
        assert_eq!(error.downcast_ref::<LeaseLost>(), Some(&LeaseLost::LeaseLost));
    }
}
