//! Outcomes of runs.

use std::time::Duration;

use wasmtime::Trap;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::FieldMapError;

use crate::bindings::exports::konnector::host::run as wit;
use crate::capability::QuotaKind;
use crate::clock::CpuExhausted;
use crate::host::LeaseLost;
use crate::job::{Failure, Problem, Report, UserAction};
use crate::limits::Limits;
use crate::logs::RunLog;
use crate::meter::Meter;
use crate::protocol::RunStatus;
use crate::receipt::Receipt;
use konnector_egress::text;
use konnector_egress::yield_budget::YieldBudget;

/// Maximum size of one string in a failure or a problem, in bytes.
const MAX_TEXT_LENGTH: usize = 2 << 10;
/// Maximum number of problems in one report; a last one counts the rest.
const MAX_PROBLEMS: usize = 1_000;

/// Result of a finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOutput {
    /// How the run ended.
    pub outcome: Outcome,
    /// Resource usage and effects of the run, for every outcome.
    pub receipt: Receipt,
    /// The first quota for which a write to a file failed. Most programs report that as an I/O error.
    pub file_quota: Option<QuotaKind>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The konnector finished its work.
    Completed(Report),
    /// The konnector reported why it failed.
    Failed(Failure),
    /// The host ended the run, or the guest crashed.
    Aborted(AbortReason),
}

/// Why a run ended without a result from the konnector. The strings are sentences for the user interface and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AbortReason {
    /// The run exceeded its time limit.
    #[error("the run exceeded its time limit of {} seconds", .0.as_secs_f64())]
    Deadline(Duration),
    /// The run exceeded its limit of CPU time.
    #[error("the run exceeded its limit of {} seconds of CPU time", .0.as_secs_f64())]
    CpuLimit(Duration),
    /// The guest requested more memory than its limit allows, and could not continue without it.
    #[error("the run needs more memory than its limit of {}", text::ByteSize(*.0))]
    MemoryLimit(u64),
    /// The guest trapped; the string says how.
    #[error("{0}")]
    Trap(String),
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// Another worker now holds the job.
    #[error("the run was abandoned because another worker restarted the job")]
    LeaseLost,
    /// The component could not be started.
    #[error("the component could not be started: {0}")]
    StartFailed(String),
    /// The host is at fault. The server's log has the details.
    #[error("the run was stopped by a server error: {0}")]
    HostFault(String),
}

/// Result of the guest's task.
pub(crate) enum GuestExit {
    Returned(Result<wit::Report, wit::Failure>),
    /// A command's `main` ended; an error is a nonzero exit status.
    Exited(Result<(), ()>),
    Trapped(wasmtime::Error),
    NotStarted(wasmtime::Error),
}

/// Derives the outcome of a run and its message.
pub(crate) struct OutcomeClassifier<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) meter: &'a Meter,
    pub(crate) logs: &'a RunLog,
    pub(crate) cancelled: bool,
    pub(crate) is_command: bool,
}

impl OutcomeClassifier<'_> {
    pub(crate) async fn classify(&self, end: Result<GuestExit, CpuExhausted>) -> Outcome {
        match end {
            Err(CpuExhausted) => Outcome::Aborted(AbortReason::CpuLimit(self.limits.cpu)),
            // A run that ends by itself while it is being cancelled keeps its own outcome, because a rejected password
            // must not get lost.
            Ok(GuestExit::Returned(Err(wit::Failure::Cancelled))) if self.cancelled => {
                Outcome::Aborted(AbortReason::Cancelled)
            }
            Ok(GuestExit::Returned(Ok(report))) => Outcome::Completed(self.report(report).await),
            Ok(GuestExit::Returned(Err(failure))) => Outcome::Failed(self.failure(failure)),
            Ok(GuestExit::Exited(Ok(()))) => Outcome::Completed(Report::default()),
            Ok(GuestExit::Exited(Err(()))) => exit_status_failure(1),
            Ok(GuestExit::Trapped(error)) if self.is_command && error.is::<I32Exit>() => {
                match error.downcast_ref::<I32Exit>() {
                    Some(I32Exit(0)) | None => Outcome::Completed(Report::default()),
                    Some(I32Exit(status)) => exit_status_failure(*status),
                }
            }
            Ok(GuestExit::Trapped(error)) => Outcome::Aborted(self.abort_reason(&error)),
            Ok(GuestExit::NotStarted(error)) if self.meter.is_memory_denied() => {
                tracing::debug!(?error, "the component's memory does not fit the limit");
                Outcome::Aborted(AbortReason::MemoryLimit(self.limits.memory))
            }
            Ok(GuestExit::NotStarted(error)) => Outcome::Aborted(AbortReason::StartFailed(format!("{error:#}"))),
        }
    }

    async fn report(&self, report: wit::Report) -> Report {
        let problem_count = report.problems.len() as u64;
        let more = report.problems.len().saturating_sub(MAX_PROBLEMS);
        let mut yield_budget = YieldBudget::default();
        let mut problems = Vec::with_capacity(report.problems.len().min(MAX_PROBLEMS + 1));
        for wit::Problem { item, message } in report.problems.into_iter().take(MAX_PROBLEMS) {
            problems.push(Problem { item: self.safe_text(&item), message: self.safe_text(&message) });
            yield_budget.consume(item.len() + message.len()).await;
        }
        if more > 0 {
            problems.push(Problem { item: String::new(), message: format!("{more} more problems") });
        }
        Report { problems, problem_count }
    }

    fn failure(&self, failure: wit::Failure) -> Failure {
        match failure {
            wit::Failure::BadCredentials(message) => Failure::BadCredentials(self.safe_text(&message)),
            wit::Failure::MissingCredentials(message) => Failure::MissingCredentials(self.safe_text(&message)),
            wit::Failure::TooManyAttempts(message) => Failure::TooManyAttempts(self.safe_text(&message)),
            wit::Failure::UserAction((action, message)) => {
                Failure::UserAction(to_user_action(action), self.safe_text(&message))
            }
            wit::Failure::CodeMissing(message) => Failure::CodeMissing(self.safe_text(&message)),
            wit::Failure::CodeRejected(message) => Failure::CodeRejected(self.safe_text(&message)),
            wit::Failure::ChallengeUnsupported(message) => Failure::ChallengeUnsupported(self.safe_text(&message)),
            wit::Failure::CaptchaFailed(message) => Failure::CaptchaFailed(self.safe_text(&message)),
            wit::Failure::VendorDown(message) => Failure::VendorDown(self.safe_text(&message)),
            wit::Failure::VendorMaintenance(message) => Failure::VendorMaintenance(self.safe_text(&message)),
            wit::Failure::RateLimited(seconds) => Failure::RateLimited(seconds),
            wit::Failure::VendorChanged(message) => Failure::VendorChanged(self.safe_text(&message)),
            wit::Failure::Denied(message) => Failure::Denied(self.safe_text(&message)),
            wit::Failure::StorageFull(message) => Failure::StorageFull(self.safe_text(&message)),
            wit::Failure::LimitReached(message) => Failure::LimitReached(self.safe_text(&message)),
            wit::Failure::Cancelled => Failure::Cancelled,
            wit::Failure::HostFailed(message) => Failure::HostFailed(self.safe_text(&message)),
            wit::Failure::Bug(message) => Failure::Bug(self.safe_text(&message)),
        }
    }

    fn safe_text(&self, text: &str) -> String {
        self.logs.safe_text(text, MAX_TEXT_LENGTH)
    }

    fn abort_reason(&self, error: &wasmtime::Error) -> AbortReason {
        tracing::debug!(?error, "a konnector trapped");
        if let Some(halt) = error.downcast_ref::<LeaseLost>() {
            return match halt {
                LeaseLost::LeaseLost => AbortReason::LeaseLost,
            };
        }
        // The exit code is not reported, because a guest's C library uses the form of WASI's exit that only
        // distinguishes success and failure.
        if error.is::<I32Exit>() {
            return AbortReason::Trap(
                "the konnector called `exit` instead of returning a result; return a failure that says what is wrong"
                    .to_owned(),
            );
        }
        // After that, every use of a handle fails, each in its own way.
        if self.meter.is_handles_denied() {
            return AbortReason::Trap(format!(
                "the konnector's open resources (requests, headers, bodies, streams) do not fit into its {} of memory; \
                 drop those that are no longer needed",
                text::ByteSize(self.limits.memory)
            ));
        }
        let panic = self.logs.panic_message();
        match error.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => match panic {
                Some(message) => AbortReason::Trap(format!("the konnector panicked: {message}")),
                // An allocation that fails aborts without a panic.
                None if self.meter.is_memory_denied() => AbortReason::MemoryLimit(self.limits.memory),
                None => AbortReason::Trap("the konnector aborted; standard error in its log may say why".to_owned()),
            },
            Some(Trap::StackOverflow) => AbortReason::Trap(
                "the konnector overflowed its stack of 512 KiB: a function recurses too deeply, or keeps too much data \
                 on the stack"
                    .to_owned(),
            ),
            // The guest's own stack, which grows towards address 0, holds values that do not fit into registers.
            Some(Trap::MemoryOutOfBounds) => AbortReason::Trap(
                "the konnector accessed memory out of bounds; the most common cause is a function that recurses too \
                 deeply"
                    .to_owned(),
            ),
            Some(trap) => AbortReason::Trap(format!("the konnector trapped: {}", trap_reason(*trap))),
            None => self.host_error_reason(error),
        }
    }

    /// Classifies errors of wasmtime and its WASI implementation that are not WebAssembly traps.
    fn host_error_reason(&self, error: &wasmtime::Error) -> AbortReason {
        let Limits { handles, host_call_bytes, .. } = self.limits;
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return AbortReason::Trap(format!(
                "the konnector has more than {handles} resources (files, streams, timers, uploads) open at one time; \
                 drop those that are no longer needed"
            ));
        }
        if let Some(FieldMapError::TotalSizeTooBig) = error.downcast_ref() {
            return AbortReason::Trap(
                "the konnector put more than 64 KiB of headers into one request; send less, or move it to the body"
                    .to_owned(),
            );
        }
        if is_hostcall_fuel_exhausted(error) {
            return AbortReason::Trap(format!(
                "the konnector passed more than {} in one call; save documents in smaller batches, write files in \
                 parts of at most 1 MiB",
                text::ByteSize(*host_call_bytes as u64)
            ));
        }
        AbortReason::Trap(format!("the konnector was stopped: {}", self.safe_text(&error.root_cause().to_string())))
    }
}

/// Returns whether the guest passed more in one call than
/// [`Store::set_hostcall_fuel`](wasmtime::Store::set_hostcall_fuel) allows. The error type is private to wasmtime, so
/// it is recognised by its name; the test `one_large_call` of the sandbox detects a change.
fn is_hostcall_fuel_exhausted(error: &wasmtime::Error) -> bool {
    format!("{:?}", error.root_cause()) == "HostcallFuelExhausted"
}

/// A command's reported status takes precedence over the host's outcome, unless another worker has the job (Cozy API,
/// konnector run-time contract, §6.3: a critical line hides a later timeout).
pub(crate) fn with_reported_error(status: &RunStatus, outcome: Outcome) -> Outcome {
    match (status.error(), outcome) {
        (_, outcome @ Outcome::Aborted(AbortReason::LeaseLost | AbortReason::Cancelled)) => outcome,
        (Some(error), _) => Outcome::Failed(Failure::Custom { error: error.to_owned(), no_retry: status.no_retry() }),
        (None, outcome) => outcome,
    }
}

/// Uses Cozy's wording, which its clients may know.
fn exit_status_failure(status: i32) -> Outcome {
    Outcome::Failed(Failure::Custom { error: format!("exit status {status}"), no_retry: false })
}

fn trap_reason(trap: Trap) -> String {
    let text = trap.to_string();
    text.strip_prefix("wasm trap: ").map(str::to_owned).unwrap_or(text)
}

fn to_user_action(action: wit::Action) -> UserAction {
    match action {
        wit::Action::AcceptTerms => UserAction::AcceptTerms,
        wit::Action::ChangePassword => UserAction::ChangePassword,
        wit::Action::StrongAuthentication => UserAction::StrongAuthentication,
        wit::Action::WebAuthentication => UserAction::WebAuthentication,
        wit::Action::Reconnect => UserAction::Reconnect,
        wit::Action::AccountRemoved => UserAction::AccountRemoved,
        wit::Action::PermissionsChanged => UserAction::PermissionsChanged,
        wit::Action::Unspecified => UserAction::Unspecified,
    }
}
